// Does a list of things with the modules of the lab, in node.

import { pack, unpack } from "../site/driver.js";

export async function perform(site, steps) {
  const from = (name) => import(`${site}/${name}.js`);
  const [{ load }, { LabModel }, training, score, mmd, points, quality] = await Promise.all(
    ["engine", "lab_model", "lab_training", "lab_score", "mmd", "lab_points", "lab_quality"].map(from),
  );
  let engine, lab;
  const verbs = {
    async load(address) {
      engine = await load(address);
      lab = new LabModel(engine);
      return engine.about;
    },
    begin: async (set, how) => lab.begin(typeof set === "string" ? await lab.set(set) : set, how),
    train: async (count, rate) => Float64Array.from(await lab.train(count, rate)),
    trainInRuns: async (count, rate) => {
      const runs = new training.Training(lab, { onRun: () => {}, onEnd: () => {} });
      await runs.go(count, () => rate);
      return Float64Array.from(runs.losses);
    },
    async draw(options) {
      let x;
      for await (const state of lab.draw(options)) x = state.x;
      return x;
    },
    curves: (losses) => training.curves(Array.from(losses), 100),
    recent: (losses) => training.recent(Array.from(losses)),
    score: (mixture, at, ...others) => new score.Mixture(mixture).guided(at, ...others),
    errors: (...fields) => score.errors(...fields),
    lattice: (...options) => score.lattice(...options),
    bandwidths: (real) => mmd.medianBandwidths(real),
    squaredMmd: (...inputs) => mmd.squaredMmd(...inputs),
    floorOf: (...inputs) => mmd.floorOf(...inputs),
    halvings: () => quality.halvings(lab),
    decode: (text) => points.decode(text),
    encode: (dabs) => points.encode(dabs),
    pointsOf: async (dabs) => points.pointsOf(dabs, await lab.counters(0)),
    get: (name) => engine.get(name),
    set: (name) => lab.set(name),
    noiseIn: (...inputs) => lab.noiseIn(...inputs),
  };
  const results = [];
  for (const [verb, ...inputs] of steps) {
    try {
      const result = await verbs[verb](...inputs.map(unpack));
      results.push(floats(result));
    } catch (error) {
      results.push({ error: error.message });
    }
  }
  engine?.close();
  return pack(results);
}

// Arrays of float64 as numbers, which JSON keeps exactly.
function floats(value) {
  return value instanceof Float64Array ? Array.from(value) : (value ?? null);
}
