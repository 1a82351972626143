// Runs the arithmetic of a worked example (tinydiff/pages/examples.py) in double precision, at any numbers: what the
// reference in NumPy computed, operation by operation.

const OPERATIONS = {
  "+": (a, b) => a + b,
  "-": (a, b) => a - b,
  "*": (a, b) => a * b,
  "/": (a, b) => a / b,
  max: Math.max,
  min: Math.min,
  sign: Math.sign,
  equal: (a, b) => Number(a === b),
  neg: (a) => -a,
  exp: Math.exp,
  log: Math.log,
  sqrt: Math.sqrt,
  erfc,
};

// The complementary error function, which JavaScript lacks, to about 13 digits: a series around 0, farther out a
// continued fraction (Abramowitz and Stegun, 7.1.6 and 7.1.14).
function erfc(x) {
  if (x < 0) return 2 - erfc(-x);
  if (x < 2.5) {
    let sum = 0;
    for (let term = x, n = 0; Math.abs(term) > 1e-17 * sum; n++, term *= (2 * x * x) / (2 * n + 1)) sum += term;
    return 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
  }
  let below = x;
  for (let n = 120; n > 0; n--) below = x + n / 2 / below;
  return Math.exp(-x * x) / Math.sqrt(Math.PI) / below;
}

// The value of each node, or of the first ones, the inputs being these in their order.
export function run(nodes, inputs, count = nodes.length) {
  const values = new Float64Array(count);
  let next = 0;
  for (let i = 0; i < count; i++) {
    const node = nodes[i];
    if (node === null) values[i] = inputs[next++];
    else if (typeof node === "number") values[i] = node;
    else values[i] = OPERATIONS[node[0]](values[node[1]], values[node[2]]);
  }
  return values;
}

// The numbers of an example's inputs that its tape has, one after another; ``given`` is {name: numbers}.
export const flat = (example, given) =>
  example.inputs.flatMap(({ name, values, traced }) => (traced ? (given[name] ?? values) : []));

// An example at some numbers: {gradients: {name: {derived, defined, difference, error, isRight}}, y, values}. Each gradient is
// that of the derivation and that by the definition, with the largest difference, also relative to the gradient's size;
// the values are those of the whole tape.
//     term    which one the backward lacks, if any
export function gradients(about, example, given, term) {
  const inputs = flat(example, given),
    values = run(example.nodes, inputs);
  const broken = example.without[term]?.gradients ?? {},
    found = {};
  for (const [name, places] of Object.entries(example.gradients))
    found[name] = { derived: (broken[name] ?? places).map((place) => values[place]) };
  const scales = scalesOf(found, about.floor);
  let first = 0;
  for (const { name, values: own, traced } of example.inputs) {
    if (name in found) {
      const defined = own.map((_, i) => slope(about, example, inputs, first + i));
      const difference = Math.max(...defined.map((each, i) => missing(Math.abs(each - found[name].derived[i]))));
      found[name] = { ...found[name], defined, difference, error: difference / scales[name] };
      found[name].isRight = found[name].error <= about.tolerance;
    }
    if (traced) first += own.length;
  }
  return { gradients: found, y: example.y.places.map((place) => values[place]), values };
}

// The derivative of sum(dy y) in one input, by central differences at two step sizes (tinydiff/gradcheck/adjoint.py).
function slope({ step }, { nodes, forward, y, inputs: described }, inputs, place) {
  const dy = inputs.slice(inputs.length - y.places.length);
  const loss = (by) => {
    const values = run(nodes, inputs.with(place, inputs[place] + by), forward);
    return y.places.reduce((sum, at, i) => sum + dy[i] * values[at], 0);
  };
  const difference = (h) => (loss(h) - loss(-h)) / (2 * h);
  return (4 * difference(step) - difference(2 * step)) / 3;
}

// What an error of each gradient is relative to: its root mean square; of one much smaller than the largest, that of the
// largest.
function scalesOf(found, floor) {
  const sizes = Object.fromEntries(
    Object.entries(found).map(([name, { derived }]) => [
      name,
      Math.sqrt(derived.reduce((sum, each) => sum + each * each, 0) / derived.length),
    ]),
  );
  const largest = Math.max(...Object.values(sizes));
  for (const name in sizes) sizes[name] = Math.max(sizes[name], floor * largest, 2 ** -1022);
  return sizes;
}

const missing = (error) => (Number.isNaN(error) ? Infinity : error);

// A line with its numbers filled in; each part is a text, or a format and a place.
export const filled = (line, values) =>
  line.map((part) => (typeof part === "string" ? part : FORMATS[part[0]](values[part[1]]))).join("");

const FORMATS = {
  ".4g": (value) => general(value),
  "(.4g)": (value) => (value < 0 ? `(${general(value)})` : general(value)),
  0: (value) => general(Math.abs(Number(value.toFixed(12)))),
};

// A number in at most so many digits, as Python's "g" has it: of two that are equally near, the even one.
export function general(value, digits = 4) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "nan" : value < 0 ? "-inf" : "inf";
  if (value === 0) return "0";
  let [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const exact = Math.abs(value).toExponential(60),
    rest = exact.slice(digits + 1, exact.indexOf("e"));
  if (/^50*$/.test(rest) && exact[digits === 1 ? 0 : digits] % 2 === 0)
    [mantissa, exponent] =
      `${value < 0 ? "-" : ""}${exact.slice(0, digits + 1)}${exact.slice(exact.indexOf("e"))}`.split("e");
  const power = Number(exponent);
  if (power >= -4 && power < digits) return String(Number(`${mantissa}e${exponent}`));
  const sign = power < 0 ? "-" : "+";
  return `${Number(mantissa)}e${sign}${String(Math.abs(power)).padStart(2, "0")}`;
}
