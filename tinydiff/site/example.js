// A worked example on the page: its numbers to edit, its lines, its gradients three ways, a switch for every term.

import { readNumber } from "./given.js";
import { filled, general, gradients } from "./tape.js";

const DIGITS = 6;

export class Example {
  #changed;
  #cells = {}; // name of a gradient, or "y" -> {head, rows: [[derived, defined, kernel], ...]}
  #inputs = {}; // name -> its fields

  // Builds itself in a host. ``changed`` is called with {given} when numbers were edited, with {without} for a term.
  constructor(host, op, about, example, changed) {
    Object.assign(this, { host, op, about, example });
    this.#changed = changed;
    host.replaceChildren(
      element("h3", {}, "By hand, and live"),
      this.#givenForm(),
      element("div", { className: "columns" }, this.#linesCard("forward"), this.#linesCard("backward")),
      element("div", { className: "columns uneven" }, this.#terms(), this.#table()),
    );
  }

  // Show it at these numbers, {name: numbers}, without a term (or ""); gives what there is to say of it.
  show(given, term) {
    this.given = given;
    const result = gradients(this.about, this.example, given, term);
    for (const { name, values } of this.example.inputs)
      this.#inputs[name].forEach((field, i) => {
        const value = (given[name] ?? values)[i];
        if (field.matches(":focus") && Number(field.value) === value && field.value.trim() !== "") return;
        field.value = value;
        field.removeAttribute("aria-invalid");
      });
    for (const side of ["forward", "backward"])
      this.example.lines[side].forEach((line, i) => {
        this.host.querySelector(`.${side}`).children[i].textContent = filled(line, result.values).trim();
      });
    for (const radio of this.host.querySelectorAll("input[type=radio]")) radio.checked = radio.value === term;
    this.#showTermLines(term);
    this.#column("y", 0, result.y);
    for (const [name, each] of Object.entries(result.gradients)) {
      const { head, rows } = this.#cells[name];
      this.#column(name, 0, each.derived);
      this.#column(name, 1, each.defined);
      head.className = each.isRight ? "right" : "wrong";
      head.querySelector("span").textContent = each.isRight
        ? `right: within ${general(each.difference, 2)}`
        : `wrong: off by ${general(each.difference, 3)}`;
      rows.forEach(([derived], i) =>
        derived.classList.toggle(
          "off",
          !each.isRight && Math.abs(each.derived[i] - each.defined[i]) > this.about.tolerance,
        ),
      );
    }
    return this.#words(result, term);
  }

  // Fill in what the kernel computed: {y, dx, ...}, or null where there is none.
  showKernel(found) {
    for (const name of Object.keys(this.#cells))
      this.#column(name, 2, found ? Array.from(found[name === "y" ? "y" : `d${name}`]) : []);
  }

  #words({ gradients: found }, term) {
    const names = (isRight) =>
      Object.keys(found)
        .filter((name) => found[name].isRight === isRight)
        .map((name) => `d${name}`);
    const [wrong, right] = [names(false), names(true)];
    const is = (list) => (list.length === 1 ? "is" : "are");
    if (!wrong.length) return `${term ? `Without ${term}: a` : "A"}ll gradients of ${this.op} are right here.`;
    const rest = right.length ? `; ${right.join(", ")} ${is(right)} right` : "";
    return `${term ? `Without ${term}: ` : ""}${wrong.join(", ")} ${is(wrong)} wrong${rest}.`;
  }

  #givenForm() {
    const matrices = this.example.inputs.map(({ name, shape, values, fixed }) => {
      const columns = shape.at(-1) ?? 1;
      this.#inputs[name] = values.map((value, i) =>
        element("input", {
          type: "text",
          inputMode: "decimal",
          autocomplete: "off",
          value,
          readOnly: fixed,
          ariaLabel: name + subscript(shape, i),
          onchange: ({ target }) => this.#edited(name, i, target),
          oninput: ({ target }) => this.#typed(name, i, target),
        }),
      );
      const grid = element("div", {}, ...this.#inputs[name]);
      grid.style.setProperty("--columns", columns);
      const size = values.length > 1 ? ` ${shape.join(" × ")}` : "";
      return element("fieldset", { className: "matrix" }, element("legend", {}, element("code", {}, name), size), grid);
    });
    const reset = element(
      "button",
      { type: "button", onclick: () => this.#changed({ given: {} }) },
      "Reset the numbers",
    );
    const words = "Change any number; everything below follows. Read-only ones are not differentiated.";
    const isAllEditable = this.example.inputs.every(({ fixed }) => !fixed);
    return element(
      "form",
      { className: "given", onsubmit: (event) => event.preventDefault() },
      element(
        "p",
        { className: "note" },
        isAllEditable ? words.split(";")[0] + "; everything below follows." : words,
        this.#options(),
      ),
      element("div", { className: "row" }, ...matrices, reset),
    );
  }

  #options() {
    const texts = Object.entries(this.example.options).map(([name, value]) => `${name} = ${value}`);
    return texts.length ? ` Here ${texts.join(", ")}.` : "";
  }

