// Section 1: a digit drawn from noise, with all steps kept.

import { TRIP } from "./lesson_model.js";
import { find, Latest, picture } from "./lesson_view.js";
import { attempt, isCalm } from "./shell.js";

export async function showWhat({ model, address, say, tried, shown }) {
  const slider = find("what-at"),
    jobs = new Latest();
  let states = [],
    drawn;

  function show(at) {
    const { x, x0Hat } = states[at];
    slider.value = at;
    slider.setAttribute("aria-valuetext", `step ${at} of ${TRIP}`);
    find("what-where").textContent = `${at} of ${TRIP}`;
    picture(find("what-noisy"), x, at ? `The picture after ${at} of ${TRIP} steps` : "Noise");
    picture(find("what-guess"), x0Hat, at ? `What the network took it for at step ${at}` : "Not asked yet");
  }

  async function drawDigit({ digit, seed }) {
    const signal = jobs.next();
    drawn = `${digit} ${seed}`;
    const x = await model.start(seed);
    signal.throwIfAborted();
    states = [{ x, x0Hat: null }];
    show(0);
    for await (const part of model.walk({ x, label: digit, seed })) {
      signal.throwIfAborted();
      states.push(part);
      shown.what = part;
      if (!isCalm() || part.done === TRIP) show(part.done);
    }
  }

  const again = (values = address.values) => attempt(() => drawDigit(values));
  slider.addEventListener("input", () => {
    show(Math.min(Number(slider.value), states.length - 1));
    tried("what");
  });
  find("what-form").addEventListener("submit", async () => {
    tried("what");
    await again();
    say(`drawn: a ${address.values.digit} from noise ${address.values.seed}`);
  });
  find("what-other").addEventListener("click", () => {
    tried("what");
    address.set({ seed: (address.values.seed + 1) % 2 ** 32 });
  });
  address.onChange((values) => drawn === `${values.digit} ${values.seed}` || again(values));
  await again();
}
