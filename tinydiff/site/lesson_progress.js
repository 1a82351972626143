// What a reader has tried and answered, kept in the browser where it lets one; else until the page is left.

import { find } from "./lesson_view.js";

export const SECTIONS = ["what", "forward", "schedules", "reverse", "journey", "playground"];
export const QUESTIONS = 7;
const KEY = "tinydiff lesson";

export class Progress {
  #storage;
  #listeners = [];
  isKept = true; // whether the browser lets one

  // ``storage`` is localStorage, or what stands in for it
  constructor(storage = storageOfThisBrowser()) {
    this.#storage = storage;
    this.state = read(storage);
  }

  get triedSections() {
    return SECTIONS.filter((name) => this.state.tried.includes(name));
  }

  // how many questions are answered right
  get rightAnswers() {
    return Object.values(this.state.answers).filter((answer) => answer.right).length;
  }

  get isEmpty() {
    return this.triedSections.length === 0 && Object.keys(this.state.answers).length === 0;
  }

  get isComplete() {
    return this.rightAnswers === QUESTIONS;
  }

  tried(name) {
    if (!this.state.tried.includes(name)) this.#change({ tried: [...this.state.tried, name] });
  }

  // question "q1" was answered with its choice of that number
  answered(question, choice, right) {
    this.#change({ answers: { ...this.state.answers, [question]: { choice, right } } });
  }

  forget() {
    this.#change({ tried: [], answers: {} });
  }

  // Called with the progress after every change.
  onChange(listener) {
    this.#listeners.push(listener);
  }

  #change(changes) {
    this.state = { ...this.state, ...changes };
    try {
      this.#storage.setItem(KEY, JSON.stringify(this.state));
    } catch {
      this.isKept = false; // forbidden, or full: then it lasts as long as the page
    }
    for (const listener of this.#listeners) listener(this);
  }
}

function storageOfThisBrowser() {
  try {
    return globalThis.localStorage;
  } catch {
    return undefined;
  }
}

// What was kept, as far as it is what this module writes.
function read(storage) {
  const state = { tried: [], answers: {} };
  try {
    const kept = JSON.parse(storage.getItem(KEY));
    state.tried = SECTIONS.filter((name) => kept.tried.includes(name));
    for (let number = 1; number <= QUESTIONS; number++) {
      const answer = kept.answers[`q${number}`];
      if (Number.isInteger(answer?.choice) && typeof answer.right === "boolean") state.answers[`q${number}`] = answer;
    }
  } catch {
    // nothing kept, or nothing of ours
  }
  return state;
}

// The progress beside the text.
export function showProgress(progress) {
  const show = () => {
    const tried = progress.triedSections,
      right = progress.rightAnswers;
    find("progress").textContent = progress.isEmpty
      ? "Nothing tried yet."
      : `${tried.length} of ${SECTIONS.length} sections tried, ${right} of ${QUESTIONS} questions right.`;
    find("progress-bar").value = tried.length + right;
    find("kept").textContent = progress.isKept ? "Kept in this browser." : "This browser keeps nothing.";
    for (const name of SECTIONS) {
      const link = document.querySelector(`#contents a[href="#${name}"]`);
      link.classList.toggle("done", tried.includes(name));
      if (tried.includes(name)) link.setAttribute("aria-description", "tried");
      else link.removeAttribute("aria-description");
    }
  };
  find("forget").addEventListener("click", () => progress.forget());
  progress.onChange(show);
  show();
}
