// A drawing as points: dabs of colour, each a place and a class.

export const JITTER = 0.03; // of points about their dab
export const MOST_DABS = 400;
const LIMIT = 1.4, // places lie within, in both directions
  LEVELS = 64; // of a place in either direction: one letter each
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

// A place on the lattice of those that an address can hold: [column, row].
export const nearest = (x, y) =>
  [x, y].map((each) => Math.min(LEVELS - 1, Math.max(0, Math.round(((each / LIMIT + 1) / 2) * (LEVELS - 1)))));
export const placeOf = (level) => ((2 * level) / (LEVELS - 1) - 1) * LIMIT;

// Dabs [[class, column, row], ...] as three letters each, for an address.
export const encode = (dabs) => dabs.map(([label, ...at]) => label + at.map((each) => LETTERS[each]).join("")).join("");

// Back again; an Error says what is wrong with other text.
export function decode(text) {
  const dabs = (text.match(/[0-7][\w-]{2}/g) ?? []).map(([label, ...at]) => [
    Number(label),
    ...at.map((letter) => LETTERS.indexOf(letter)),
  ]);
  if (encode(dabs) !== text || dabs.length > MOST_DABS)
    throw new Error(`a class and two letters for each dab, at most ${MOST_DABS} of them`);
  return dabs;
}

// Points (flat) and labels, as many as there are random numbers: each belongs to a dab, chosen evenly, and lies about it.
export function pointsOf(dabs, { uniform, normal }) {
  const chosen = Array.from(uniform, (each) => dabs[Math.min(dabs.length - 1, Math.floor(each * dabs.length))]);
  return {
    points: Float32Array.from(normal, (each, i) => placeOf(chosen[i >> 1][1 + (i % 2)]) + JITTER * each),
    labels: Uint8Array.from(chosen, ([label]) => label),
  };
}
