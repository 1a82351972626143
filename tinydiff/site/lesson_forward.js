// Section 2: noise on a real digit.

import { digits, dimmed, find, picture, whileMoving } from "./lesson_view.js";
import { attempt } from "./shell.js";
import { decibel } from "./states.js";
import { latest } from "./turns.js";

export async function showForward({ model, address, tried, shown }) {
  const { snr_db } = model.data.schedule,
    slider = find("forward-t");
  for (const [digit, canvas] of document.querySelectorAll("#digit-choice canvas").entries())
    picture(canvas, model.digits[digit]);

  const show = latest(({ digit, t, seed }) =>
    attempt(async () => {
      const rates = model.rates(t - 1),
        clean = model.digits[digit];
      const { noisy, eps } = await model.noise(clean, rates, { seed });
      const snr = t ? decibel(snr_db[t - 1]) : "no noise";
      picture(find("forward-clean"), clean, `A ${digit} of MNIST`);
      picture(find("forward-noisy"), noisy, `The ${digit} at noise step ${t}, ${snr}`);
      picture(find("forward-eps"), dimmed(eps));
      slider.setAttribute("aria-valuetext", `step ${t}, ${snr}`);
      find("forward-where").textContent = t;
      find("forward-signal").textContent = digits(rates[0]);
      find("forward-noise").textContent = digits(rates[1]);
      find("forward-left").textContent = digits(rates[0] ** 2);
      find("forward-snr").textContent = snr;
      shown.forward = { noisy, t };
    }),
  );
  whileMoving(slider, address);
  find("forward-form").addEventListener("input", () => tried("forward"));
  address.onChange(show);
  await show(address.values);
}