  // While someone types, what is a number is taken; what is none may yet become one.
  #typed(name, i, field) {
    try {
      this.#take(name, i, readNumber(field.value), false);
    } catch {
      return;
    }
  }

  #edited(name, i, field) {
    try {
      const value = readNumber(field.value);
      field.removeAttribute("aria-invalid");
      this.#take(name, i, value, true);
    } catch ({ message }) {
      field.setAttribute("aria-invalid", "true");
      const { shape, values } = this.example.inputs.find((each) => each.name === name),
        now = (this.given[name] ?? values)[i];
      const what = `${name}${subscript(shape, i)} is “${field.value}”, which must be ${message}`;
      this.#changed({ problem: `${what}; the example goes on with ${now}` });
    }
  }

  #take(name, i, value, isFinal) {
    const { values } = this.example.inputs.find((each) => each.name === name);
    this.#changed({ given: { ...this.given, [name]: (this.given[name] ?? values).with(i, value) }, isFinal });
  }

  #linesCard(side) {
    const lines = this.example.lines[side].map((line) => {
      const isRemark = typeof line[0] !== "string" || !line[0].startsWith("  ");
      return element("p", { className: isRemark ? "note" : "line" });
    });
    return element(
      "div",
      { className: "card" },
      element("h4", {}, side === "forward" ? "Forward" : "Backward"),
      element("div", { className: side }, ...lines),
    );
  }

  #terms() {
    const radio = (value, ...label) =>
      element(
        "label",
        {},
        element("input", {
          type: "radio",
          name: `without-${this.op}`,
          value,
          onchange: () => this.#changed({ without: value }),
        }),
        " ",
        ...label,
      );
    const radios = Object.keys(this.example.without).map((term) => radio(term, element("code", {}, term)));
    return element(
      "fieldset",
      { className: "terms" },
      element("legend", {}, "Leave a term out of the backward"),
      radio("", "nothing"),
      ...radios,
      element("p", { className: "note" }),
    );
  }

  #showTermLines(term) {
    const where = this.host.querySelector(".terms .note");
    const lines = this.example.without[term]?.lines ?? [];
    where.replaceChildren(
      ...(lines.length ? [`tinydiff/ops/${this.op}.py, with 0 in place of what these lines give it:`] : []),
      ...lines.map(([number, text]) => element("code", { className: "line" }, `${number}: ${text}`)),
    );
  }

  #table() {
    const shapes = Object.fromEntries(this.example.inputs.map(({ name, shape }) => [name, shape]));
    const group = (name, title, places, shape) => {
      const head = element("th", { colSpan: 4, scope: "rowgroup" }, element("code", {}, title), " ", element("span"));
      const rows = places.map((_, i) => {
        const cells = [0, 1, 2].map(() => element("td", {}, "–"));
        const label = element("th", { scope: "row" }, element("code", {}, title + subscript(shape, i)));
        return { cells, row: element("tr", {}, label, ...cells) };
      });
      this.#cells[name] = { head, rows: rows.map(({ cells }) => cells) };
      return element("tbody", {}, element("tr", {}, head), ...rows.map(({ row }) => row));
    };
    const heads = ["", "derivation", "definition", "kernel"].map((title) => element("th", { scope: "col" }, title));
    const caption =
      "By derivation: the reference's backward, in double precision. By definition: central differences of its " +
      "forward. The kernel: C++ in WebAssembly, in single precision; it lacks no term.";
    const { y, gradients: found } = this.example;
    const table = element(
      "table",
      { className: "ways" },
      element("thead", {}, element("tr", {}, ...heads)),
      ...Object.entries(found).map(([name, places]) => group(name, `d${name}`, places, shapes[name])),
      group("y", "y", y.places, y.shape),
    );
    const region = { className: "wide", tabIndex: 0, role: "region", ariaLabel: "The gradients three ways" };
    return element("div", {}, element("p", { className: "note" }, caption), element("div", region, table));
  }

  #column(name, column, values) {
    this.#cells[name].rows.forEach((cells, i) => {
      cells[column].textContent = values[i] === undefined ? "–" : general(values[i], DIGITS);
    });
  }
}

// Where a number of an array stands: [1,2]; of a single number nothing.
export function subscript(shape, i) {
  const indices = [];
  for (const size of [...shape].reverse()) {
    indices.unshift(i % size);
    i = Math.floor(i / size);
  }
  return indices.length ? `[${indices.join(",")}]` : "";
}

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  if (properties.role) made.setAttribute("role", properties.role);
  made.append(...children);
  return made;
}
