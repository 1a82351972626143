// The page lab.html: its controls, and what follows from them.

import { Address, choice, connect, number } from "./address.js";
import { short } from "./charts.js";
import { LabModel } from "./lab_model.js";
import { Pad } from "./lab_pad.js";
import { breath, Curve, FieldPanels, LATTICE, LIMIT, Player, PointsPanel, reveal } from "./lab_panels.js";
import { decode, encode, pointsOf } from "./lab_points.js";
import { measure, QualityChart } from "./lab_quality.js";
import { Mixture } from "./lab_score.js";
import { recent, Training } from "./lab_training.js";
import { attempt, isCalm, tell } from "./shell.js";
import { latest } from "./turns.js";

const DRAWN = "drawn",
  CLASSES = 8,
  LOOK = 700, // milliseconds between two looks at a network in training
  DRAWING_BLOCK = 0, // of counters
  NOISE_BLOCK = 1;
const get = (id) => document.getElementById(id);
const say = (words) => (get("status").textContent = words);
const oneOf = (initial, allowed) => {
  const { read } = choice(String(initial), allowed.map(String));
  return { initial, read: (text) => Number(read(text)) };
};
const text = (initial, check) => ({ initial, read: (found) => (check(found), found) });

const SETS = ["mixture", "ring", "two_moons", "checkerboard", "spiral", "pinwheel", DRAWN];
const seed = () => number(0, { min: 0, max: 2 ** 32 - 1 });
const address = new Address({
  set: choice("mixture", SETS),
  drawn: text("", decode),
  prediction: choice("v", ["eps", "x0", "v"]),
  width: oneOf(64, [32, 64, 128]),
  rate: number(0.003, { min: 1e-5, max: 0.1, whole: false }),
  many: number(2000, { min: 1, max: 100000 }),
  seed: seed(),
  sampler: choice("ddim", ["ddpm", "ddim", "heun", "dpm++"]),
  steps: oneOf(32, [4, 8, 16, 32, 64, 128]),
  label: choice("each", ["each", "any", ...Array.from({ length: CLASSES }, (_, i) => String(i))]),
  guidance: number(1, { min: 0, max: 8, whole: false }),
  noise: seed(),
  level: number(80, { min: 0, max: 199 }),
});
const BEGINS = ["set", "drawn", "prediction", "width", "seed"], // whose change is another training
  DRAWS = ["sampler", "steps", "label", "guidance", "noise"], // whose change is another drawing
  LOOKS = ["label", "guidance", "level"]; // whose change is another field

class Lab {
  #field = new FieldPanels();
  #target = new PointsPanel("target");
  #curve = new Curve();
  #quality = new QualityChart(get("quality"), get("quality-legend"), get("quality-table"));
  #measuring; // an AbortController
  #looked = 0;

