// What the classifier believes, as bars.

import { percent } from "./advice.js";

export class Odds {
  constructor(host, names) {
    this.bars = names.map((name) => {
      const item = document.createElement("li");
      item.innerHTML = '<span class="name"></span><span class="bar"><span></span></span><span class="number"></span>';
      item.firstChild.textContent = name;
      return item;
    });
    host.replaceChildren(...this.bars);
  }

  // ``asked``: which of them was to be drawn.
  show(odds, asked) {
    odds.forEach((part, i) => {
      const [, bar, number] = this.bars[i].children;
      bar.firstChild.style.width = percent(part).replace(" ", "");
      number.textContent = likely(part);
      this.bars[i].classList.toggle("asked", i === asked);
    });
  }
}

// A probability as text; a classifier is never certain.
export function likely(part) {
  return part > 0.9995 ? "> 99.9 %" : percent(part);
}

// The most likely, {label, part}.
export function likeliest(odds) {
  const part = Math.max(...odds);
  return { label: odds.indexOf(part), part };
}
