// The WebAssembly module (csrc/wasm) and its memory; one of its threads.

import { inNode, startWorker } from "./engine.js";
import { encode, fetchBytes } from "./program_file.js";

const STACK = 128 << 10; // bytes a thread, as csrc/wasm/build.py gives the first
const FEWEST_PAGES = 32,
  MOST_PAGES = 32768; // of 64 kB each, of memory that threads share
const OWN_CALL = 512; // bytes of words

export class Machine {
  base = 0; // where the memory of programs begins: all offsets count from there

  // With ``threads`` - 1 Workers more, that help.
  static async start(threads) {
    const name = threads > 1 ? "engine_threads.wasm" : "engine.wasm",
      code = await fetchBytes(new URL(name, import.meta.url));
    const module = await WebAssembly.compile(code).catch(() =>
      Promise.reject(new Error(`${name} is damaged: load the page again`)),
    );
    const shared = { initial: FEWEST_PAGES, maximum: MOST_PAGES, shared: true };
    const memory = threads > 1 ? new WebAssembly.Memory(shared) : null;
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    exports._initialize();
    const machine = new Machine(exports, memory ?? exports.memory);
    for (let thread = 1; thread < threads; thread++) {
      const stack = machine.allocate(STACK) + STACK,
        locals = machine.allocate(exports.__tls_size.value);
      (await startWorker()).postMessage({ verb: "help", inputs: [module, memory, stack, locals] });
    }
    return machine;
  }

  // In such a Worker: take part in the work, for ever.
  static async help(module, memory, stack, locals) {
    const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
    exports.__stack_pointer.value = stack;
    exports.__wasm_init_tls(locals);
    exports.help();
  }

  constructor(exports, memory) {
    this.wasm = exports;
    this.memory = memory;
    this.kernels = new Map(); // name -> number
    for (let at; (at = exports.kernel_name(this.kernels.size));) this.kernels.set(this.#string(at), this.kernels.size);
    this.ownCall = this.allocate(OWN_CALL);
  }

  // New memory; there is no way to give it back.
  allocate(bytes) {
    const at = bytes < 2 ** 32 ? this.wasm.allocate(bytes) >>> 0 : 0;
    if (!at)
      throw new Error(`the engine needs ${Math.ceil(bytes / 2 ** 20)} MB of memory, which the browser does not give`);
    return at;
  }

  // A call's words, as program_file.js has them of a file's calls.
  encode(call) {
    const number = this.kernels.get(call[0]);
    if (number === undefined) throw new Error(`a program calls ${call[0]}, which this engine does not have`);
    return encode(call, number);
  }

  write(at, words) {
    new BigInt64Array(this.memory.buffer, at, words.length).set(words);
  }

  // Run the words of one call of a kernel; whether they got through: else a check failed.
  run(kernel, at, count) {
    try {
      return this.wasm.run(at, count, this.base) === count;
    } catch (error) {
      throw new Error(
        this.wasm.out_of_memory() ? `no memory is left for ${kernel}` : `${kernel} failed: ${error.message}`,
      );
    }
  }

  // Call a kernel that no program calls. Pointers count from the base.
  call(...call) {
    const words = this.encode(call);
    this.write(this.ownCall, words);
    this.run(call[0], this.ownCall, words.length);
  }

  #string(at) {
    const bytes = new Uint8Array(this.memory.buffer);
    return String.fromCharCode(...bytes.subarray(at, bytes.indexOf(0, at)));
  }
}
