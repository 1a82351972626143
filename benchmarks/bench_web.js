// Times what bench_web.py asks for, in a page or in node: the engine in turn with onnxruntime-web, one thread each.

const WHILE = 100; // milliseconds that each is called again and again for, before it counts and while it does
const WARM = 3000; // and at first, until the browser has compiled it as well as it can

export async function perform(site, [{ ort: address, repeats, cases }]) {
  const { load } = await import(`${site}/engine.js`),
    { draw } = await import(`${site}/drawing.js`),
    { fetchBytes } = await import(`${site}/program_file.js`);
  const ort = await import(address);
  ort.env.wasm.numThreads = 1;
  const results = [];
  for (const asked of cases) {
    const engine = await load(asked.programs, { threads: 1 });
    const functions = { tinydiff: () => works[asked.work](engine, asked, draw) };
    if (asked.onnx) functions["onnxruntime-web"] = await evaluation(ort, await fetchBytes(asked.onnx), asked);
    results.push({ seconds: await interleaved(functions, repeats), difference: await difference(functions) });
    engine.close();
  }
  return results;
}

function input(count) {
  return Float32Array.from({ length: count }, (_, i) => Math.sin(1.7 * i));
}

const works = {
  async evaluate(engine, { shape }) {
    const set = { x: input(shape.reduce((a, b) => a * b)) };
    const [{ prediction }] = await engine.run([{ program: "predict", set, get: ["prediction"] }]);
    return prediction;
  },
  async draw(engine, { batch, guidance }, draw) {
    let last;
    for await (last of draw(engine, { labels: new Array(batch).fill(3), guidance }));
    return last.x;
  },
  async train(engine) {
    const set = { number: [(engine.steps = (engine.steps ?? 0) + 1)], learning_rate: [1e-3], average_decay: [0.99] };
    const [{ loss }] = await engine.run([{ program: "train", set, get: ["loss"] }]);
    return loss;
  },
};

// One evaluation by onnxruntime-web of the same input, images there being (N, C, H, W): of one channel the same order.
async function evaluation(ort, onnx, { batch, shape }) {
  const session = await ort.InferenceSession.create(onnx, { executionProviders: ["wasm"] });
  const step = new ort.Tensor("float32", new Float32Array(batch), [batch]);
  const labels = new ort.Tensor("int64", new BigInt64Array(batch), [batch]);
  const [N, H, W, C] = shape;
  return async () => {
    const x = new ort.Tensor("float32", input(N * H * W * C), [N, C, H, W]);
    return (await session.run({ x, step, labels })).prediction.data;
  };
}

// In turn, A B A B ..., so that a machine that slows down slows both.
async function interleaved(functions, repeats) {
  for (const work of Object.values(functions)) await calls(work, WARM);
  const seconds = Object.fromEntries(Object.keys(functions).map((name) => [name, []]));
  for (let round = 0; round < repeats; round++)
    for (const [name, work] of Object.entries(functions)) {
      await calls(work);
      seconds[name].push(await calls(work));
    }
  return seconds;
}

async function calls(work, enough = WHILE) {
  const begun = performance.now();
  for (let count = 1; ; count++) {
    await work();
    const passed = performance.now() - begun;
    if (passed >= enough) return passed / count / 1e3;
  }
}

// The largest difference of what two functions give, as a share of the largest value.
async function difference(functions) {
  const [ours, theirs] = await Promise.all(Object.values(functions).map((work) => work()));
  if (!theirs) return 0;
  const largest = (values) => values.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  return largest(ours.map((value, i) => value - theirs[i])) / largest(ours);
}