  constructor(model) {
    this.model = model;
    this.mixture = new Mixture(model.about.mixture);
    this.player = new Player((step) => levelWords(model.rates(step)));
    this.training = new Training(model, { onRun: () => this.#hear(), onEnd: () => attempt(() => this.#ended()) });
    this.drawSoon = latest((how) => this.#draw(how));
    this.fieldSoon = latest((level) => this.#showField(level));
    this.begin = latest(() => this.#begin());
    get("train").onclick = () => attempt(() => (this.training.isRunning ? this.training.pause() : this.#train()));
    get("reset").onclick = () => attempt(() => this.begin());
    get("measure").onclick = () => (this.#measuring ? this.#measuring.abort() : attempt(() => this.#measure()));
    get("level").addEventListener("input", ({ target }) => attempt(() => this.fieldSoon(Number(target.value))));
    this.pad = new Pad(get("pad"), CLASSES, LIMIT, (dabs, isDone) => this.#padChanged(dabs, isDone));
    get("classes").append(...this.pad.buttons);
    get("undo").onclick = () => this.pad.takeBack();
    get("clear").onclick = () => this.pad.clear();
  }

  async start() {
    get("measured").max = Object.values(this.model.about.ways).flatMap((ways) => Object.keys(ways)).length;
    this.normal = (await this.model.counters(NOISE_BLOCK)).normal;
    [this.values, this.nonsense] = [address.values, address.nonsense];
    address.onChange((values) => attempt(() => this.#changed(values)));
    await this.begin();
  }

  // What other values ask for.
  async #changed(values) {
    const before = this.values,
      differ = (names) => names.some((name) => before[name] !== values[name]);
    this.values = values;
    tell(address.nonsense === this.nonsense ? undefined : address.nonsense); // once
    this.nonsense = address.nonsense;
    if (differ(BEGINS)) return this.begin();
    this.#fitLabel();
    await Promise.all([
      differ(DRAWS) && this.drawSoon({ isPlayed: !this.training.isRunning }),
      differ(LOOKS) && this.fieldSoon(),
    ]);
  }

  // Other points, another network, or another seed.
  async #begin() {
    const { values, model } = this;
    this.#measuring?.abort();
    get("drawing").hidden = values.set !== DRAWN;
    const dabs = decode(values.drawn);
    this.pad.show(dabs);
    get("dabs").textContent = `${dabs.length} dabs`;
    await this.training.reset(async () => {
      this.data = await this.#dataOf(values.set, dabs);
      if (this.data) await model.begin(this.data, values);
    });
    this.#fitLabel();
    this.player.clear();
    this.#curve.show([]);
    reveal("quality", false);
    get("quality-legend").replaceChildren();
    get("quality-table").replaceChildren();
    if (this.data) this.#target.show(...this.#fresh(), `${model.about.count} fresh points`);
    else reveal("target", false);
    this.#readings();
    await this.fieldSoon();
    this.#ready();
  }

  // {points, labels} or, of a drawing without dabs, null.
  async #dataOf(set, dabs) {
    if (set !== DRAWN) return this.model.set(set);
    return dabs.length ? pointsOf(dabs, await this.model.counters(DRAWING_BLOCK)) : null;
  }

  // [points, labels] that were not trained on, as many as are drawn at a time.
  #fresh() {
    const { trained, count } = this.model.about,
      { points, labels } = this.data;
    return [points.subarray(2 * trained, 2 * (trained + count)), labels.subarray(trained, trained + count)];
  }

  // Offer the classes that the points have, and no others.
  #fitLabel() {
    const classes = this.data ? 1 + this.data.labels.reduce((a, b) => Math.max(a, b)) : 0,
      select = get("label");
    for (const option of [...select.options].slice(2)) option.remove();
    for (let i = 0; i < classes; i++) select.add(new Option(`class ${i + 1}`, i));
    const { label } = this.values;
    if (this.data && label !== "each" && label !== "any" && Number(label) >= classes) {
      this.values = { ...this.values, label: "each" };
      address.set({ label: "each" }, { replace: true });
      tell(`These points have ${classes} classes: there is no class ${Number(label) + 1}; taken are all of them.`);
    }
    select.value = this.values.label;
  }

  async #train() {
    tell();
    const going = this.training.go(this.values.many, () => this.values.rate);
    this.#buttons();
    say(`Training on ${this.model.about.trained} points`);
    await going.catch((error) => (this.#ended(), Promise.reject(error)));
  }

  // After each run of steps.
  async #hear() {
    this.#readings();
    this.#curve.show(this.training.losses);
    if (performance.now() - this.#looked < LOOK) return;
    await this.drawSoon();
    await this.fieldSoon();
    this.#looked = performance.now();
  }

  // What was trained is told once the panels show it.
  async #ended() {
    const { steps } = this.model;
    this.#buttons();
    this.#readings();
    if (!steps) return;
    const last = this.training.losses.at(-1);
    await Promise.all([this.drawSoon({ isPlayed: true }), this.fieldSoon()]);
    if (this.training.isRunning || this.model.steps !== steps) return;
    say(`${steps} steps trained; the loss of the last is ${short(last)}`);
  }

  #readings() {
    const { losses, speed, isRunning } = this.training;
    get("steps").textContent = losses.length.toLocaleString("en");
    get("loss").textContent = losses.length ? recent(losses).toPrecision(4) : "–";
    get("speed").textContent = speed ? Math.round(speed).toLocaleString("en") : "–";
    get("steps").dataset.loss = losses.length ? losses.at(-1) : "";
    get("steps").dataset.running = isRunning;
  }

  #buttons() {
    const { isRunning } = this.training;
    get("train").textContent = isRunning ? "Pause" : "Train";
    get("train").disabled = !this.data;
    get("reset").disabled = !this.data || !(this.model.steps || isRunning);
    get("measure").disabled = !this.#measuring && (!this.data || !(this.model.steps || isRunning));
    get("measure").textContent = this.#measuring ? "Stop" : "Measure";
  }

  #ready() {
    this.#buttons();
    say(this.data ? "Ready: press Train" : "Ready: draw something to train on");
  }

  // How a drawing goes that the controls ask for.
  #drawing() {
    const { label, guidance, noise } = this.values,
      { count, classes } = this.model.about;
    const asked = { each: this.data.labels.subarray(0, count), any: new Array(count).fill(classes) }[label];
    return { labels: Array.from(asked ?? new Array(count).fill(Number(label))), guidance, seed: noise };
  }

  // Played where it is new, unless someone wants less motion.
  async #draw({ isPlayed = false } = {}) {
    if (!this.data || !this.model.steps) return;
    const { sampler, steps } = this.values,
      states = [],
      drawing = this.#drawing();
    await this.model.alone(async () => {
      if (!this.model.steps) return;
      for await (const { x, step } of this.model.draw({ ...drawing, sampler, steps })) states.push({ x, asked: step });
    });
    if (!states.length) return;
    // a state is told with the step that its noise is of: that which the network is asked about next
    const asked = (i) => states[Math.min(i + 1, states.length - 1)].asked;
    this.player.take(
      states.map(({ x }, i) => ({ x, step: asked(i) })),
      this.values.label === "any" ? undefined : drawing.labels,
    );
    await breath();
    if (isPlayed && !isCalm()) this.player.play();
  }

  async #showField(level = this.values.level) {
    const { model, data, mixture } = this,
      { label, guidance, set } = this.values,
      rates = model.rates(level),
      [a, s] = rates;
    const isOne = label !== "each" && label !== "any",
      words = levelWords(rates);
    get("level-words").value = `step ${level} of 199: ${words}`;
    get("level").setAttribute("aria-valuetext", `step ${level}, ${words}`);
    let network = null;
    if (data && model.steps)
      network = await model.alone(async () => {
        if (!model.steps) return null;
        const eps = await model.noiseIn(padded(LATTICE, 2 * model.about.count), level, ...this.#pull(isOne));
        return Float32Array.from(LATTICE, (_, i) => -eps[i] / s);
      });
    const exact = set === "mixture" ? mixture.guided(LATTICE, a, s, isOne ? Number(label) : null, guidance) : null;
    const seen = data && this.#fresh()[0].map((each, i) => a * each + s * this.normal[i]);
    await this.#field.show({ network, exact, seen, words });
  }

  // The label and the guidance of the field: without a class there is nothing to be guided to.
  #pull(isOne) {
    return isOne ? [Number(this.values.label), this.values.guidance] : [this.model.about.classes, 0];
  }

