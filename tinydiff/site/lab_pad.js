// The pad on which one draws dabs of colour: by pointer or by keys.

import { Chart, line, points } from "./charts.js";
import { MOST_DABS, nearest, placeOf } from "./lab_points.js";

const APART = 2; // levels between two dabs of a stroke
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const MIDDLE = 32;

export class Pad {
  #cross = null; // where keys would put a dab, once they are used
  #last = null; // of the stroke that is drawn
  #chart;

  // ``onChange(dabs, isDone)`` hears of every change; done is a stroke that has ended, or any other change.
  constructor(canvas, classes, limit, onChange) {
    Object.assign(this, { canvas, onChange, label: 0, dabs: [] });
    this.#chart = new Chart(canvas, { square: true, x: { from: -limit, to: limit }, y: { from: -limit, to: limit } });
    canvas.setAttribute("role", "application");
    canvas.setAttribute("aria-roledescription", "drawing pad");
    canvas.setAttribute("aria-describedby", "pad-help");
    canvas.onpointerdown = (event) => this.#begin(event);
    canvas.onpointermove = (event) => event.buttons && this.#last && this.#stroke(event);
    canvas.onpointerup = canvas.onpointercancel = () => this.#end();
    canvas.onkeydown = (event) => this.#key(event);
    canvas.onblur = () => this.#moveCross(null);
    this.buttons = Array.from({ length: classes }, (_, label) => this.#classButton(label));
    this.choose(0);
  }

  choose(label) {
    this.label = label;
    this.buttons.forEach((button, each) => {
      button.setAttribute("aria-checked", each === label);
      button.tabIndex = each === label ? 0 : -1;
    });
  }

  show(dabs) {
    this.dabs = dabs;
    const at = Float32Array.from(dabs.flatMap(([, column, row]) => [placeOf(column), placeOf(row)]));
    const classes = dabs.map(([label]) => label),
      layers = [points(at, { classes, size: 4 })];
    if (this.#cross) {
      const [x, y] = this.#cross.map(placeOf),
        size = 0.09;
      const arm = (dx, dy) =>
        line(
          [
            [x - dx, y - dy],
            [x + dx, y + dy],
          ],
          { colour: "ink" },
        );
      layers.push(arm(size, 0), arm(0, size));
    }
    this.#chart.show(layers, `Drawing pad, ${dabs.length} dabs`);
  }

  takeBack() {
    this.#change(this.dabs.slice(0, -1), true);
  }

  clear() {
    this.#change([], true);
  }

  #change(dabs, isDone) {
    this.show(dabs);
    this.onChange(dabs, isDone);
  }

  #put([column, row], isDone) {
    if (this.dabs.length < MOST_DABS) this.#change([...this.dabs, [this.label, column, row]], isDone);
  }

  #begin(event) {
    event.preventDefault();
    this.canvas.focus({ focusVisible: false });
    this.canvas.setPointerCapture(event.pointerId);
    this.#cross = null;
    this.#last = this.#placeAt(event);
    this.#put(this.#last, false);
  }

  // Dabs at equal distances on the way to where the pointer is.
  #stroke(event) {
    const to = this.#placeAt(event),
      from = this.#last,
      far = Math.max(...to.map((each, i) => Math.abs(each - from[i])));
    for (let gone = APART; gone <= far; gone += APART) {
      this.#last = to.map((each, i) => Math.round(from[i] + ((each - from[i]) * gone) / far));
      this.#put(this.#last, false);
    }
  }

  #end() {
    if (this.#last) this.onChange(this.dabs, true);
    this.#last = null;
  }

  #placeAt({ clientX, clientY }) {
    const { left, top } = this.canvas.getBoundingClientRect();
    return nearest(...this.#chart.at(clientX - left, clientY - top));
  }

  #key(event) {
    const { key } = event;
    if (KEYS[key]) {
      const step = event.shiftKey ? 1 : 2,
        from = this.#cross ?? [MIDDLE, MIDDLE];
      this.#moveCross(from.map((each, i) => Math.min(63, Math.max(0, each + step * KEYS[key][i]))));
    } else if (key === "Enter" || key === " ") this.#put((this.#cross ??= [MIDDLE, MIDDLE]), true);
    else if (key === "Backspace") this.takeBack();
    else if (key >= "1" && key <= String(this.buttons.length)) this.choose(Number(key) - 1);
    else return;
    event.preventDefault();
  }

  #moveCross(to) {
    this.#cross = to;
    this.show(this.dabs);
  }

  // One of a group of which arrow keys choose.
  #classButton(label) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label + 1, onclick: () => this.choose(label) });
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", `Class ${label + 1}`);
    button.style.setProperty("--own", `var(--c${label})`);
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.choose((label + step + this.buttons.length) % this.buttons.length);
      this.buttons[this.label].focus();
    };
    return button;
  }
}
