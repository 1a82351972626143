// One piece of work at a time: what is under way is stopped before the next begins.

export class Turns {
  #last = Promise.resolve();
  #controller = new AbortController();

  // Stop what is under way, wait until it is over, and do this; ``work`` is given the signal that stops it in turn. Ends
  // with what it ends with, and fails as it fails; where another came before it began, it is never done.
  take(work) {
    this.#controller.abort();
    const { signal } = (this.#controller = new AbortController());
    const over = this.#last.then(() => {
      signal.throwIfAborted();
      return work(signal);
    });
    this.#last = over.catch(() => {});
    return over;
  }
}
