// Does a list of things with an engine and tells what each gave; in node and in a page alike. Arrays travel in base64.

const KINDS = { Float32Array, Uint8Array, BigInt64Array, BigUint64Array };

// What a host can be made to look like.
const PRETEND = {
  "no SIMD": () => void (WebAssembly.validate = () => false),
  "a file": () => void (globalThis.location = { protocol: "file:" }), // in node alone
};

export async function perform(site, steps) {
  const { load } = await import(`${site}/engine.js`),
    { draw } = await import(`${site}/drawing.js`);
  const results = [];
  let engine;
  for (const [verb, ...inputs] of steps) {
    try {
      results.push(await perform1(verb, inputs.map(unpack)));
    } catch (error) {
      results.push({ error: error.message, name: error.name });
    }
  }
  engine?.close();
  return pack(results);

  async function perform1(verb, [first, ...others]) {
    if (verb === "load") return (engine = await load(first, ...others)).about;
    if (verb === "run") return engine.run(first);
    if (verb === "stop") return stopped(first, ...others);
    if (verb === "draw") return all(draw(engine, first));
    if (verb === "pretend") return PRETEND[first]();
    if (verb === "progress") return heard(first);
    if (verb === "at once") return Promise.all(first.map((calls) => engine.run(calls)));
    return engine[verb](first, ...others);
  }

  // Run, and tell what was heard meanwhile.
  async function heard(calls) {
    const progress = [];
    await engine.run(calls, { onProgress: (done, all, got) => progress.push({ done, all, got }) });
    return progress;
  }

  // Run and be stopped after so many milliseconds, then say how long it took to end.
  async function stopped(calls, after) {
    const controller = new AbortController(),
      begun = performance.now();
    setTimeout(() => controller.abort(), after);
    const name = await engine.run(calls, { signal: controller.signal }).then(
      () => null,
      (error) => error.name,
    );
    return { name, ms: performance.now() - begun - after };
  }
}

async function all(iterator) {
  const found = [];
  for await (const each of iterator) found.push(each);
  return found;
}

export function unpack(value) {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if (!("base64" in value)) return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, unpack(each)]));
  return new KINDS[value.kind](Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0)).buffer);
}

export function pack(value) {
  if (Array.isArray(value)) return value.map(pack);
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    let text = "";
    for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
    return { kind: value.constructor.name, base64: btoa(text) };
  }
  if (value === null || typeof value !== "object") return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, pack(each)]));
}
