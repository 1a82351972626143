// One image of each class, all drawn at once.

import { likeliest, likely } from "./odds.js";
import { paint } from "./pixels.js";
import { states } from "./states.js";

export class Row {
  x = null; // the finished images, one after another

  constructor(host, model) {
    Object.assign(this, { host, model });
    const { classes, row } = model.about;
    this.labels = Array.from({ length: row }, (_, i) => (classes ? i : 0));
    this.size = model.shape.reduce((a, b) => a * b);
  }

  // Draw it; ``options`` are those of ``draw``. Calls onStep(state) after each step; gives {ms, right}: how long drawing
  // took, and how many the classifier takes for what they were asked to be, or null where it does not judge them.
  async draw(options, shows, onStep) {
    const items = this.#empty();
    this.x = null;
    let state,
      begun = 0;
    const drawing = this.model.drawRow({ labels: this.labels, ...options });
    for await (state of states(drawing, options.steps)) {
      options.signal.throwIfAborted();
      begun ||= performance.now(); // with the first its programs have come
      items.forEach(({ firstChild }, i) => paint(firstChild, this.#image(state[shows()], i), this.model.shape));
      onStep(state);
    }
    this.x = state.x;
    const ms = ((performance.now() - begun) * options.steps) / Math.max(1, options.steps - 1);
    return { ms, right: await this.#judge(items, options) };
  }

  async #judge(items, { signal, guidance }) {
    const { names } = this.model.about;
    let right = 0;
    for (const [i, { lastChild }] of items.entries()) {
      const odds = await this.model.judge(this.#image(this.x, i));
      signal.throwIfAborted();
      if (!odds) return null;
      const { label, part } = likeliest(odds);
      right += label === i;
      lastChild.textContent = `reads ${names[label]}`;
      lastChild.title = likely(part);
      lastChild.classList.toggle("wrong", label !== i && guidance > 0);
    }
    return right;
  }

  // As many places, with nothing in them.
  #empty() {
    const { names, classes, digits } = this.model.about;
    const items = this.labels.map((label, i) => {
      const item = document.createElement("li"),
        canvas = document.createElement("canvas"),
        words = document.createElement("span");
      canvas.className = "pixels";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `drawn: ${classes ? names[label] : i + 1}`);
      words.textContent = classes && !digits ? names[label] : "\u00a0";
      item.append(canvas, words);
      return item;
    });
    this.host.replaceChildren(...items);
    return items;
  }

  #image(values, i) {
    return values.subarray(i * this.size, (i + 1) * this.size);
  }
}
