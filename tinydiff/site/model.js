// The model of the pages that draw (tinydiff/pages/digits.py): it draws one image, or a row, and judges digits.

import { draw } from "./drawing.js";
import { load } from "./engine.js";

const PROGRAM = "digits/program.json",
  ROW = "digits/row.json";

export class Model {
  #engine;
  #row;

  static async load() {
    return new Model(await load(PROGRAM));
  }

  constructor(engine) {
    this.#engine = engine;
    this.about = engine.about; // {config, names, digits, advice, ways, ...}
    this.shape = [this.about.config.model.size, this.about.config.model.size, this.about.config.model.image_channels];
  }

  // Draw one image; gives what ``draw`` does. Another drawing must be over, or stopped by its signal.
  draw({ label, ...options }) {
    return draw(this.#engine, { labels: [label], ...options });
  }

  // Draw as many at once as the row has places; their programs are loaded with the first.
  async *drawRow(options) {
    this.#row ??= load(ROW).then((engine) =>
      Object.assign(engine, { about: { ...engine.about, ways: this.about.ways } }),
    );
    yield* draw(await this.#row, options);
  }

  // How likely each digit is, by the classifier, of an image; null where the model draws no digits.
  async judge(image) {
    if (!this.about.digits) return null;
    const [{ logits }] = await this.#engine.run([{ program: "classify", set: { image }, get: ["logits"] }]);
    const most = logits.reduce((a, b) => Math.max(a, b)),
      odds = Array.from(logits, (logit) => Math.exp(logit - most)),
      all = odds.reduce((a, b) => a + b);
    return odds.map((each) => each / all);
  }
}
