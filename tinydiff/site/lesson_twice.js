// Section 4, further: each sampler twice from one start, with other noise on the way.

import { find, picture } from "./lesson_view.js";
import { attempt } from "./shell.js";

const SAMPLERS = ["ddim", "ddim", "ddpm", "ddpm"];

export function showTwice({ model, address, say, tried, shown }) {
  find("twice-draw").addEventListener("click", ({ target }) =>
    attempt(async () => {
      target.disabled = true;
      tried("reverse");
      const { digit, seed } = address.values,
        x = await model.start(seed);
      const drawn = [];
      for (const [i, sampler] of SAMPLERS.entries())
        for await (const part of model.walk({ x, label: digit, sampler, seed: seed + 1 + i })) {
          picture(find(`twice-${i}`), part.x, `A ${digit} by ${sampler}, time ${1 + (i % 2)}`);
          drawn[i] = part.x;
        }
      const words = ["DDIM", "DDPM"].map((name, k) => `${name}: ${difference(drawn[2 * k], drawn[2 * k + 1])}`);
      find("twice-words").textContent = `${words.join(". ")}.`;
      shown.twice = drawn;
      say("drawn twice by each");
    }).finally(() => (target.disabled = false)),
  );
}

function difference(a, b) {
  const other = a.filter((value, i) => value !== b[i]).length;
  return other ? `${other} of ${a.length} pixels differ` : "not one pixel differs, to the last bit";
}
