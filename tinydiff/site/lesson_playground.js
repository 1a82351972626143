// Section 6: forward and back with whatever one likes.

import { signed, TRIP } from "./lesson_model.js";
import { Pad } from "./lesson_pad.js";
import { pattern } from "./lesson_patterns.js";
import { find, Latest, pause, picture, whileMoving } from "./lesson_view.js";
import { attempt } from "./shell.js";
import { decibel } from "./states.js";

const EVERY = 5; // steps between two small pictures
const FORWARD = 1,
  BACK = -1;

export async function showPlayground({ model, address, say, tried, shown }) {
  const { chain, schedule } = model.data,
    jobs = new Latest(),
    now = find("play-now"),
    hold = find("play-pause");
  const pad = new Pad(find("play-clean"), { onChange: startOver, say });
  let clean, level, x, draws; // level: small steps of noise in x; draws: how often noise was drawn since it was clean
  let plan = [], // directions of the steps that are left
    all = 0,
    isRunning = false,
    begunFor;

  const key = ({ subject, digit, seed }) => `${subject} ${subject === "digit" ? digit : ""} ${seed}`;

  function startOver() {
    stop();
    const { subject, digit } = address.values;
    begunFor = key(address.values);
    pad.isOpen = subject === "drawing";
    find("pad").hidden = !pad.isOpen;
    clean = subject === "digit" ? model.digits[digit] : signed(pad.isOpen ? pad.drawing.bytes : pattern(subject));
    [level, x, draws, plan, all] = [0, clean, 0, [], 0];
    const name = subject === "digit" ? `a ${digit} of MNIST` : subject === "drawing" ? "your drawing" : subject;
    picture(
      find("play-clean"),
      clean,
      pad.isOpen ? "A pad to draw on: arrow keys move the pen, Space sets it down or lifts it" : `The picture, ${name}`,
    );
    find("play-clean-words").textContent =
      pad.isOpen && pad.drawing.isEmpty ? "your drawing: nothing yet, so draw here" : `the picture: ${name}`;
    find("play-strip").replaceChildren();
    show();
  }

  function show() {
    const words = level ? `t = ${chain[level - 1][0] + 1}, ${decibel(schedule.snr_db[chain[level - 1][0]])}` : "t = 0";
    picture(now, x, `The picture now, ${words}`);
    find("play-where").textContent = `now: ${words}`;
    const done = all - plan.length;
    Object.assign(find("play-progress"), { max: all || 2 * address.values.turn, value: done });
    find("play-progress-words").textContent = all
      ? `${done} of ${all} steps${plan.length ? (plan[0] === FORWARD ? ", forward" : ", back") : ", done"}`
      : "Nothing done yet";
    find("play-forward").disabled = level === TRIP;
    find("play-back").disabled = level === 0;
    hold.disabled = !plan.length;
    hold.textContent = isRunning || !plan.length ? "Pause" : "Go on";
    Object.assign(shown, { playground: { x, level, done, all } });
  }

  async function step(signal) {
    const { seed, sampler, towards } = address.values;
    const label = towards === "any" ? model.anyLabel : Number(towards);
    const [direction] = plan;
    const found =
      direction === FORWARD
        ? (await model.noise(x, chain[level].slice(1), { seed, draw: ++draws })).noisy
        : (await model.back({ x, label, sampler, from: TRIP - level, seed })).x;
    signal.throwIfAborted();
    x = found;
    level += direction;
    plan.shift();
    const done = all - plan.length;
    if (done % EVERY === 0 || !plan.length) remember(done);
    show();
  }

  function remember(done) {
    const item = document.createElement("li"),
      canvas = document.createElement("canvas");
    canvas.className = "pixels";
    canvas.setAttribute("role", "img");
    picture(canvas, x, `after ${done} of ${all} steps`);
    item.append(canvas);
    find("play-strip").append(item);
  }

  function take(steps) {
    plan = steps;
    all = plan.length;
    find("play-strip").replaceChildren();
  }

  async function run() {
    tried("playground");
    const signal = jobs.next();
    isRunning = true;
    show();
    await attempt(async () => {
      while (plan.length) {
        const begun = performance.now(),
          before = plan[0];
        await step(signal);
        if (plan.length && plan[0] !== before) say("turned round");
        if (plan.length) await pause(1000 / Number(address.values.speed) - (performance.now() - begun));
        signal.throwIfAborted();
      }
      isRunning = false;
      show();
      say(level ? `at t = ${chain[level - 1][0] + 1}` : "arrived at t = 0");
    });
  }

  function stop() {
    jobs.stop();
    isRunning = false;
  }

  const there = (from, to) => new Array(to - from).fill(FORWARD),
    back = (from) => new Array(from).fill(BACK);
  const wholeTrip = () => [...there(0, address.values.turn), ...back(address.values.turn)];
  const actions = {
    trip() {
      startOver();
      take(wholeTrip());
      run();
    },
    forward() {
      stop();
      take(there(level, TRIP));
      run();
    },
    back() {
      stop();
      take(back(level));
      run();
    },
    pause() {
      if (!isRunning) return run();
      stop();
      show();
      say(`paused, ${all - plan.length} of ${all} steps done`);
    },
    step() {
      stop();
      tried("playground");
      if (!plan.length) take(level ? back(level) : wholeTrip());
      const signal = jobs.next();
      attempt(async () => {
        await step(signal);
        say(find("play-progress-words").textContent);
      });
    },
    reset() {
      startOver();
      say("started over");
    },
  };
  for (const [name, action] of Object.entries(actions)) find(`play-${name}`).addEventListener("click", action);
  find("pad-clear").addEventListener("click", () => {
    pad.drawing.clear();
    startOver();
  });
  whileMoving(find("play-turn"), address);
  const showTurn = ({ turn }) => (find("play-turn-where").textContent = `${turn} of ${TRIP} steps`);
  address.onChange((values) => {
    showTurn(values);
    if (key(values) !== begunFor) startOver();
  });
  showTurn(address.values);
  startOver();
}
