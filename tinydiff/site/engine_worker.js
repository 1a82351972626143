// The engine's Worker: holds the memory and runs programs in it, while the page (engine.js) stays free.

import { inNode, startWorker } from "./engine.js";
import { encode, fetchBytes, readPrograms, readWeights } from "./program_file.js";

const BETWEEN_LOOKS = 20; // milliseconds of work after which it hears whether it shall stop
const STACK = 128 << 10; // bytes a thread, as csrc/wasm/build.py gives the first
const MOST_PAGES = 32768; // of 64 kB each, of memory that threads share
const TYPES = { float32: Float32Array, uint8: Uint8Array, int64: BigInt64Array, uint64: BigUint64Array };

class Core {
  #stopped = false;
  #looked = 0;

  async load(url, threads) {
    const name = threads > 1 ? "engine_threads.wasm" : "engine.wasm";
    const [code, file] = await Promise.all([fetchBytes(new URL(name, import.meta.url)), readPrograms(url)]);
    const weights = await readWeights(url, file);
    const damaged = () => Promise.reject(new Error(`${name} is damaged: load the page again`));
    await this.#start(await WebAssembly.compile(code).catch(damaged), threads);
    this.arrays = file.arrays;
    this.base = this.#allocate(file.memory);
    this.programs = new Map(Object.entries(file.programs).map(([name, each]) => [name, this.#place(name, each)]));
    for (const [name, values] of Object.entries(weights)) this.set(name, values);
    return { ...file.about, threads, memory: this.memory.buffer.byteLength };
  }

  async #start(module, threads) {
    this.memory = threads > 1 ? new WebAssembly.Memory({ initial: 32, maximum: MOST_PAGES, shared: true }) : null;
    this.wasm = (await WebAssembly.instantiate(module, { env: { memory: this.memory } })).exports;
    this.memory ??= this.wasm.memory;
    this.wasm._initialize();
    this.kernels = new Map();
    for (let at; (at = this.wasm.kernel_name(this.kernels.size)); ) this.kernels.set(this.#string(at), this.kernels.size);
    for (let thread = 1; thread < threads; thread++) {
      const stack = this.#allocate(STACK) + STACK, locals = this.#allocate(this.wasm.__tls_size.value);
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
    if (!at) throw new Error(`the engine needs ${Math.ceil(bytes / 2 ** 20)} MB of memory, which the browser does not give`);
    return at;
  }

  // A program's words in memory, and where each call's begin.
  #place(name, { calls }) {
    const starts = [0], words = [];
    for (const call of calls) {
      if (!this.kernels.has(call[0])) throw new Error(`the program ${name} calls ${call[0]}, which this engine does not have`);
      words.push(...encode(call, this.kernels.get(call[0])));
      starts.push(words.length);
    }
    const at = this.#allocate(8 * words.length);
    new BigInt64Array(this.memory.buffer, at, words.length).set(words);
    return { at, starts, calls };
  }

  #view(name) {
    const array = this.arrays[name];
    if (!array) throw new Error(`there is no array ${name}`);
    return new TYPES[array.dtype](this.memory.buffer, this.base + array.at, array.shape.reduce((a, b) => a * b, 1));
  }

  set(name, values) {
    const view = this.#view(name);
    if (values.length !== view.length) {
      const shape = this.arrays[name].shape.join(", ");
      throw new Error(`${name} has shape (${shape}), ${view.length} values, got ${values.length}: a program is written for one size of batch`);
    }
    view.set(typeof view[0] === "bigint" ? Array.from(values, BigInt) : values);
  }

  get(name) {
    return new (this.#view(name).constructor)(this.#view(name)); // of its own, also where threads share the memory
  }

  stop() {
    this.#stopped = true;
  }

  // Gives null where it was stopped.
  async run(calls, report) {
    const results = [];
    this.#stopped = false;
    for (const call of calls) {
      const { program, set = {}, get = [] } = typeof call === "string" ? { program: call } : call;
      for (const [name, values] of Object.entries(set)) this.set(name, values);
      if (!(await this.#runProgram(program))) return null;
      results.push(Object.fromEntries(get.map((name) => [name, this.get(name)])));
      report(results.length, calls.length, results.at(-1));
    }
    return results;
  }

  async #runProgram(name) {
    const program = this.programs.get(name);
    if (!program) throw new Error(`there is no program ${name}; there are ${[...this.programs.keys()].join(", ")}`);
    for (const [i, call] of program.calls.entries()) {
      const start = program.starts[i], count = program.starts[i + 1] - start;
      if (this.#call(call, program.at + 8 * start, count) !== count) throw this.#outside(call);
      if (performance.now() - this.#looked < BETWEEN_LOOKS) continue;
      await breath();
      this.#looked = performance.now();
      if (this.#stopped) return false;
    }
    return true;
  }

  #call([kernel], at, count) {
    try {
      return this.wasm.run(at, count, this.base);
    } catch (error) {
      throw new Error(this.wasm.out_of_memory() ? `no memory is left for ${kernel}` : `${kernel} failed: ${error.message}`);
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
port.onmessage = async ({ data: { number, verb, inputs = [] } }) => {
  const report = (...progress) => port.postMessage({ number, progress });
  try {
    const result = await core[verb](...inputs, report);
    if (number) port.postMessage({ number, result });
  } catch (error) {
    port.postMessage({ number, error: error.message });
  }
};
