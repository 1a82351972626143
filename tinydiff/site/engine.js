// The engine in a page: programs that tinydiff wrote (tinydiff/program/file.py), run by engine.wasm in a Worker.
//
//     const engine = await load("digits/program.json");
//     await engine.set("labels", [3]);
//     await engine.run(["predict"], { onProgress, signal });
//     const prediction = await engine.get("prediction");
//
// In browsers, and in node. Every error says in one sentence what is wrong.

export const inNode = Boolean(globalThis.process?.versions?.node);
const MOST_THREADS = 4; // by default
// A module with one function that makes a vector: valid where there is SIMD.
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
];

// An engine with the programs of one file, whose weights lie beside it.
//     threads  how many work: one or, where the page is cross-origin isolated, one a core
export async function load(url, { threads = isolatedThreads() } = {}) {
  if (globalThis.location?.protocol === "file:")
    throw new Error("this page was opened as a file, where browsers start no Worker: serve its folder and open that");
  if (threads > 1 && !inNode && !globalThis.crossOriginIsolated)
    throw new Error(
      "threads need a page that is cross-origin isolated: serve it with those two headers, or take one thread",
    );
  if (!globalThis.WebAssembly?.validate(new Uint8Array(SIMD)))
    throw new Error("this browser has no WebAssembly with SIMD, which the engine needs; those since 2023 have it");
  const engine = new Engine(await startWorker());
  try {
    engine.about = await engine.ask("load", [new URL(url, globalThis.location?.href ?? import.meta.url).href, threads]);
  } catch (error) {
    engine.close();
    throw error;
  }
  return engine;
}

function isolatedThreads() {
  return globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
}

export async function startWorker() {
  const script = new URL("engine_worker.js", import.meta.url);
  return inNode ? new (await import("node:worker_threads")).Worker(script) : new Worker(script, { type: "module" });
}

// The page's side of the Worker: asks, and hears.
class Engine {
  #worker;
  #asked = new Map(); // number of a question -> who waits for its answer
  #questions = 0;

  constructor(worker) {
    this.#worker = worker;
    const fail = (error) => this.#fail(error.message ?? "the engine's Worker did not start");
    if (inNode) worker.on("message", (heard) => this.#hear(heard)).on("error", fail);
    else [worker.onmessage, worker.onerror] = [({ data }) => this.#hear(data), fail];
  }

  // Put values, a typed array or numbers, as many as the array of that name has, where programs read them.
  set(name, values) {
    return this.ask("set", [name, values]);
  }

  // A copy of an array as it is now.
  get(name) {
    return this.ask("get", [name]);
  }

  // Run programs one after another. A call is a program's name, or {program, set: {name: values}, get: [names]}: what
  // is set before and got after it. Gives {name: array} of each call.
  //     onProgress(done, all, got)  after each
  //     signal                      of an AbortController; what is stopped leaves arrays as they are between kernels
  async run(calls, { onProgress, signal } = {}) {
    signal?.throwIfAborted();
    const answer = this.ask("run", [calls], onProgress),
      number = this.#questions;
    const stop = () => this.#worker.postMessage({ verb: "stop", inputs: [number] });
    signal?.addEventListener("abort", stop);
    try {
      const results = await answer;
      if (!results) throw signal.reason;
      return results;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }

  // Give its memory back. What was asked and not answered fails.
  close() {
    this.#worker.terminate();
    this.#fail("the engine was closed");
  }

  ask(verb, inputs, onProgress) {
    return new Promise((resolve, reject) => {
      this.#asked.set(++this.#questions, { resolve, reject, onProgress });
      this.#worker.postMessage({ number: this.#questions, verb, inputs });
    });
  }

  #hear({ number, progress, result, error }) {
    const { resolve, reject, onProgress } = this.#asked.get(number) ?? {};
    if (progress) return onProgress?.(...progress);
    this.#asked.delete(number);
    error === undefined ? resolve?.(result) : reject?.(new Error(error));
  }

  #fail(message) {
    for (const { reject } of this.#asked.values()) reject(new Error(message));
    this.#asked.clear();
  }
}
