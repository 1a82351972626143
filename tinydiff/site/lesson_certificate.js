// The certificate: once all questions are answered right, alone on a page of paper.

import { QUESTIONS, SECTIONS } from "./lesson_progress.js";
import { find } from "./lesson_view.js";

const PRINTING = "prints-certificate";

export function showCertificate(progress, say) {
  const show = () => {
    const left = QUESTIONS - progress.rightAnswers;
    find("certificate-missing").hidden = progress.isComplete;
    find("certificate-missing").textContent =
      `It can be printed once all seven questions are answered right; ${left === 1 ? "one is" : `${left} are`} left.`;
    find("certificate-form").hidden = !progress.isComplete;
    if (!progress.isComplete) find("certificate-page").hidden = true;
    find("certificate-tried").textContent =
      `In ${progress.triedSections.length} of its ${SECTIONS.length} sections the pictures were not only looked at.`;
  };
  progress.onChange(show);
  show();
  find("certificate-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const name = find("certificate-name").value.trim();
    if (!name) return say("Type a name first");
    find("certificate-person").textContent = name;
    find("certificate-date").textContent = new Date().toLocaleDateString("en-GB", { dateStyle: "long" });
    find("certificate-page").hidden = false;
    document.documentElement.classList.add(PRINTING);
    print();
    say("The certificate is ready");
  });
  addEventListener("afterprint", () => document.documentElement.classList.remove(PRINTING));
}
