// The engine's Worker: runs programs, while the page (engine.js) stays free.

import { inNode } from "./engine.js";
import { Filters } from "./filters.js";
import { Machine } from "./machine.js";
import { readPrograms, readWeights } from "./program_file.js";

const BETWEEN_LOOKS = 20; // milliseconds of work after which it hears whether it shall stop
const TYPES = { float32: Float32Array, uint8: Uint8Array, int64: BigInt64Array, uint64: BigUint64Array };

class Core {
  #stopped = new Set(); // numbers of runs
  #looked = 0;

  async load(url, threads) {
    const file = await readPrograms(url),
      weights = await readWeights(url, file);
    const machine = (this.machine = await Machine.start(threads));
    this.arrays = file.arrays;
    machine.base = machine.allocate(file.memory);
    this.filters = new Filters(machine, file.filters);
    this.programs = new Map(Object.entries(file.programs).map(([name, each]) => [name, this.#place(each)]));
    for (const [name, values] of Object.entries(weights)) this.set(name, values);
    return { ...file.about, threads, memory: machine.memory.buffer.byteLength };
  }

  // A program whose words lie in memory: {calls: [{call, at, count}], filters, writes}.
  #place({ calls, writes }) {
    const encoded = calls.map((call) => this.machine.encode(call)),
      filters = new Set();
    let at = this.machine.allocate(8 * encoded.flat().length);
    const placed = calls.map((call, i) => {
      const each = { call, at, count: encoded[i].length };
      this.machine.write(at, encoded[i]);
      call.forEach((input, place) => {
        if (input?.prepared === undefined) return;
        filters.add(input.prepared);
        this.filters.usedAt(input.prepared, at + 8 * place);
      });
      at += 8 * each.count;
      return each;
    });
    return { calls: placed, filters: [...filters], writes };
  }

  #view(name) {
    if (!Object.hasOwn(this.arrays, name)) throw new Error(`there is no array ${name}`);
    const { dtype, at, shape } = this.arrays[name];
    return new TYPES[dtype](
      this.machine.memory.buffer,
      this.machine.base + at,
      shape.reduce((a, b) => a * b, 1),
    );
  }

  set(name, values) {
    const view = this.#view(name),
      { at, shape } = this.arrays[name];
    if (values.length !== view.length) {
      const wanted = `(${shape.join(", ")}), ${view.length} values`;
      throw new Error(`${name} has shape ${wanted}, got ${values.length}: a program is written for one size of batch`);
    }
    view.set(typeof view[0] === "bigint" ? Array.from(values, BigInt) : values);
    this.filters.spoil(at, at + view.byteLength);
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

    for (const [start, stop] of program.writes) this.filters.spoil(start, stop);
    this.filters.prepare(program.filters);
    for (const { call, at, count } of program.calls) {
      if (!this.machine.run(call[0], at, count)) throw this.#outside(call);
      if (performance.now() - this.#looked < BETWEEN_LOOKS) continue;
      await breath();
      this.#looked = performance.now();
      if (isStopped()) return false;
    }
    return true;
  }

  #outside([, at, count, low, high, what]) {
    const found = new BigInt64Array(this.machine.memory.buffer, this.machine.base + at, count);
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
  if (data.verb === "help") Machine.help(...data.inputs);
  else if (data.verb === "stop") core.stop(...data.inputs);
  else last = last.then(() => answer(data));
};
