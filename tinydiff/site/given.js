// Numbers that somebody gave an example instead of its own: as text in the address, "x:1,2;w:0.5,-1", and as typed.

const MOST = 20; // in absolute value: where central differences still tell right from wrong

// One number as it was typed. Throws an Error that says what is wanted.
export function readNumber(text) {
  const value = Number(text);
  if (text.trim() === "" || !(Math.abs(value) <= MOST)) throw new Error(`a number from ${-MOST} to ${MOST}`);
  return value;
}

// {name: numbers} of a text, for the inputs of an example.
export function read(text, inputs) {
  const given = {};
  for (const part of text.split(";").filter(Boolean)) {
    const [name, numbers = ""] = part.split(":");
    const input = inputs.find((each) => each.name === name && !each.fixed);
    if (!input) throw new Error(`it gives “${name}”, which this example does not take`);
    const values = numbers.split(",");
    if (values.length !== input.values.length)
      throw new Error(`${name} has ${input.values.length} numbers, got ${values.length}`);
    given[name] = values.map((each) => {
      try {
        return readNumber(each);
      } catch ({ message }) {
        throw new Error(`${name} holds “${each}”, which must be ${message}`);
      }
    });
  }
  return given;
}

// The text for {name: numbers}; what is an example's own is left out.
export function write(given, inputs) {
  return inputs
    .filter(({ name, values }) => given[name]?.some((each, i) => each !== values[i]))
    .map(({ name }) => `${name}:${given[name].join(",")}`)
    .join(";");
}
