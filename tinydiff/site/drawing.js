// Draws with an engine that holds a model's programs (tinydiff/program/web.py).

// Go a sampler's way from noise to images, one for each label; gives {done, of, step, asked, x, x0Hat} after each part
// of it: what the network was asked about, what it is asked about next (the last x being finished), and what it took the
// clean images for.
//     labels        as many as the programs draw at a time; about.classes itself asks for "any class"
//     seed, first   image i depends on (seed, first + i) alone
//     x, from       begin with this x, at that entry of the way, where programs have its entries apart (program/stages.py)
//     signal        of an AbortController
export async function* draw(
  engine,
  { labels, seed = 0, first = 0, sampler = "ddim", steps = 25, guidance = 1, x: begun, from = 0, signal },
) {
  const { ways, classes, count, numbers } = engine.about;
  const way = ways[sampler]?.[steps];
  if (!way) throw new Error(`these programs have no way of ${steps} steps for ${sampler}; they have ${describe(ways)}`);
  if (!(guidance >= 0 && guidance < Infinity)) throw new Error(`guidance must be at least 0, got ${guidance}`);
  const padded = (row) => Float32Array.from({ length: numbers }, (_, k) => row[k] ?? 0);
  const isGuided = classes > 0 && guidance !== 0 && guidance !== 1;
  await engine.set("labels", guidance === 0 ? labels.map(() => classes) : labels);
  if (isGuided) await engine.set("guidance", [guidance]);
  const sample = Array.from({ length: count }, (_, i) => first + i);
  let [{ x: asked }] = await engine.run([{ program: "start", set: { seed: [seed], sample }, get: ["x"] }], { signal });
  if (begun) await engine.set("x", (asked = begun));
  for (let i = from; i < way.length; i++) {
    const [stage, step, row] = way[i];
    const ask = { program: isGuided ? "predict_guided" : "predict", set: { step: new Array(count).fill(step) } };
    const move = { program: stage, set: { numbers: padded(row), draw: [i] }, get: ["x", "x0_hat"] };
    const [, { x, x0_hat }] = await engine.run([ask, move], { signal });
    yield { done: i + 1, of: way.length, step, asked, x, x0Hat: x0_hat };
    asked = x;
  }
}

function describe(ways) {
  return Object.entries(ways)
    .map(([sampler, counts]) => `${sampler} of ${Object.keys(counts).join(", ")}`)
    .join("; ");
}
