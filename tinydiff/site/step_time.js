// The time of every op in a training step, measured in this tab (tinydiff/pages/step.py).

import { load } from "./engine.js";

const PROGRAM = "gradients/step/program.json",
  ENOUGH = 40; // milliseconds of work for each
const MOST_RUNS = 50;

// {"conv2d.forward": milliseconds, ...} for one step; ``onProgress(done, all)``.
export async function measure(onProgress) {
  const engine = await load(PROGRAM, { threads: 1 });
  try {
    const times = {},
      { programs } = engine.about;
    for (const [i, program] of programs.entries()) {
      const once = await timed(engine, program, 1), // the first also brings it into the caches
        runs = Math.min(MOST_RUNS, Math.ceil(ENOUGH / Math.max(once, 0.1)));
      times[program] = await timed(engine, program, runs);
      onProgress(i + 1, programs.length);
    }
    return times;
  } finally {
    engine.close();
  }
}

async function timed(engine, program, runs) {
  const begun = performance.now();
  await engine.run(new Array(runs).fill(program));
  return (performance.now() - begun) / runs;
}
