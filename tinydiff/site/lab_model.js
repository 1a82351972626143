// The network of the lab in the engine (tinydiff/pages/lab.py): it is trained, draws points, and says which way they lie.

import { draw } from "./drawing.js";
import { load } from "./engine.js";
import { Queue } from "./turns.js";

const PROGRAM = "lab/program.json";
const LONGEST_MEMORY = 0.999; // of the averaged parameters

export class LabModel {
  #engine;
  #queue = new Queue();
  #steps = 0;

  static async load() {
    return new LabModel(await load(PROGRAM));
  }

  constructor(engine) {
    this.#engine = engine;
    this.about = engine.about; // {count, classes, points, trained, sets, mixture, ways, rates, ...}
  }

  // How many steps it was trained.
  get steps() {
    return this.#steps;
  }

  // Do something that nothing else may come between, as training between the steps of a drawing.
  alone(work) {
    return this.#queue.take(work);
  }

  // {points: flat, labels} of a set that was made in Python: first those to train on, then fresh ones.
  async set(name) {
    const [points, labels] = await Promise.all([
      this.#engine.get(`${name}.points`),
      this.#engine.get(`${name}.labels`),
    ]);
    return { points, labels };
  }

  // {uniform, normal}: random numbers, one and two for each point of a set; every block has others.
  async counters(block) {
    const { points } = this.about,
      index = Array.from({ length: points }, (_, i) => block * points + i);
    const [numbers] = await this.#engine.run([{ program: "counters", set: { index }, get: ["uniform", "normal"] }]);
    return numbers;
  }

  // Forget everything, and begin with parameters drawn from the seed.
  async begin({ points, labels }, { width, prediction, seed }) {
    const { trained } = this.about,
      engine = this.#engine;
    [this.width, this.prediction, this.#steps] = [width, prediction, 0];
    await engine.set("images", points.subarray(0, 2 * trained));
    await engine.set("classes", labels.subarray(0, trained));
    await engine.set("noise", await engine.get(`noise.${prediction}`));
    await engine.run([{ program: `initialise.${width}`, set: { training_seed: [seed] } }]);
  }

  // So many training steps; gives the loss of each.
  async train(count, rate) {
    const named = (name) => `${name}.${this.width}`;
    const calls = Array.from({ length: count }, (_, i) => {
      const number = this.#steps + i + 1,
        decay = Math.min(LONGEST_MEMORY, (1 + number) / (10 + number)); // train/averaging.py says why
      const set = { number: [number], learning_rate: [rate], average_decay: [decay] };
      return {
        program: named("train"),
        set: Object.fromEntries(Object.entries(set).map(([name, value]) => [named(name), value])),
        get: [named("loss")],
      };
    });
    const results = await this.#engine.run(calls);
    this.#steps += count;
    return results.map((result) => result[named("loss")][0]);
  }

  // Go a sampler's way, as ``draw`` of drawing.js. First comes the noise that it begins with.
  async *draw(options) {
    for await (const part of draw(this.#asDrawn(), options)) {
      if (part.done === 1) yield { done: 0, of: part.of, step: part.step, x: part.asked };
      yield part;
    }
  }

  // The noise that the averaged network sees in points (count, 2), flat, at a noise step.
  async noiseIn(x, step, label, guidance) {
    const { count, classes } = this.about,
      engine = this.#asDrawn();
    await engine.set("x", x);
    await engine.set("labels", new Array(count).fill(guidance === 0 ? classes : label));
    await engine.set("guidance", [guidance]);
    const program = guidance === 0 || guidance === 1 ? "predict" : "predict_guided";
    const [{ eps }] = await engine.run([{ program, set: { step: new Array(count).fill(step) }, get: ["eps"] }]);
    return eps;
  }

  // Signal and noise rate at a step.
  rates(step) {
    return this.about.rates[step];
  }

  // The engine as one whose "predict" gives clean points, of this width and whatever the network predicts.
  #asDrawn() {
    const engine = this.#engine;
    const both = ({ get, ...call }) => [
      { ...call, program: `${call.program}.${this.width}` },
      { program: `split.${this.prediction}`, set: { rates: this.rates(call.set.step[0]) }, get },
    ];
    return {
      about: this.about,
      set: (name, values) => engine.set(name, values),
      async run(calls, options) {
        const asks = calls.map(({ program }) => program.startsWith("predict"));
        const results = await engine.run(
          calls.flatMap((call, i) => (asks[i] ? both(call) : [call])),
          options,
        );
        return asks.map((isTwo) => results.splice(0, isTwo ? 2 : 1).at(-1));
      },
    };
  }
}
