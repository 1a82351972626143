// A measured table as a board of buttons: guidance across, steps down, better ones stronger in colour. Tab reaches one of
// them, the arrows the others.

import { MEASURES, strengths } from "./advice.js";

const MOVES = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

export class HeatMap {
  // onPick(row) is called with the row of the table that is chosen.
  constructor(host, table, onPick) {
    const unique = (name) => [...new Set(table.rows.map((row) => row[name]))].sort((a, b) => a - b);
    this.table = table;
    this.guidances = unique("guidance");
    this.steps = unique("steps");
    this.buttons = new Map();
    const head = host.createTHead().insertRow();
    head.append(element("td", ""), ...this.guidances.map((w) => element("th", w, { scope: "col" })));
    const body = host.createTBody();
    for (const steps of this.steps) {
      const line = body.insertRow();
      line.append(element("th", steps, { scope: "row" }));
      for (const guidance of this.guidances) {
        const row = table.rows.find((row) => row.guidance === guidance && row.steps === steps),
          cell = line.insertCell();
        if (!row) continue;
        const button = element("button", "", { type: "button", tabIndex: -1 });
        button.addEventListener("click", () => onPick(row));
        cell.append(button);
        this.buttons.set(row, button);
      }
    }
    host.addEventListener("keydown", (event) => this.#move(event));
    host.addEventListener("focusin", ({ target }) => this.#tabReaches(target));
    this.#tabReaches([...this.buttons.values()][0]);
  }

  show(measure) {
    const strong = strengths(this.table, measure),
      { text, words } = MEASURES[measure];
    this.table.rows.forEach((row, i) => {
      const button = this.buttons.get(row);
      button.textContent = text(row).replace(" %", "");
      button.setAttribute("aria-label", `guidance ${row.guidance}, ${row.steps} steps: ${text(row)} ${words}`);
      button.style.setProperty("--part", strong[i].toFixed(3));
    });
  }

  // Mark what the page is set to; no cell where it is none of these.
  mark({ guidance, steps, sampler }) {
    for (const [row, button] of this.buttons) {
      const is = row.guidance === guidance && row.steps === steps && sampler === this.table.sampler;
      is ? button.setAttribute("aria-current", "true") : button.removeAttribute("aria-current");
      if (is) this.#tabReaches(button);
    }
  }

  #tabReaches(button) {
    for (const each of this.buttons.values()) each.tabIndex = each === button ? 0 : -1;
  }

  #move(event) {
    const [down, right] = MOVES[event.key] ?? [];
    const at = [...this.buttons].find(([, button]) => button === event.target)?.[0];
    if (down === undefined || !at) return;
    event.preventDefault();
    const steps = this.steps[this.steps.indexOf(at.steps) + down],
      guidance = this.guidances[this.guidances.indexOf(at.guidance) + right];
    for (const [row, button] of this.buttons) if (row.steps === steps && row.guidance === guidance) button.focus();
  }
}

function element(name, text, attributes = {}) {
  return Object.assign(document.createElement(name), { textContent: text }, attributes);
}
