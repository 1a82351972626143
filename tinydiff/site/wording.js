// What the page index.html says, in sentences.

import { likeliest, likely } from "./odds.js";
import { sentence } from "./shell.js";
import { answers, decibel, signalToNoise } from "./states.js";

export const SAMPLERS = { ddpm: "DDPM", ddim: "DDIM", heun: "Heun", "dpm++": "DPM-Solver++" };

export function count(times, what) {
  return `${times} ${what}${times === 1 ? "" : "s"}`;
}

// What a guidance means, in both conventions.
export function ofGuidance(w) {
  const meaning =
    w === 0
      ? "The class is not looked at"
      : w === 1
        ? "The model as it was trained"
        : w < 1
          ? "Less than the class asks for"
          : "More than the class asks for";
  return `${meaning}. In the other convention: v = w − 1 = ${String(w - 1).replace("-", "−")}.`;
}

// What a drawing costs.
export function ofCost({ ways, classes }, { sampler, steps, guidance }) {
  const parts = ways[sampler][steps].length,
    times = answers(parts, guidance, classes);
  const why = [parts > steps && "as Heun asks twice a step", times > parts && "for the class and for any"];
  return `${["The network answers " + count(times, "time"), ...why.filter(Boolean)].join(", ")}.`;
}

// Where on the way a state is.
export function ofMoment({ number, step }, steps, { snr_db: table }) {
  if (step < 0) return `step ${number} of ${steps}: finished`;
  const t = Number.isInteger(step) ? step + 1 : (step + 1).toFixed(1);
  return `step ${number} of ${steps}: t = ${t} of ${table.length}, signal to noise ${decibel(signalToNoise(table, step))}`;
}

// What the classifier sees, where ``asked`` is the label that was to be drawn, or none.
export function ofOdds(odds, names, asked) {
  const { label, part } = likeliest(odds);
  const a = (name) => `${name === "8" ? "an" : "a"} ${name}`,
    seen = `looks like ${a(names[label])} (${likely(part)})`;
  if (names[asked] === undefined) return sentence(`It ${seen}`);
  return sentence(`It ${seen}, ${label === asked ? "as asked" : `where ${a(names[asked])} was asked for`}`);
}
