// Who may work when: one at a time, and not what nobody waits for any more.

// One piece of work after another; each ends with what it ends with, and fails as it fails.
export class Queue {
  #last = Promise.resolve();

  take(work) {
    const over = this.#last.then(work);
    this.#last = over.catch(() => {});
    return over;
  }
}

// One piece of work at a time: what is under way is stopped before the next begins.
export class Turns {
  #queue = new Queue();
  #controller = new AbortController();

  // Stop what is under way, wait until it is over, and do this; ``work`` is given the signal that stops it in turn. Ends
  // with what it ends with, and fails as it fails; where another came before it began, it is never done.
  take(work) {
    this.#controller.abort();
    const { signal } = (this.#controller = new AbortController());
    return this.#queue.take(() => {
      signal.throwIfAborted();
      return work(signal);
    });
  }
}

// Work of which only the last that is asked for matters: what comes while it runs is done after it, once.
export function latest(work) {
  let running, next;
  return function ask(...inputs) {
    if (running) {
      next = inputs;
      return running;
    }
    running = (async () => {
      try {
        for (let now = inputs; now;) {
          next = undefined;
          await work(...now);
          now = next;
        }
      } finally {
        running = undefined;
      }
    })();
    return running;
  };
}
