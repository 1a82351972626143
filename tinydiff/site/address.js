// A page's state in its address, so that it can be shared, and "back" goes back.
//
//     const address = new Address({ steps: number(25, { min: 1, max: 50 }), sampler: choice("ddim", ["ddpm", "ddim"]) });
//     address.values.steps; address.set({ steps: 10 }); address.onChange((values) => ...);
//     connect(form, address);
//
// A field is {initial, read(text)}; read throws an Error that says what it wants.

export function number(initial, { min = -Infinity, max = Infinity, whole = true } = {}) {
  const kind = whole ? "a whole number" : "a number";
  const read = (text) => {
    const value = Number(text);
    if (text.trim() === "" || !(value >= min && value <= max) || (whole && !Number.isInteger(value)))
      throw new Error(`${kind} from ${min} to ${max}`);
    return value;
  };
  return { initial, read };
}

export function choice(initial, allowed) {
  const read = (text) => {
    if (!allowed.includes(text)) throw new Error(`one of ${allowed.join(", ")}`);
    return text;
  };
  return { initial, read };
}

export class Address {
  #fields;
  #listeners = [];

  constructor(fields) {
    this.#fields = fields;
    this.#read();
    addEventListener("popstate", () => {
      this.#read();
      this.#changed();
    });
  }

  // Take new values; ``replace`` for what is no step that "back" should undo, as a slider that moves.
  set(changes, { replace = false } = {}) {
    this.values = { ...this.values, ...changes };
    this.#wrong = []; // the address is no longer the one that held it
    const query = new URLSearchParams();
    for (const [name, { initial }] of Object.entries(this.#fields))
      if (this.values[name] !== initial) query.set(name, this.values[name]);
    const text = query.toString(),
      url = location.pathname + (text && `?${text}`) + location.hash;
    if (location.pathname + location.search + location.hash !== url)
      history[replace ? "replaceState" : "pushState"](null, "", url);
    this.#changed();
  }

  // Called with all values after every change, also by "back".
  onChange(listener) {
    this.#listeners.push(listener);
  }

  // What an address holds that is none: for a sentence on the page. Empty where all is well.
  get nonsense() {
    return this.#wrong.join(" ");
  }

  #wrong = [];

  #read() {
    const values = (this.values = {});
    this.#wrong = [];
    const query = new URLSearchParams(location.search);
    for (const [name, { initial, read }] of Object.entries(this.#fields)) {
      values[name] = initial;
      if (!query.has(name)) continue;
      try {
        values[name] = read(query.get(name));
      } catch ({ message }) {
        this.#wrong.push(
          `The address says ${name} = “${query.get(name)}”, which must be ${message}; taken is ${initial}.`,
        );
      }
    }
    for (const name of query.keys())
      if (!Object.hasOwn(this.#fields, name))
        this.#wrong.push(`The address names “${name}”, which this page does not know.`);
  }

  #changed() {
    for (const listener of this.#listeners) listener(this.values);
  }
}

// Keep the controls of a form, by their names, and an address the same; an <output> for a control shows its value.
export function connect(form, address) {
  const show = (values) => {
    for (const control of form.elements) {
      if (!Object.hasOwn(values, control.name)) continue;
      const value = values[control.name];
      if (control.type === "radio") control.checked = control.value === String(value);
      else if (control.type === "checkbox") control.checked = Boolean(value);
      else control.value = value;
    }
    for (const output of form.querySelectorAll("output[for]")) {
      const control = document.getElementById(output.htmlFor.value);
      if (control) output.value = control.value;
    }
  };
  const take = ({ target }, replace) => {
    if (!Object.hasOwn(address.values, target.name)) return;
    const before = address.values[target.name],
      text = target.type === "checkbox" ? target.checked : target.value;
    const value = typeof before === "number" ? Number(text) : text;
    if (!target.checkValidity() || text === "") return show(address.values);
    address.set({ [target.name]: value }, { replace });
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => take(event, false));
  form.addEventListener("input", ({ target }) => {
    const output = target.type === "range" && form.querySelector(`output[for="${target.id}"]`);
    if (output) output.value = target.value;
  });
  address.onChange(show);
  show(address.values);
}
