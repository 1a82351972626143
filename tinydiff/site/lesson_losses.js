// Section 4, further: one guess said in three ways, and what its errors count at each noise level.

import { Chart, legend, line } from "./charts.js";
import { digits, find } from "./lesson_view.js";
import { attempt } from "./shell.js";
import { decibel } from "./states.js";

const LEVELS = 20; // of noise
const KINDS = { eps: ["noise ε", "c1"], x0: ["picture x₀", "c2"], v: ["velocity v", "c0"] };

export function showLosses({ model, address, say, tried, shown }) {
  const { snr_db, T } = model.data.schedule;
  const chart = new Chart(find("chart-losses"), {
    x: { title: "noise step t", from: 0, to: T },
    y: { title: "mean squared error", log: true },
    ratio: matchMedia("(max-width: 40rem)").matches ? 0.8 : 0.5,
  });
  chart.show([], "Nothing measured yet.");
  find("losses-measure").addEventListener("click", ({ target }) =>
    attempt(async () => {
      target.disabled = true;
      tried("reverse");
      const rows = await measure(model, address.values.seed, (part) => (find("losses-progress").value = part));
      const layers = Object.entries(KINDS).map(
        ([kind, [name, colour]]) =>
        line(rows.map((row) => [row.step + 1, row[kind]]), { name, colour }), // prettier-ignore
      );
      const first = rows[0],
        last = rows.at(-1),
        ratio = ({ eps, x0 }) => digits(eps / x0);
      const words =
        `Ten digits, ${rows.length} noise levels. At t = ${first.step + 1} (${decibel(snr_db[first.step])}) the same mistake counts ${ratio(first)} times as much ` +
        `as noise than as picture; at t = ${last.step + 1} (${decibel(snr_db[last.step])}) ${ratio(last)} times. Said as velocity it is never smaller than as either.`;
      chart.show(layers, words);
      legend(find("losses-legend"), layers);
      find("losses-words").textContent = words;
      shown.losses = rows;
      say("measured");
    }).finally(() => (target.disabled = false)),
  );
}

// [{step, eps, x0, v}] at noise levels equally far apart, the mean over all real digits.
async function measure(model, seed, onProgress) {
  const { T } = model.data.schedule,
    rows = [];
  for (let level = 1; level <= LEVELS; level++) {
    const step = Math.round((T * (level - 0.5)) / LEVELS) - 1,
      rates = model.rates(step);
    const row = { step, eps: 0, x0: 0, v: 0 };
    for (const [digit, clean] of model.digits.entries()) {
      const { noisy, eps } = await model.noise(clean, rates, { seed, draw: digit });
      const asked = { x: noisy, label: digit, sampler: "ddpm", steps: T, from: T - 1 - step, seed };
      const { prediction } = await model.back(asked);
      const said = await model.compare({ prediction, noisy, clean, eps, rates });
      for (const kind in KINDS) row[kind] += said[`error_${kind}`][0] / model.digits.length;
      onProgress((rows.length + (digit + 1) / model.digits.length) / LEVELS);
    }
    rows.push(row);
  }
  return rows;
}
