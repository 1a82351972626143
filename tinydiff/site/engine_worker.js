// The engine's Worker: holds the memory and runs programs in it, while the page (engine.js) stays free.

import { inNode, startWorker } from "./engine.js";
import { encode, fetchBytes, readPrograms, readWeights } from "./program_file.js";

const BETWEEN_LOOKS = 20; // milliseconds of work after which it hears whether it shall stop
const STACK = 128 << 10; // bytes a thread, as csrc/wasm/build.py gives the first
const MOST_PAGES = 32768; // of 64 kB each, of memory that threads share
const TYPES = { float32: Float32Array, uint8: Uint8Array, int64: BigInt64Array, uint64: BigUint64Array };

class Core {
  #stopped = new Set(); // numbers of runs
  #looked = 0;

  async load(url, threads) {
    const name = threads > 1 ? "engine_threads.wasm" : "engine.wasm";
    const [code, file] = await Promise.all([fetchBytes(new URL(name, import.meta.url)), readPrograms(url)]);
    const weights = await readWeights(url, file);
    const damaged = () => Promise.reject(new Error(`${name} is damaged: load the page again`));
    await this.#start(await WebAssembly.compile(code).catch(damaged), threads);
    this.arrays = file.arrays;
    this.base = this.#allocate(file.memory);
    this.programs = this.#place(file.programs);
    for (const [name, values] of Object.entries(weights)) this.set(name, values);
    return { ...file.about, threads, memory: this.memory.buffer.byteLength };
  }

  async #start(module, threads) {
    this.memory = threads > 1 ? new WebAssembly.Memory({ initial: 32, maximum: MOST_PAGES, shared: true }) : null;
    this.wasm = (await WebAssembly.instantiate(module, { env: { memory: this.memory } })).exports;
    this.memory ??= this.wasm.memory;
    this.wasm._initialize();
    this.kernels = new Map();
    for (let at; (at = this.wasm.kernel_name(this.kernels.size));)
      this.kernels.set(this.#string(at), this.kernels.size);
    for (let thread = 1; thread < threads; thread++) {
      const stack = this.#allocate(STACK) + STACK,
        locals = this.#allocate(this.wasm.__tls_size.value);
      (await startWorker()).postMessage({ verb: "help", inputs: [module, this.memory, stack, locals] });
    }
  }

  // Take part in the work of the Worker that shares this memory, for ever.
  async help(module, memory, stack, locals) {
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    exports.__stack_pointer.value = stack;
    exports.__wasm_init_tls(locals);
    exports.help();
  }

  #string(at) {
    const bytes = new Uint8Array(this.memory.buffer);
    return String.fromCharCode(...bytes.subarray(at, bytes.indexOf(0, at)));
  }

  #allocate(bytes) {
    const at = bytes < 2 ** 32 ? this.wasm.allocate(bytes) >>> 0 : 0;
    if (!at)
      throw new Error(`the engine needs ${Math.ceil(bytes / 2 ** 20)} MB of memory, which the browser does not give`);
    return at;
  }

  // Each program's calls, and where in memory the words of each lie: [{call, at, count}].
  #place(programs) {
    const words = [],
      placed = new Map();
    for (const [name, { calls }] of Object.entries(programs)) {
      const encoded = calls.map((call) => {
        const number = this.kernels.get(call[0]);
        if (number === undefined)
          throw new Error(`the program ${name} calls ${call[0]}, which this engine does not have`);
        return { call, words: encode(call, number) };
      });
      placed.set(
        name,
        encoded.map((each) => {
          const at = 8 * words.length;
          words.push(...each.words);
          return { call: each.call, at, count: each.words.length };
        }),
      );
    }
    this.words = this.#allocate(8 * words.length);
    new BigInt64Array(this.memory.buffer, this.words, words.length).set(words);
    return placed;
  }

  #view(name) {
    if (!Object.hasOwn(this.arrays, name)) throw new Error(`there is no array ${name}`);
    const array = this.arrays[name];
    return new TYPES[array.dtype](
      this.memory.buffer,
      this.base + array.at,
      array.shape.reduce((a, b) => a * b, 1),
    );
  }

  set(name, values) {
    const view = this.#view(name);
    if (values.length !== view.length) {
      const wanted = `(${this.arrays[name].shape.join(", ")}), ${view.length} values`;
      throw new Error(`${name} has shape ${wanted}, got ${values.length}: a program is written for one size of batch`);
    }
    view.set(typeof view[0] === "bigint" ? Array.from(values, BigInt) : values);
  }

  get(name) {
    return new (this.#view(name).constructor)(this.#view(name)); // of its own, also where threads share the memory
  }

  stop(run) {
    this.#stopped.add(run);
  }

  // Gives null where it was stopped; ``number`` is that of the run.
  async run(calls, number, report) {
    const results = [],
      isStopped = () => this.#stopped.has(number);
    for (const call of calls) {
      const { program, set = {}, get = [] } = typeof call === "string" ? { program: call } : call;
      for (const [name, values] of Object.entries(set)) this.set(name, values);
      if (isStopped() || !(await this.#runProgram(program, isStopped))) return null;
      results.push(Object.fromEntries(get.map((name) => [name, this.get(name)])));
      report(results.length, calls.length, results.at(-1));
    }
    return results;
  }

  async #runProgram(name, isStopped) {
    const program = this.programs.get(name);
    if (!program) throw new Error(`there is no program ${name}; there are ${[...this.programs.keys()].join(", ")}`);
    for (const { call, at, count } of program) {
      if (this.#run(call[0], this.words + at, count) !== count) throw this.#outside(call);
      if (performance.now() - this.#looked < BETWEEN_LOOKS) continue;
      await breath();
      this.#looked = performance.now();
      if (isStopped()) return false;
    }
    return true;
  }

  #run(kernel, at, count) {
    try {
      return this.wasm.run(at, count, this.base);
    } catch (error) {
      throw new Error(
        this.wasm.out_of_memory() ? `no memory is left for ${kernel}` : `${kernel} failed: ${error.message}`,
      );
    }
  }

  #outside([, at, count, low, high, what]) {
    const found = new BigInt64Array(this.memory.buffer, this.base + at, count);
    return new Error(`${what} must lie in [${low}, ${high}), got ${found.find((each) => each < low || each >= high)}`);
  }
}

// Ends when all messages that have come are heard.
function breath() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(port1.close());
    port2.postMessage(null);
  });
}

const port = inNode ? (await import("node:worker_threads")).parentPort : globalThis;
const core = new Core();
let last = Promise.resolve(); // what is asked is done in its order, for a run that takes a breath is not over

async function answer({ number, verb, inputs }) {
  try {
    const report = (...progress) => port.postMessage({ number, progress });
    port.postMessage({ number, result: await core[verb](...inputs, number, report) });
  } catch (error) {
    port.postMessage({ number, error: error.message });
  }
}

port.onmessage = ({ data }) => {
  if (data.verb === "stop" || data.verb === "help") core[data.verb](...data.inputs);
  else last = last.then(() => answer(data));
};
