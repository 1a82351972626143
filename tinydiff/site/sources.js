// The sources of an op, in three languages beside one another; the texts are loaded when they come into view.

import { coloured } from "./colours.js";
import { element } from "./example.js";
import { fetchBytes } from "./program_file.js";

const URL_OF_TEXTS = "gradients/sources.json";
let texts;

// Builds the panes in a host that lists the files. ``attempt`` does what may fail.
export function watch(host, attempt) {
  const observer = new IntersectionObserver(
    ([{ isIntersecting }]) => {
      if (!isIntersecting) return;
      observer.disconnect();
      attempt(() => show(host));
    },
    { rootMargin: "300px" },
  );
  observer.observe(host);
}

async function show(host) {
  texts ??= fetchBytes(URL_OF_TEXTS).then((bytes) => JSON.parse(new TextDecoder().decode(bytes)));
  const found = await texts.catch((error) => {
    texts = undefined;
    throw error;
  });
  const panes = [];
  for (const list of host.querySelectorAll("[data-language]")) {
    panes.push(pane(list, found));
    await new Promise((resolve) => setTimeout(resolve)); // the page answers in between
  }
  host.querySelector(".files").replaceWith(element("div", { className: "panes" }));
  for (const each of panes) {
    host.querySelector(".panes").append(each);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function pane(list, texts) {
  const { language } = list.dataset,
    title = list.firstChild.textContent.trim(),
    paths = [...list.querySelectorAll("code")].map((code) => code.textContent);
  const code = element("code"),
    region = element("pre", { tabIndex: 0, role: "region" }, code);
  const showFile = (path) => {
    code.innerHTML = coloured(texts[path], language);
    region.setAttribute("aria-label", `${title}: ${path}`);
    region.scrollTop = 0;
  };
  const choose = element(
    "select",
    { ariaLabel: `File in ${title}`, onchange: ({ target }) => showFile(target.value) },
    ...paths.map((path) => element("option", {}, path)),
  );
  showFile(paths[0]);
  const name = paths.length > 1 ? choose : element("code", {}, paths[0]);
  const made = element("div", { className: "pane" }, element("h4", {}, title), name, region);
  made.dataset.language = language;
  return made;
}
