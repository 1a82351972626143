// Section 5: the whole journey in six steps.

import { TRIP } from "./lesson_model.js";
import { digits, find, picture, verdict } from "./lesson_view.js";
import { attempt } from "./shell.js";
import { decibel } from "./states.js";

const HALF = TRIP / 2;

export async function showJourney({ model, address, say, tried, shown }) {
  const { schedule } = model.data,
    canvases = [...document.querySelectorAll("#journey-steps canvas")],
    steps = [...document.querySelectorAll("#journey-steps li")];
  const back = find("journey-back"),
    next = find("journey-next");
  let known = {}; // of one digit and seed: {of, pictures: [{image, words}], walked}

  // The six steps. Each gives the picture and what there is to say of it.
  const made = [
    async ({ digit }) => [
      model.digits[digit],
      `A real ${digit}, 784 numbers between −1 and 1. Training takes such pictures by the thousand.`,
    ],
    async ({ digit, seed }) => noised(digit, seed, schedule.snr_db.findIndex((snr) => snr < 0)), // prettier-ignore
    async ({ digit, seed }) => noised(digit, seed, schedule.T - 1),
    async ({ digit, seed }) => {
      known.walked = [];
      const start = await model.start(seed);
      for await (const part of model.walk({ x: start, label: digit, seed })) known.walked.push(part);
      return [
        known.walked[0].x0Hat,
        `Now other noise, new, with no picture in it. Told to think of a ${digit}, the network guesses: nearly the mean of all it has seen. DDIM takes the first of ${TRIP} steps towards that.`,
      ];
    },
    async () => {
      const { x, step } = known.walked[HALF - 1];
      return [
        x,
        `After ${HALF} of ${TRIP} steps, the last asked about at t = ${step + 1} (${decibel(schedule.snr_db[step])}). Large shapes are decided, edges are not.`,
      ];
    },
    async ({ digit }) => {
      const { x } = known.walked.at(-1),
        odds = await model.judge(x);
      return [
        x,
        `Arrived: a ${digit} that nobody wrote. A classifier, trained apart, takes it for ${verdict(odds)}. The real one of step 1 was never shown to the network on this way.`,
      ];
    },
  ];

  async function noised(digit, seed, step) {
    const rates = model.rates(step),
      { noisy } = await model.noise(model.digits[digit], rates, { seed });
    const words =
      step === schedule.T - 1
        ? `The end of the schedule: signal rate ${digits(rates[0])}, ${decibel(schedule.snr_db[step])}. Nobody could tell it from noise that never was a picture. So the way back may start from such noise.`
        : `One jump to t = ${step + 1}: signal rate ${digits(rates[0])}, noise rate ${digits(rates[1])}, ${decibel(schedule.snr_db[step])}. In training, the network sees pictures like this one, at all noise levels, and is corrected.`;
    return [noisy, words];
  }

  let last = Promise.resolve();
  const show = (values) =>
    (last = last.then(() =>
      attempt(async () => {
        const of = `${values.digit} ${values.seed}`;
        if (known.of !== of) known = { of, pictures: [] };
        for (let i = known.pictures.length; i < values.part; i++) known.pictures.push(await made[i](values));
        for (const [i, canvas] of canvases.entries()) {
          const isReached = i < values.part,
            [image, words] = isReached ? known.pictures[i] : [null, "Not reached yet"];
          picture(canvas, image, words);
          if (i === values.part - 1) steps[i].setAttribute("aria-current", "step");
          else steps[i].removeAttribute("aria-current");
        }
        find("journey-words").textContent = known.pictures[values.part - 1][1];
        find("journey-where").textContent = `step ${values.part} of 6`;
        shown.journey = known.pictures.map(([image]) => image);
        back.disabled = values.part === 1;
        next.disabled = values.part === 6;
      }),
    ));
  const go = async (by) => {
    const part = address.values.part + by;
    tried("journey");
    address.set({ part });
    await last;
    if (document.activeElement?.disabled) (by > 0 ? back : next).focus(); // it went dead under the finger
    say(`step ${part} of 6: ${known.pictures[part - 1]?.[1]}`);
  };
  back.addEventListener("click", () => go(-1));
  next.addEventListener("click", () => go(1));
  address.onChange(show);
  await show(address.values);
}
