// The pad: a canvas that one draws on, with a finger, a mouse, or the keys.

import { Drawing, SIZE } from "./lesson_patterns.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  drawing = new Drawing();
  #at; // where a pointer's stroke has come to
  #pen = { place: [SIZE / 2, SIZE / 2], isDown: false }; // of the keys

  // ``onChange`` is called after every stroke, ``say`` tells where the pen of the keys is.
  constructor(canvas, { onChange, say }) {
    Object.assign(this, { canvas, onChange, say });
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#at && this.#draw(this.#at, this.#place(event)));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (this.#at = undefined));
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  // Whether one can draw on it now.
  set isOpen(open) {
    this.canvas.classList.toggle("pad", open);
    this.canvas.setAttribute("role", open ? "application" : "img");
    if (open) this.canvas.tabIndex = 0;
    else this.canvas.removeAttribute("tabindex");
  }

  get isOpen() {
    return this.canvas.classList.contains("pad");
  }

  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) / width) * SIZE, ((clientY - top) / height) * SIZE];
  }

  #begin(event) {
    if (!this.isOpen) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.#place(event);
    this.#draw(place, place);
  }

  #draw(from, to) {
    this.#at = to;
    this.drawing.stroke(from, to);
    this.onChange();
  }

  #key(event) {
    const arrow = ARROWS[event.key],
      pen = this.#pen;
    if (!this.isOpen || !(arrow || event.key === " ")) return;
    event.preventDefault();
    const from = pen.place;
    if (arrow) pen.place = from.map((each, i) => Math.min(SIZE - 1, Math.max(1, each + arrow[i])));
    else pen.isDown = !pen.isDown;
    if (pen.isDown) {
      this.drawing.stroke(from, pen.place);
      this.onChange();
    }
    this.say(`pen ${pen.isDown ? "down" : "up"} at column ${pen.place[0]}, row ${pen.place[1]}`);
  }
}
