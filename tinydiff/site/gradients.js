// The page gradients.html: one op at a time, chosen in the list, by the address (?op=conv2d), or by a link (#conv2d).

import { Address, choice } from "./address.js";
import { load } from "./engine.js";
import { Example } from "./example.js";
import { read, write } from "./given.js";
import { fetchBytes } from "./program_file.js";
import { attempt, milliseconds, tell } from "./shell.js";
import { watch } from "./sources.js";
import { measure } from "./step_time.js";

const status = document.getElementById("status"),
  host = document.getElementById("ops"),
  measureButton = document.getElementById("measure");
const links = [...document.querySelectorAll(".contents a")],
  ops = links.map((link) => link.hash.slice(1));
const text = { initial: "", read: (text) => text }; // what it may be depends on the op
const address = new Address({ op: choice(ops[0], ops), without: text, given: text });
const examples = {}; // op -> Example, once it was shown
let about, kernels;

start();

async function start() {
  const wrong = address.nonsense;
  takeHash();
  showOp(address.values.op);
  for (const each of host.querySelectorAll(".sources")) watch(each, attempt);
  about = await attempt(async () => JSON.parse(new TextDecoder().decode(await fetchBytes("gradients/examples.json"))));
  if (!about) return void (status.textContent = "The examples cannot be loaded.");
  measureButton.disabled = false;
  tell(wrong || undefined);
  show(address.values, wrong);
  address.onChange((values) => show(values, address.nonsense));
  kernels = await attempt(() => load("gradients/kernels/program.json", { threads: 1 }));
  if (kernels) showKernel();
}

// Formulas that are wider than their place are scrolled; so the keyboard must reach them.
const width = new ResizeObserver((entries) => {
  for (const { target } of entries)
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
});
for (const each of document.querySelectorAll(".formulas")) width.observe(each);

function showOp(op) {
  host.classList.add("chosen");
  for (const section of host.children) section.classList.toggle("current", section.dataset.op === op);
  for (const link of links)
    if (link.hash === `#${op}`) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
}

// Show what the address says; ``wrong`` is what is wrong with it already.
function show({ op, without, given }, wrong = "") {
  showOp(op);
  const example = about.ops[op];
  const problems = wrong ? [wrong] : [];
  if (!example) {
    if (without || given) problems.push(`The address has numbers or a term for ${op}, which has no gradient.`);
    tell(problems.join(" ") || undefined);
    return void (status.textContent = `Ready: ${op} has no gradient, and needs none.`);
  }
  const terms = Object.keys(example.without);
  let numbers = {};
  if (without && !terms.includes(without)) {
    problems.push(
      `The address leaves out “${without}”, which must be a term of ${op}: ${terms.join(", ")}; nothing is left out.`,
    );
    without = "";
  }
  try {
    numbers = read(given, example.inputs);
  } catch ({ message }) {
    problems.push(`The address gives other numbers, but ${message}; the example has its own.`);
  }
  tell(problems.join(" ") || undefined);
  if (examples[op]) showExample(op, numbers, without);
  else setTimeout(() => address.values.op === op && showExample(op, numbers, without)); // first the derivation appears
}

function showExample(op, numbers, without) {
  examples[op] ??= new Example(host.querySelector(`.live[data-op=${op}]`), op, about, about.ops[op], changed);
  const words = examples[op].show(numbers, without);
  status.textContent = `Ready. ${words}`;
  showKernel();
}

// What was done to the example that is shown.
function changed({ given, without, problem, isFinal = true }) {
  if (problem) return tell(problem);
  const { op } = address.values;
  if (without !== undefined) return address.set({ without });
  if (isFinal) return address.set({ given: write(given, about.ops[op].inputs) });
  tell();
  showExample(op, given, address.values.without);
}

// The same by the kernel, at the numbers shown last; of several that are asked for meanwhile the last is computed.
let isAsking = false,
  isStale = false;
async function showKernel() {
  if (!kernels) return;
  if (isAsking) return void (isStale = true);
  isAsking = true;
  do {
    isStale = false;
    const { op } = address.values,
      example = examples[op];
    if (!example) break;
    const { inputs, gradients } = example.example;
    const given = inputs.filter(({ fixed, traced }) => !(fixed && traced)); // an upstream number, which is 1 in a program
    const set = given.map(({ name, values }) => [`${op}.${name}`, example.given[name] ?? values]);
    const names = ["y", ...Object.keys(gradients).map((name) => `d${name}`)];
    const got = await attempt(() =>
      kernels.run([{ program: op, set: Object.fromEntries(set), get: names.map((name) => `${op}.${name}`) }]),
    );
    if (got && !isStale) example.showKernel(Object.fromEntries(names.map((name) => [name, got[0][`${op}.${name}`]])));
  } while (isStale);
  isAsking = false;
}

function choose(op) {
  address.set({ op, without: "", given: "" });
  const heading = document.getElementById(op),
    { top } = heading.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) heading.scrollIntoView();
}

// A link to #conv2d, from outside or on the page, is one to ?op=conv2d.
function takeHash() {
  const op = location.hash.slice(1);
  if (!ops.includes(op)) return;
  history.replaceState(null, "", location.pathname + location.search);
  if (op !== address.values.op) address.set({ op, without: "", given: "" }, { replace: true });
}

addEventListener("hashchange", takeHash);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']"),
    op = link?.hash.slice(1);
  if (!ops.includes(op) || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  choose(op);
});

measureButton.addEventListener("click", () =>
  attempt(async () => {
    measureButton.disabled = true;
    try {
      const times = await measure((done, all) => {
        status.textContent = `Measuring: ${done} of ${all}`;
      });
      showTimes(times);
    } finally {
      measureButton.disabled = false;
    }
  }),
);

function showTimes(times) {
  const all = Object.values(times).reduce((a, b) => a + b);
  for (const row of document.querySelectorAll("#shares tbody tr")) {
    const cells = row.querySelectorAll("td"),
      both = ["forward", "backward"].map((verb) => times[`${row.dataset.op}.${verb}`]);
    both.forEach((ms, i) => {
      cells[3 + i].textContent = ms === undefined ? "–" : ms.toFixed(ms < 1 ? 2 : 1);
    });
    cells[5].textContent = `${((100 * ((both[0] ?? 0) + (both[1] ?? 0))) / all).toFixed(1)}%`;
  }
  status.textContent = `Measured: the calls of a training step take ${milliseconds(all)} in this tab.`;
}
