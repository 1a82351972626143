// Section 3: schedules side by side, and what comes of one that ends too early.

import { Chart, legend, line } from "./charts.js";
import { digits, find, picture, whileMoving } from "./lesson_view.js";
import { attempt } from "./shell.js";
import { decibel } from "./states.js";
import { latest } from "./turns.js";

const SHOWN = ["linear", "cosine", "unscaled"];
const LOOKS = { linear: ["c1", []], cosine: ["c0", []], unscaled: ["c3", [6, 4]] };

export async function showSchedules({ model, address, tried, shown }) {
  const slider = find("share"),
    known = model.data.schedules;
  const part = { title: "part of the steps, %", from: 0, to: 100 };
  const power = new Chart(find("chart-signal"), { x: part, y: { title: "ᾱ", from: 0, to: 1 } }),
    snr = new Chart(find("chart-snr"), { x: part, y: { title: "SNR, dB", from: -90, to: 45 } });
  const curves = (values) =>
    SHOWN.map((name) => {
      const { T, ...tables } = known[name],
        [colour, dash] = LOOKS[name];
      const points = tables.snr_db.map((_, i) => [i + 1, values(tables, i)]);
      return line(points, { colour, dash, name: `${tables.name}, T = ${T}` });
    });
  const powers = curves(({ signal_rate }, i) => signal_rate[i] ** 2),
    ratios = curves(({ snr_db }, i) => snr_db[i]);
  legend(find("chart-legend"), powers);

  const show = latest(({ digit, share, seed }) =>
    attempt(async () => {
      for (const name of SHOWN) {
        const { signal_rate, noise_rate, snr_db } = known[name];
        const rates = share ? [signal_rate[share - 1], noise_rate[share - 1]] : [1, 0],
          words = share ? decibel(snr_db[share - 1]) : "no noise";
        const { noisy } = await model.noise(model.digits[digit], rates, { seed });
        Object.assign((shown.schedules ??= {}), { [name]: noisy, share });
        picture(find(`share-${name}`), noisy, `The ${digit} under the schedule ${known[name].name}, ${words}`);
        find(`snr-${name}`).textContent = `${words}, correlation ${correlation(noisy, model.digits[digit])}`;
      }
      find("share-where").textContent = `${share} %`;
      slider.setAttribute("aria-valuetext", `${share} % of the steps`);
      const mark = (low, high) => line([[share, low], [share, high]], { colour: "faint", width: 1, dash: [3, 3] }); // prettier-ignore
      const at = (name, table) => known[name][table][Math.max(0, share - 1)];
      power.show(
        [...powers, mark(0, 1)],
        inWords("Signal power that is left", (name) => at(name, "signal_rate") ** 2),
      );
      snr.show(
        [...ratios, mark(-90, 45)],
        inWords("Decibels", (name) => at(name, "snr_db")),
      );
    }),
  );
  const inWords = (what, value) =>
    `${what} after ${address.values.share} % of the steps: ` +
    SHOWN.map((name) => `${known[name].name}, T = ${known[name].T}: ${value(name).toPrecision(3)}`).join("; ");
  whileMoving(slider, address);
  slider.addEventListener("input", () => tried("schedules"));
  address.onChange(show);
  await show(address.values);
}

// How much two images vary together, from -1 to 1. Of a digit and pure noise it is 0 give or take 0.04, 1 / sqrt(784).
function correlation(a, b) {
  const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length,
    [middleA, middleB] = [mean(a), mean(b)];
  const together = (f) => mean(Array.from(a, (each, i) => f(each - middleA, b[i] - middleB)));
  const value = together((u, v) => u * v) / Math.sqrt(together((u) => u * u) * together((_, v) => v * v));
  return value.toFixed(2).replace("-", "−");
}

// The model's way back from pure noise, from its end and from where too much signal should be left: each digit by both.
export function showEarly({ model, address, say, tried, shown }) {
  const { early, schedule, chain } = model.data,
    [step] = chain[chain.length - 1 - early];
  const mean = (image) => image.reduce((a, b) => a + b) / image.length;
  const ways = { right: 0, wrong: early },
    canvases = {};
  for (const name in ways) {
    canvases[name] = model.digits.map(() => {
      const canvas = document.createElement("canvas");
      canvas.className = "pixels";
      canvas.setAttribute("role", "img");
      picture(canvas, null, "Not drawn yet");
      return canvas;
    });
    find(`early-${name}`).replaceChildren(...canvases[name]);
  }
  find("early-db").textContent = decibel(schedule.snr_db[step]);

  async function drawAll(seed) {
    const found = { right: [], wrong: [] },
      recognised = { right: 0, wrong: 0 };
    for (let digit = 0; digit < 10; digit++)
      for (const [name, from] of Object.entries(ways)) {
        const x = await model.start(seed + digit);
        let image;
        for await (const part of model.walk({ x, label: digit, seed, from })) {
          image = part.x;
          picture(canvases[name][digit], image, `A ${digit} from ${from ? "too early" : "the end"}`);
        }
        const odds = await model.judge(image);
        found[name].push(image);
        recognised[name] += odds[digit] === Math.max(...odds);
        const brightness = found[name].reduce((sum, each) => sum + mean(each), 0) / found[name].length;
        find(`early-${name}-words`).textContent =
          `: mean brightness ${digits(brightness)}, ${recognised[name]} of ${found[name].length} recognised`;
      }
    const real = model.digits.reduce((sum, each) => sum + mean(each), 0) / model.digits.length;
    find("early-note").textContent =
      `The same noise for both, another for each digit. The ten real digits of section 2 have a mean brightness of ${digits(real)}; −1 is black.`;
    shown.early = found;
  }

  find("early-draw").addEventListener("click", ({ target }) =>
    attempt(async () => {
      target.disabled = true;
      tried("schedules");
      await drawAll(address.values.seed);
      say("drawn from both");
    }).finally(() => (target.disabled = false)),
  );
}
