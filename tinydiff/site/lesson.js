// The page lesson.html: what its sections share, and the sections.

import { Address, choice, connect, number } from "./address.js";
import { showCertificate } from "./lesson_certificate.js";
import { showForward } from "./lesson_forward.js";
import { showJourney } from "./lesson_journey.js";
import { showLosses } from "./lesson_losses.js";
import { LessonModel, TRIP } from "./lesson_model.js";
import { SUBJECTS } from "./lesson_patterns.js";
import { showPlayground } from "./lesson_playground.js";
import { Progress, showProgress } from "./lesson_progress.js";
import { showQuestions } from "./lesson_quiz.js";
import { showReverse } from "./lesson_reverse.js";
import { showEarly, showSchedules } from "./lesson_schedules.js";
import { showTwice } from "./lesson_twice.js";
import { showWhat } from "./lesson_what.js";
import { find } from "./lesson_view.js";
import { sentence, tell } from "./shell.js";

const { program, last } = find("lesson").dataset,
  T = Number(last);
const status = find("status");
const LARGEST_SEED = 2 ** 32 - 1;

// For who looks from outside, as the tests do: the numbers of what each section shows.
export const shown = {};

const address = new Address({
  digit: number(3, { min: 0, max: 9 }),
  seed: number(0, { min: 0, max: LARGEST_SEED }),
  t: number(Math.round(T / 4), { min: 0, max: T }),
  share: number(50, { min: 0, max: 100 }),
  back: number(Math.round(0.6 * T), { min: 1, max: T }),
  part: number(1, { min: 1, max: 6 }),
  subject: choice("digit", SUBJECTS),
  towards: choice("any", ["any", ..."0123456789"]),
  sampler: choice("ddim", ["ddim", "ddpm"]),
  speed: choice("10", ["2", "5", "10", "100"]),
  turn: number(TRIP, { min: 1, max: TRIP }),
});

offerDigits();
const progress = new Progress();
showProgress(progress);
showQuestions(progress, say);
showCertificate(progress, say);
for (const form of ["what", "forward", "schedules", "reverse", "playground"]) connect(find(`${form}-form`), address);
if (address.nonsense) tell(address.nonsense);

try {
  const model = await LessonModel.load(program);
  const lesson = { model, address, say, shown, tried: (name) => progress.tried(name) };
  const sections = [showWhat, showForward, showSchedules, showEarly, showReverse, showLosses, showTwice, showJourney];
  await Promise.all([...sections, showPlayground].map((show) => show(lesson)));
  say("Ready");
} catch (error) {
  tell(error);
  say("The text and the questions are here; the pictures are not, for the reason above");
}

// What has just ended or begun, for screen readers.
function say(words) {
  status.textContent = words.length > 5 ? sentence(words) : words;
}

// The ten digits wherever one is chosen: as radio buttons, and as options.
function offerDigits() {
  for (let digit = 0; digit < 10; digit++) {
    const label = document.createElement("label");
    label.innerHTML = `<input type="radio" name="digit" value="${digit}" class="visually-hidden" /><canvas class="pixels" aria-hidden="true" width="28" height="28"></canvas><span>${digit}</span>`;
    find("digit-choice").append(label);
    for (const select of [find("what-label"), find("play-towards")])
      select.append(new Option(select.name === "digit" ? digit : `a ${digit}`, digit));
  }
}