  async #measure() {
    this.#measuring = new AbortController();
    const { signal } = this.#measuring,
      { trained, count, classes } = this.model.about;
    this.#buttons();
    const fresh = this.data.points.subarray(2 * trained),
      labels = new Array(count).fill(classes), // any
      all = get("measured").max;
    get("measured").hidden = false;
    say("Measuring");
    try {
      await this.model.alone(async () => {
        for await (const found of measure(this.model, fresh, { labels, seed: this.values.noise, signal })) {
          const done = found.rows.length;
          get("measured").value = done;
          get("measuring").textContent = `${done} of ${all}, after ${this.model.steps} steps of training`;
          reveal("quality", true);
          this.#quality.show(found);
        }
      });
      say("Measured");
    } finally {
      if (signal.aborted) say("Measuring stopped");
      this.#measuring = undefined;
      get("measured").hidden = true;
      this.#buttons();
    }
  }

  #padChanged(dabs, isDone) {
    get("dabs").textContent = `${dabs.length} dabs`;
    if (isDone) address.set({ drawn: encode(dabs) });
  }
}

function levelWords([a, s]) {
  const decibels = 20 * Math.log10(a / s);
  return `signal ${a.toFixed(2)}, noise ${s.toFixed(2)}, ${decibels.toFixed(0)} dB`;
}

function padded(flat, length) {
  const all = new Float32Array(length);
  all.set(flat);
  return all;
}

async function start() {
  tell(address.nonsense || undefined);
  connect(get("lab"), address);
  const lab = new Lab(await LabModel.load());
  await lab.start();
}

attempt(start).then(() => {
  if (get("status").textContent === "Loading") say("Not ready");
});
