// Section 4: one step back by the real model, with the posterior's terms.

import { digits, dimmed, find, Latest, pause, picture, whileMoving } from "./lesson_view.js";
import { attempt, isCalm } from "./shell.js";
import { decibel } from "./states.js";
import { latest } from "./turns.js";

const BETWEEN = 30; // milliseconds at least between two steps that one watches

export async function showReverse({ model, address, say, tried, shown }) {
  const { schedule } = model.data,
    { T } = schedule,
    slider = find("reverse-t"),
    whole = find("reverse-all");
  const jobs = new Latest();
  let at, // {t, noisy, next, ...}: what is shown
    noisedFor;

  // Ask the network about x at t, where nobody knows the noise that made it unless ``eps`` is given.
  async function ask({ noisy, t, digit, seed }) {
    const step = t - 1,
      clean = model.digits[digit],
      rates = model.rates(step);
    const sampler = { sampler: "ddpm", steps: T, from: T - t, seed };
    const { x: next, x0Hat, prediction } = await model.back({ x: noisy, label: digit, ...sampler });
    const said = await model.compare({ prediction, noisy, clean, eps: clean, rates }); // its noise is not looked at
    return { t, digit, seed, noisy, next, x0Hat, eps: said.eps_guess, error: said.error_x0[0] };
  }

  function show(found) {
    at = found;
    const { t, digit, noisy, next, x0Hat, eps, error } = found,
      step = t - 1;
    picture(find("reverse-target"), model.digits[digit], `The target, a ${digit}`);
    picture(find("reverse-noisy"), noisy, `The picture at noise step ${t}`);
    picture(find("reverse-eps"), dimmed(eps));
    picture(find("reverse-guess"), x0Hat, `What the network takes it for at noise step ${t}`);
    picture(find("reverse-next"), next, `The picture at noise step ${t - 1}`);
    const terms = {
      now: `${t} of ${T}`,
      snr: decibel(schedule.snr_db[step]),
      x0: digits(schedule.x0_coefficient[step]),
      x: digits(schedule.x_coefficient[step]),
      variance: digits(schedule.variance[step]),
      error: digits(error),
    };
    for (const [name, text] of Object.entries(terms)) find(`reverse-${name}`).textContent = text;
    const deviation = digits(Math.sqrt(schedule.variance[step]));
    find("reverse-sum").innerHTML =
      `<i>x</i><sub>${t - 1}</sub> = ${terms.x0} <i>x̂</i><sub>0</sub> + ${terms.x} <i>x</i><sub>${t}</sub>` +
      (step ? ` + ${deviation} <i>z</i>` : " &nbsp; (the last step adds no noise)");
    find("reverse-step").disabled = whole.disabled = t === 1 && found.isLast === true;
    shown.reverse = found;
  }

  const noised = latest(({ digit, back, seed }) =>
    attempt(async () => {
      find("reverse-where").textContent = back;
      slider.setAttribute("aria-valuetext", `step ${back}, ${decibel(schedule.snr_db[back - 1])}`);
      const { noisy } = await model.noise(model.digits[digit], model.rates(back - 1), { seed });
      const found = await ask({ noisy, t: back, digit, seed });
      if (noisedFor === key(address.values)) show(found);
    }),
  );
  const key = ({ digit, back, seed }) => `${digit} ${back} ${seed}`;
  function noiseAgain(values = address.values) {
    stop();
    noisedFor = key(values);
    return noised(values);
  }
  function stop() {
    jobs.stop();
    whole.setAttribute("aria-pressed", "false");
    whole.textContent = "All the way back";
  }

  // One step of what is shown; false at the end.
  async function stepBack(signal) {
    tried("reverse");
    if (at.t === 1) {
      show({ ...at, isLast: true });
      say("arrived at the clean picture");
      return false;
    }
    const found = await ask({ ...at, noisy: at.next, t: at.t - 1 });
    signal.throwIfAborted();
    show(found);
    return true;
  }

  whileMoving(slider, address);
  slider.addEventListener("input", () => tried("reverse"));
  address.onChange((values) => key(values) === noisedFor || noiseAgain(values));
  find("reverse-again").addEventListener("click", () => noiseAgain());
  find("reverse-step").addEventListener("click", () => {
    stop();
    attempt(() => stepBack(jobs.next()));
  });
  whole.addEventListener("click", () => {
    if (whole.getAttribute("aria-pressed") === "true") return stop();
    const signal = jobs.next();
    whole.setAttribute("aria-pressed", "true");
    whole.textContent = "Pause";
    attempt(async () => {
      while (await stepBack(signal)) await pause(isCalm() ? 0 : BETWEEN);
      stop();
    });
  });
  await noiseAgain();
}
