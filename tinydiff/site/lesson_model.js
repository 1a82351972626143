// The lesson's model and its noise (tinydiff/pages/lesson.py). All sections ask the one engine, each in its turn: a
// turn is one step of a network at most, so that nobody waits long.

import { draw } from "./drawing.js";
import { load } from "./engine.js";
import { Model } from "./model.js";
import { fetchBytes } from "./program_file.js";
import { Queue } from "./turns.js";

const DATA = "lesson/data.json";
export const TRIP = 40; // steps from noise to an image

export class LessonModel {
  #engine;
  #model;
  #queue = new Queue();

  static async load(program) {
    const [engine, data] = await Promise.all([load(program), fetchBytes(new URL(DATA, import.meta.url))]);
    return new LessonModel(engine, JSON.parse(new TextDecoder().decode(data)));
  }

  constructor(engine, data) {
    this.#engine = engine;
    this.#model = new Model(engine);
    this.data = data;
    this.digits = data.digits.map((text) => signed(Uint8Array.from(atob(text), (c) => c.charCodeAt(0))));
    this.anyLabel = engine.about.classes;
  }

  // signal and noise rate of the model's schedule; step -1 is the clean image
  rates(step) {
    const { signal_rate, noise_rate } = this.data.schedule;
    return step < 0 ? [1, 0] : [signal_rate[step], noise_rate[step]];
  }

  // {noisy, eps} of an image, with the noise of (seed, draw).
  async noise(clean, [signal, noise], { seed, draw = 0 }) {
    const set = { clean, signal_rate: [signal], noise_rate: [noise], "noise.seed": [seed], "noise.draw": [draw] };
    return this.#queue.take(
      async () => (await this.#engine.run([{ program: "noise", set, get: ["noisy", "eps"] }]))[0],
    );
  }

  // The noise that a drawing of this seed starts from.
  async start(seed) {
    const set = { seed: [seed], sample: [0] };
    return this.#queue.take(async () => (await this.#engine.run([{ program: "start", set, get: ["x"] }]))[0].x);
  }

  // One step of a sampler's way, its entry ``from``, from x on: what ``draw`` gives, and the network's ``prediction``.
  async back({ label, sampler = "ddim", steps = TRIP, ...options }) {
    return this.#queue.take(async () => {
      const { value } = await draw(this.#engine, { labels: [label], sampler, steps, ...options }).next();
      return { ...value, prediction: await this.#engine.get("prediction") };
    });
  }

  // All of the way from there, step by step.
  async *walk({ x, from = 0, ...options }) {
    for (let isOver = false; !isOver; from++) {
      const part = await this.back({ ...options, x, from });
      yield part;
      x = part.x;
      isOver = part.done === part.of;
    }
  }

  // A prediction at a noisy image taken apart, and how wrong it is: {x0_guess, eps_guess, error_eps, error_x0, error_v}.
  async compare({ prediction, noisy, clean, eps, rates: [signal, noise] }) {
    const set = { guess: prediction, "compare.noisy": noisy, clean, "compare.eps": eps };
    Object.assign(set, { signal_rate: [signal], noise_rate: [noise] });
    const get = ["x0_guess", "eps_guess", "error_eps", "error_x0", "error_v"];
    return this.#queue.take(async () => (await this.#engine.run([{ program: "compare", set, get }]))[0]);
  }

  // How likely each digit is, as the classifier sees it.
  async judge(image) {
    return this.#queue.take(() => this.#model.judge(image));
  }
}

// Bytes as the model has images: in [-1, 1], each operation rounded as tinydiff/ops/corrupt.py does.
export function signed(bytes) {
  return Float32Array.from(bytes, (byte) => Math.fround(byte / 127.5) - 1);
}
