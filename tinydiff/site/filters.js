// Filters of convolutions, prepared once for many runs (tinydiff/program/prepare.py says why), until something writes
// to them: one evaluation of one image takes 0.7 of the time.

const MOST_BYTES = 256 << 20; // of memory for them; what goes beyond is made at every call, as without all this

export class Filters {
  #taken = 0;

  // ``listed`` as the file has them
  constructor(machine, listed) {
    this.machine = machine;
    this.result = machine.allocate(8);
    this.all = listed.map((each) => ({ ...each, calls: [], room: undefined, isReady: false }));
  }

  // A call takes the filters of this number: where its word for them lies. Null stands there as long as there are none.
  usedAt(number, word) {
    this.all[number].calls.push(word);
  }

  // Before a program that uses these runs.
  prepare(numbers) {
    for (const each of numbers.map((number) => this.all[number])) {
      each.room ??= this.#makeRoom(each);
      if (!each.room || each.isReady) continue;
      this.machine.call("conv2d_prepare", each.at, each.room - this.machine.base, ...each.geometry);
      each.isReady = true;
    }
  }

  // Whenever something writes from start to stop.
  spoil(start, stop) {
    for (const each of this.all) if (each.at < stop && start < each.at + each.bytes) each.isReady = false;
  }

  // Memory for filters that are worth preparing; else 0.
  #makeRoom({ geometry, calls }) {
    const { machine } = this;
    machine.call("conv2d_prepared_bytes", this.result - machine.base, ...geometry);
    const bytes = Number(new BigInt64Array(machine.memory.buffer, this.result, 1)[0]);
    if (!bytes || this.#taken + bytes > MOST_BYTES) return 0;
    this.#taken += bytes;
    const room = machine.allocate(bytes);
    for (const word of calls) machine.write(word, [BigInt(room - machine.base)]);
    return room;
  }
}
