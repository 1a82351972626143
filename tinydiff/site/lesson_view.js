// What the sections of the lesson show things with.

import { likeliest } from "./odds.js";
import { paint } from "./pixels.js";

const SHAPE = [28, 28, 1];

export const find = (id) => document.getElementById(id);

// An image on a canvas; ``words`` are what a screen reader has of it. Without an image it is empty.
export function picture(canvas, image, words) {
  canvas.classList.toggle("nothing", !image);
  if (image) paint(canvas, image, SHAPE);
  else canvas.width = canvas.height = SHAPE[0];
  if (words) canvas.setAttribute("aria-label", words);
}

// Noise has values beyond [-1, 1]: as an image with a third of its contrast, so that 3 standard deviations are seen.
export const dimmed = (noise) => noise.map((each) => each / 3);

// Take a slider's value while it moves, too.
export function whileMoving(slider, address) {
  slider.addEventListener("input", () => address.set({ [slider.name]: Number(slider.value) }, { replace: true }));
}

// A number in three digits, as one writes it.
export function digits(value) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 0.001 && Math.abs(value) < 10000)
    return value.toPrecision(value < 1000 ? 3 : 4).replace("-", "−");
  const [figures, exponent] = value.toExponential(2).split("e");
  const raised = [...String(Number(exponent))].map((each) => (each === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[each])).join("");
  return `${figures} × 10${raised}`;
}

// A signal that ends the last work of its kind when the next begins.
export class Latest {
  #controller;

  next() {
    this.stop();
    return (this.#controller = new AbortController()).signal;
  }

  stop() {
    this.#controller?.abort();
  }
}

export const pause = (time) => new Promise((resolve) => setTimeout(resolve, time));

// The digit a classifier takes an image for, in words.
export function verdict(odds) {
  const { label, part } = likeliest(odds);
  return `a ${label}, ${part > 0.999 ? "and is more than 99.9 % sure" : `${(100 * part).toFixed(1)} % sure`}`;
}
