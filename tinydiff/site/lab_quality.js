// How good samples are against what they cost, for every sampler and number of steps; MMD is computed in a Worker.

import { Chart, band, legend, line, points, short } from "./charts.js";
import { SPLITS } from "./mmd.js";

export const COMPARED = 200; // samples, and as many fresh points
const LOWEST = 1e-4; // of the axis
const FIRST_BLOCK = 2; // of the counters that halve real points
const NAMES = { ddpm: "DDPM", ddim: "DDIM", heun: "Heun", "dpm++": "DPM-Solver++ 2M" };

// Measure all; gives {floor, band, rows} after each of them, a row being {sampler, steps, evaluations, value}.
//     options  those of LabModel.draw but for sampler and steps
export async function* measure(model, fresh, options) {
  const worker = new Comparison();
  try {
    const real = fresh.subarray(0, 4 * COMPARED);
    const found = { ...(await worker.ask({ real, uniform: await halvings(model) })), rows: [] };
    for (const [sampler, ways] of Object.entries(model.about.ways))
      for (const [steps, way] of Object.entries(ways)) {
        let x;
        for await (const state of model.draw({ ...options, sampler, steps })) x = state.x;
        const value = await worker.ask({ samples: x.slice(0, 2 * COMPARED) });
        found.rows.push({ sampler, steps: Number(steps), evaluations: way.length, value });
        yield found;
      }
  } finally {
    worker.close();
  }
}

// Random numbers for every halving and point.
export async function halvings(model) {
  const all = new Float32Array(2 * SPLITS * COMPARED);
  for (let block = FIRST_BLOCK, at = 0; at < all.length; block++) {
    const { uniform } = await model.counters(block);
    all.set(uniform.subarray(0, all.length - at), at);
    at += uniform.length;
  }
  return all;
}

class Comparison {
  #worker = new Worker(new URL("mmd_worker.js", import.meta.url), { type: "module" });

  ask(question) {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data: { result, error } }) => (error ? reject(new Error(error)) : resolve(result));
      this.#worker.onerror = () => reject(new Error("the Worker that compares points did not start"));
      this.#worker.postMessage(question);
    });
  }

  close() {
    this.#worker.terminate();
  }
}

export class QualityChart {
  #chart;

  constructor(canvas, key, table) {
    Object.assign(this, { key, table });
    this.#chart = new Chart(canvas, {
      ratio: 0.5,
      x: { title: "network evaluations", from: 3.5, to: 290, log: true, ticks: [4, 8, 16, 32, 64, 128, 255] },
      y: { title: "MMD²", from: LOWEST, log: true },
    });
  }

  show({ band: [low, high], floor, rows }) {
    this.#chart.axes.y.to = 2 * Math.max(high, ...rows.map(({ value }) => value));
    const seen = ({ value }) => Math.max(LOWEST, value),
      layers = [
        band(
          [3.5, 290].map((x) => [x, LOWEST, Math.max(LOWEST, high)]),
          { name: "two sets of real points" },
        ),
      ];
    Object.keys(NAMES).forEach((sampler, i) => {
      const own = rows.filter((row) => row.sampler === sampler).map((row) => [row.evaluations, seen(row)]);
      const look = { colour: `c${i}`, dash: [[], [7, 4], [2, 3], [9, 3, 2, 3]][i] };
      layers.push(line(own, { ...look, name: NAMES[sampler] }));
      layers.push(points(Float32Array.from(own.flat()), { colour: look.colour, size: 3 }));
    });
    const best = rows.reduce((a, b) => (b.value < a.value ? b : a));
    this.#chart.show(
      layers,
      `MMD² against network evaluations for ${rows.length} ways; smallest ${short(best.value)}, by ` +
        `${NAMES[best.sampler]} in ${best.evaluations} evaluations. Real points have ${short(low)} to ${short(high)}.`,
    );
    legend(this.key, layers);
    this.table.replaceChildren(tableOf(rows, { low, high, floor }));
  }
}

function tableOf(rows, { low, high, floor }) {
  const table = document.createElement("table");
  const add = (cells) => {
    const row = table.insertRow();
    for (const { tag = "th", text, value = "" } of cells) {
      const cell = Object.assign(document.createElement(tag), { textContent: text });
      if (tag === "td") cell.dataset.value = value;
      row.append(cell);
    }
  };
  table.createCaption().textContent =
    `MMD² and, in brackets, network evaluations. Two sets of real points: ${short(floor)} on average, ` +
    `95 % of them from ${short(low)} to ${short(high)}.`;
  add([
    { text: "sampler" },
    ...[...new Set(rows.map(({ steps }) => steps))].map((each) => ({ text: `${each} steps` })),
  ]);
  for (const [sampler, name] of Object.entries(NAMES)) {
    const own = rows.filter((row) => row.sampler === sampler);
    const text = ({ value, evaluations }) => `${value.toExponential(1)} (${evaluations})`;
    if (own.length) add([{ text: name }, ...own.map((row) => ({ tag: "td", text: text(row), value: row.value }))]);
  }
  return table;
}
