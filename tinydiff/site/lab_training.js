// Training in runs of several steps, for as long as nobody says stop; and the curve of its loss.

const A_RUN = 90, // milliseconds, about: as often the page hears how it goes
  MOST_IN_A_RUN = 60;

export class Training {
  #until = 0;
  #size = 4;

  // ``onRun()`` is called, and waited for, after each run; ``onEnd()`` when it stops
  constructor(model, { onRun, onEnd }) {
    Object.assign(this, { model, onRun, onEnd, losses: [], isRunning: false, speed: 0 });
  }

  // So many steps more. ``rate()`` is the learning rate as it is at the time.
  async go(count, rate) {
    this.#until = this.losses.length + count;
    if (this.isRunning) return;
    this.isRunning = true;
    try {
      while (this.losses.length < this.#until) {
        await this.model.alone(() => this.#run(rate));
        await this.onRun();
      }
    } finally {
      this.isRunning = false;
    }
    this.onEnd();
  }

  // Stop after the run that is under way.
  pause() {
    this.#until = 0;
  }

  // Begin anew; ``begin`` is what it takes.
  async reset(begin) {
    this.pause();
    await this.model.alone(async () => {
      await begin();
      [this.losses, this.speed] = [[], 0];
    });
  }

  async #run(rate) {
    const count = Math.min(this.#size, this.#until - this.losses.length);
    if (count <= 0) return;
    const begun = performance.now();
    const losses = await this.model.train(count, rate());
    const took = performance.now() - begun;
    this.losses.push(...losses);
    const bad = losses.findIndex((loss) => !Number.isFinite(loss));
    if (bad >= 0) {
      this.pause();
      const number = this.losses.length - losses.length + bad + 1;
      throw new Error(`the loss of step ${number} is no number: reset, and take a smaller learning rate`);
    }
    const speed = (1000 * count) / took;
    this.speed = this.speed ? 0.8 * this.speed + 0.2 * speed : speed;
    this.#size = Math.max(1, Math.min(MOST_IN_A_RUN, Math.round((this.speed * A_RUN) / 1000)));
  }
}

export const WINDOW = 50; // steps that the averaged curve is the mean of, where there are as many

// The mean of the last losses.
export function recent(losses) {
  const last = losses.slice(-WINDOW);
  return last.reduce((a, b) => a + b, 0) / last.length;
}

// Both curves as [[step, loss], ...] at not more than about so many steps, the last among them.
export function curves(losses, most = 600) {
  const stride = Math.ceil(losses.length / most),
    raw = [],
    averaged = [];
  let sum = 0;
  for (let i = 0; i < losses.length; i++) {
    sum += losses[i] - (i >= WINDOW ? losses[i - WINDOW] : 0);
    if ((losses.length - 1 - i) % stride) continue;
    raw.push([i + 1, losses[i]]);
    averaged.push([i + 1, sum / Math.min(WINDOW, i + 1)]);
  }
  return { raw, averaged, stride };
}
