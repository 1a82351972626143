// A drawing as the states that Python's samplers yield (tinydiff/samplers): {number, step, x, x0Hat} of image or images,
// the number being how many steps are done; at last the finished ones, with step -1, twice.
//
// Heun asks the network twice a step, the second time where its first guess leads; that is no state. The last x0Hat of a
// way is the finished image itself, from which it differs by a rounding at most.
export async function* states(drawing, steps) {
  for await (const { done, of, step, asked, x, x0Hat } of drawing) {
    const asks = of === steps ? 1 : 2;
    if ((done - 1) % asks === 0) yield { number: (done - 1) / asks, step, x: asked, x0Hat };
    if (done === of) yield { number: steps, step: -1, x, x0Hat: x };
  }
}

// How many times the network answers on a way, for one image.
export function answers(parts, guidance, classes) {
  return parts * (classes > 0 && guidance !== 0 && guidance !== 1 ? 2 : 1);
}

// What is left of the signal at a step, in decibels, from a table of whole steps; between them as Python has it.
export function signalToNoise(table, step) {
  const below = Math.floor(step),
    part = step - below;
  return part === 0 ? table[below] : (1 - part) * table[below] + part * table[below + 1];
}

// Such a number, in words.
export function decibel(value) {
  return `${value.toFixed(1).replace("-", "−")} dB`;
}
