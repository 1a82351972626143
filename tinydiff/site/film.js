// The timeline: keeps every state of a drawing, shows all of them small, and one by a slider, or one after another.

import { paint } from "./pixels.js";

const WHOLE = 3000; // milliseconds that playing all of it takes, if no picture
const SHORTEST = 60,
  LONGEST = 400; // stays for less or more than this

export class Film {
  states = [];
  #follows; // whether the newest is shown
  #timer;

  // onShow(state) is called whenever another one is to be seen.
  constructor({ slider, strip, play, shape }, onShow) {
    Object.assign(this, { slider, strip, play, shape, onShow });
    slider.addEventListener("input", () => {
      this.#stop();
      this.#follows = false;
      this.#show(Number(slider.value));
    });
    strip.addEventListener("click", ({ target }) => {
      const at = [...strip.children].indexOf(target.closest("#strip > *"));
      if (at < 0 || at >= this.states.length) return;
      this.#stop();
      this.#follows = false;
      this.#show(at);
    });
    play.addEventListener("click", () => (this.#timer ? this.#stop() : this.#start()));
  }

  // Forget all of it; another drawing of so many steps begins. ``live``: whether its newest state is shown at once, or
  // only the finished one.
  begin(steps, { live = true } = {}) {
    this.#stop();
    this.states = [];
    this.steps = steps;
    this.#follows = true;
    this.live = live;
    this.slider.max = steps;
    this.slider.value = 0;
    this.strip.replaceChildren(
      ...Array.from({ length: steps + 1 }, () => {
        const cell = document.createElement("div");
        cell.append(document.createElement("canvas"), document.createElement("canvas"));
        return cell;
      }),
    );
  }

  add(state) {
    const [noisy, predicted] = this.strip.children[this.states.length].children;
    this.states.push(state);
    paint(noisy, state.x, this.shape);
    paint(predicted, state.x0Hat, this.shape);
    if (this.#follows && (this.live || state.number === this.steps)) this.#show(state.number);
  }

  // The state that is seen; none before the first.
  get now() {
    return this.states[this.at];
  }

  get isAtEnd() {
    return this.states.length === this.steps + 1 && this.at === this.steps;
  }

  #show(at) {
    this.at = Math.min(at, this.states.length - 1);
    this.slider.value = this.at;
    for (const [i, cell] of [...this.strip.children].entries()) cell.classList.toggle("now", i === this.at);
    if (this.now) this.onShow(this.now);
  }

  // From the beginning, or from where it was stopped on the way.
  #start() {
    if (this.states.length < 2) return;
    this.#follows = false;
    this.play.textContent = "Pause";
    let at = this.isAtEnd ? 0 : this.at;
    this.#show(at);
    const pause = Math.min(LONGEST, Math.max(SHORTEST, WHOLE / this.steps));
    this.#timer = setInterval(() => {
      this.#show(++at);
      if (at >= this.steps) this.#stop();
    }, pause);
  }

  #stop() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.play.textContent = "Play";
  }
}
