// The questions: each answer is explained, right or wrong.

import { find } from "./lesson_view.js";

export function showQuestions(progress, say) {
  const forms = [...find("questions").querySelectorAll("form")];
  for (const form of forms) {
    form.addEventListener("change", () => explain(form));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const chosen = form.querySelector("input:checked"),
        missing = "Choose an answer first";
      if (!chosen) {
        form.querySelector(".verdict").textContent = `${missing}.`;
        return say(missing);
      }
      progress.answered(form.id, Number(chosen.value), "right" in chosen.dataset);
      explain(form, progress.state.answers[form.id]);
      say(`${form.querySelector(".verdict").textContent} ${form.querySelector(".why:not([hidden])").innerText}`);
    });
  }
  const restore = () => {
    for (const form of forms) {
      const answer = progress.state.answers[form.id];
      form.reset();
      if (answer && form.elements[form.id][answer.choice]) form.elements[form.id][answer.choice].checked = true;
      explain(form, answer);
    }
  };
  progress.onChange(() => progress.isEmpty && restore());
  restore();
}

// Explain an answer that was given; none while another is being chosen.
function explain(form, answer) {
  for (const input of form.elements[form.id]) {
    const item = input.closest("li"),
      isIt = Number(input.value) === answer?.choice;
    item.querySelector(".why").hidden = !isIt;
    item.classList.toggle("right", isIt && answer.right);
    item.classList.toggle("wrong", isIt && !answer.right);
  }
  form.querySelector(".verdict").textContent = !answer ? "" : answer.right ? "Right." : "Not right.";
}
