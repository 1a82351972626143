// The panels of the lab: points, which way they lie, and the curve of the loss.

import { Chart, arrows, cells, line, points, short } from "./charts.js";
import { curves, WINDOW } from "./lab_training.js";
import { errors, lattice } from "./lab_score.js";

export const LIMIT = 1.6; // all panels of points show so far, in both directions
export const SIDE = 16; // of the lattice of arrows
export const LATTICE = lattice(SIDE, LIMIT);
const LONGEST = 0.9; // arrow, in cells, but for the few that are longer still
const PLANE = { square: true, x: { from: -LIMIT, to: LIMIT }, y: { from: -LIMIT, to: LIMIT } };
const A_PLAY = 2500; // milliseconds

// Ends when the page has answered to what has come meanwhile: no task of its own shall be long.
export const breath = () => new Promise((resolve) => setTimeout(resolve));

const get = (id) => document.getElementById(id);

// Show the canvas of a panel, or what is there instead.
export function reveal(name, isThere) {
  get(name).hidden = !isThere;
  get(`${name}-empty`).hidden = isThere;
}

export class PointsPanel {
  constructor(name) {
    this.name = name;
    this.chart = new Chart(get(name), PLANE);
  }

  show(flat, classes, words) {
    reveal(this.name, true);
    this.chart.show([points(flat, { classes, size: 1.75 })], words);
  }
}

// Points on their way from noise, with a slider over time.
export class Player {
  #panel = new PointsPanel("samples");
  #states = [];
  #frame;

  constructor(stepWords) {
    this.stepWords = stepWords;
    get("time").oninput = () => this.#stop() || this.#show();
    get("play").onclick = () => (this.#frame ? this.#stop() : this.play());
  }

  // Take other states, [{x, step}, ...], of the same classes; the slider stays where it is, at the end or within.
  take(states, classes) {
    const slider = get("time"),
      part = this.#states.length ? Number(slider.value) / Number(slider.max) : 1;
    [this.#states, this.classes] = [states, classes];
    slider.max = states.length - 1;
    slider.value = Math.round(part * (states.length - 1));
    get("player").hidden = false;
    this.#show();
  }

  clear() {
    this.#stop();
    this.#states = [];
    reveal("samples", false);
    get("player").hidden = true;
  }

  play() {
    this.#stop();
    if (!this.#states.length) return;
    const slider = get("time");
    let begun;
    const next = (now) => {
      begun ??= now;
      const part = Math.min(1, (now - begun) / A_PLAY);
      slider.value = Math.round(part * Number(slider.max));
      this.#show();
      this.#frame = part < 1 ? requestAnimationFrame(next) : undefined;
      this.#name();
    };
    this.#frame = requestAnimationFrame(next);
    this.#name();
  }

  #stop() {
    cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    this.#name();
  }

  #name() {
    get("play").textContent = this.#frame ? "Stop" : "Play";
  }

  #show() {
    const slider = get("time"),
      at = Number(slider.value),
      { x, step } = this.#states[at];
    const isDone = at === this.#states.length - 1,
      words = isDone ? "finished" : this.stepWords(step);
    get("when").textContent = isDone ? `${at} of ${at}` : `${at} of ${slider.max}`;
    slider.setAttribute("aria-valuetext", `${at} of ${slider.max}, ${words}`);
    this.#panel.show(x, this.classes, `${x.length / 2} points, ${at} of ${slider.max} evaluations gone, ${words}`);
  }
}

// Arrows of the network's score and of the exact one, and how far they are apart. An arrow's length is that of the score in
// parts of the largest of most; so far ones are cut.
export class FieldPanels {
  #field = new Chart(get("field"), PLANE);
  #exact = new Chart(get("exact"), PLANE);
  #error = new Chart(get("error"), PLANE);

  // ``network`` and ``exact`` are scores on LATTICE or null; ``seen`` noised points, flat, or null; words name the level
  async show({ network, exact, seen, words }) {
    const behind = seen ? [points(seen, { colour: "faint", size: 0.75 })] : [],
      scale = scaleOf(exact ?? network);
    reveal("field", network !== null);
    reveal("exact", exact !== null);
    reveal("error", network !== null && exact !== null);
    if (network) this.#field.show([...behind, drawn(network, scale)], `Score of the network at ${words}`);
    await breath();
    if (exact) this.#exact.show([...behind, drawn(exact, scale)], `Exact score at ${words}`);
    get("field-words").textContent =
      `Behind: fresh points, noised to this level. ` +
      (scale ? `An arrow of one cell is a score of ${short(scale)}.` : "");
    if (!network || !exact) return;
    await breath();
    const apart = errors(network, exact),
      rows = Array.from({ length: SIDE }, (_, j) => apart.slice(j * SIDE, (j + 1) * SIDE));
    const mean = apart.reduce((a, b) => a + b) / apart.length,
      sorted = [...apart].sort((a, b) => a - b),
      told = `${percent(sorted[apart.length / 2])} in the median, ${percent(mean)} on average`;
    this.#error.show([cells(rows), ...behind], `Error of the network's score at ${words}: ${told}`);
    get("error-words").textContent =
      `${told}, of the exact score's root mean square, which is full colour. Far from the points nobody asked the network ` +
      "in training.";
  }
}

const percent = (part) => `${short(100 * part)} %`;

// Of scores, the length that an arrow of a cell has: that of all but one in ten.
function scaleOf(scores) {
  if (!scores) return 0;
  const sizes = Array.from({ length: scores.length / 2 }, (_, i) => Math.hypot(scores[2 * i], scores[2 * i + 1])).sort(
    (a, b) => a - b,
  );
  return sizes[Math.floor(0.9 * sizes.length)] || 1;
}

function drawn(scores, scale) {
  const cell = (2 * LIMIT) / SIDE,
    most = 1.5;
  const along = Float32Array.from(scores, (each, i) => {
    const size = Math.hypot(scores[i & ~1], scores[i | 1]) / scale;
    return (each / scale) * LONGEST * cell * Math.min(1, most / size) || 0;
  });
  const from = LATTICE.map((each, i) => each - along[i] / 2);
  return arrows(from, along);
}

export class Curve {
  #chart = new Chart(get("curve"), { ratio: 1.001, x: { title: "step", from: 0 }, y: { title: "loss", log: true } });

  show(losses) {
    reveal("curve", losses.length > 0);
    if (!losses.length) return;
    const { raw, averaged } = curves(losses);
    const [first, last] = [averaged[0], averaged.at(-1)];
    this.#chart.show(
      [line(raw, { colour: "line", width: 1 }), line(averaged, { colour: "c0" })],
      `Loss over ${losses.length} steps, ${short(first[1])} at first, mean of the last ${WINDOW} steps ${short(last[1])}`,
    );
  }
}
