// The page index.html: what is chosen, the drawing that follows from it, and what is seen of that.

import { Address, choice, connect, number } from "./address.js";
import { percent, sentence as advised } from "./advice.js";
import { ANY, offerClasses } from "./class_choice.js";
import { Film } from "./film.js";
import { HeatMap } from "./heat_map.js";
import { Model } from "./model.js";
import { Odds } from "./odds.js";
import { paint } from "./pixels.js";
import { Row } from "./row.js";
import { attempt, isCalm, milliseconds, sentence, tell } from "./shell.js";
import { states } from "./states.js";
import { Turns } from "./turns.js";
import { count, ofCost, ofGuidance, ofMoment, ofOdds, SAMPLERS } from "./wording.js";

const STEPS = 25,
  NEW_SEEDS = 10000;
const byId = (id) => document.getElementById(id);

class Page {
  #turns = new Turns();
  #drawn; // the choices that the last drawing followed from

  constructor(model) {
    this.model = model;
    const { names, classes, digits, ways, row } = (this.about = model.about);
    this.thing = digits ? "digit" : "image";
    if (classes) offerClasses(byId("classes"), names);
    else byId("classes").remove();
    const most = Math.max(...Object.keys(ways.ddim).map(Number));
    byId("steps").max = most;
    byId("guidance-field").hidden = byId("about-guidance").hidden = !classes;
    byId("judge").hidden = byId("about-judge").hidden = !digits;
    byId("row-title").textContent = `${classes ? "One of each" : "More of them"}, ${row} at once`;

    this.address = new Address({
      label: choice(classes ? "0" : ANY, [...names.keys()].map(String).concat(ANY)),
      guidance: number(1, { min: 0, max: 8, whole: false }),
      steps: number(Math.min(STEPS, most), { min: 1, max: most }),
      sampler: choice("ddim", Object.keys(ways)),
      seed: number(0, { min: 0, max: Number.MAX_SAFE_INTEGER }),
      view: choice("noisy", ["noisy", "predicted"]),
    });
    const parts = { slider: byId("time"), strip: byId("strip"), play: byId("play"), shape: model.shape };
    this.film = new Film(parts, (state) => this.#show(state));
    this.row = new Row(byId("row"), model);
    this.odds = digits && new Odds(byId("odds"), names);
    this.heat = this.about.advice && this.#advise();
    this.#listen();
    byId("controls").disabled = false;
    this.#status("Ready");
    this.#follow();
  }

  // The number of the class that is chosen; that of "any" is how many there are.
  get label() {
    const { label } = this.address.values;
    return label === ANY ? this.about.classes : Number(label);
  }

  #listen() {
    const form = byId("desk"),
      { address } = this;
    form.addEventListener("change", ({ target }) => {
      // said after ``connect`` has put the old value back, which is no reason to be silent
      if (!target.checkValidity()) queueMicrotask(() => tell(`${target.labels[0].textContent}: ${why}`));
      const why = target.validationMessage;
    });
    connect(form, address);
    form.addEventListener("input", ({ target }) => {
      if (target.type === "range") this.#explain({ ...address.values, [target.name]: Number(target.value) });
    });
    address.onChange(() => this.#follow());
    byId("again").addEventListener("click", () => this.#draw());
    byId("draw-row").addEventListener("click", () => this.#take((signal) => this.#drawRow(signal)));
    byId("another").addEventListener("click", () => {
      const seed = Math.floor(Math.random() * NEW_SEEDS);
      address.set({ seed: seed === address.values.seed ? seed + 1 : seed });
    });
    byId("copy").addEventListener("click", () =>
      navigator.clipboard.writeText(location.href).then(
        () => this.#status("The link is copied."),
        () => tell("this browser does not let the page copy; the link is what its address bar shows"),
      ),
    );
  }

  // What follows from the address.
  #follow() {
    const { values, nonsense } = this.address,
      { view, ...ofDrawing } = values;
    tell(nonsense || undefined);
    this.#explain(values);
    this.heat?.mark(values);
    if (JSON.stringify(ofDrawing) !== this.#drawn) this.#draw();
    else if (this.film.now) this.#show(this.film.now);
  }

  #explain(values) {
    byId("convention").textContent = ofGuidance(values.guidance);
    byId("cost").textContent = ofCost(this.about, values);
  }

  #draw() {
    const { view, ...ofDrawing } = this.address.values;
    this.#drawn = JSON.stringify(ofDrawing);
    this.#take((signal) => this.#drawOne({ ...ofDrawing, label: this.label, signal }));
  }

  #take(work) {
    const failed = (error) => {
      if (error.name !== "AbortError") this.#status("This was not drawn.");
      throw error;
    };
    this.over = attempt(() => this.#turns.take(work).catch(failed)); // what tests wait for
  }

  async #drawOne(options) {
    const { film, model, thing } = this,
      { steps, signal } = options;
    film.begin(steps, { live: !isCalm() });
    this.#meanwhile(`step 0 of ${steps}`);
    let ms = 0,
      begun = performance.now();
    for await (const state of states(model.draw(options), steps)) {
      if (state.number < steps) ms += performance.now() - begun;
      state.odds = await model.judge(state.x0Hat);
      signal.throwIfAborted();
      film.add(state);
      this.#meanwhile(`step ${state.number} of ${steps}`);
      begun = performance.now();
    }
    const { odds } = film.now;
    this.#status(`Ready. ${odds ? this.#judged(odds) : `The ${thing} is drawn.`}`);
    byId("speed").textContent =
      `${milliseconds(ms / steps)} a step, ${milliseconds(ms)} for the ${thing}: measured here, just now.`;
  }

  async #drawRow(signal) {
    const { sampler, steps, guidance, seed } = this.address.values,
      { classes, row } = this.about;
    byId("row-note").textContent = "";
    this.#meanwhile("Loading the row");
    const shows = () => (this.address.values.view === "predicted" ? "x0Hat" : "x");
    const { ms, right } = await this.row.draw({ sampler, steps, guidance, seed, signal }, shows, ({ number }) =>
      this.#meanwhile(`the row: step ${number} of ${steps}`),
    );
    const how = [classes && `guidance ${guidance}`, `${count(steps, "step")} of ${SAMPLERS[sampler]}`, `seed ${seed}`];
    const found = [milliseconds(ms), right !== null && guidance > 0 && `${right} of ${row} recognised`];
    this.#status(`Ready. ${count(row, this.thing)} in a row: ${found.filter(Boolean).join(", ")}.`);
    byId("row-note").textContent = `${how.filter(Boolean).join(", ")}: ${found.filter(Boolean).join(", ")}`;
  }

  // One state of the film, large.
  #show(state) {
    const { values } = this.address,
      predicted = values.view === "predicted";
    paint(byId("picture"), predicted ? state.x0Hat : state.x, this.model.shape);
    const moment = ofMoment(state, this.film.steps, this.about);
    byId("moment").textContent = moment;
    byId("time").setAttribute("aria-valuetext", moment);
    const what = state.step < 0 ? "the finished" : predicted ? "the predicted clean" : "the noisy";
    byId("picture").setAttribute("aria-label", sentence(`${what} ${this.thing}, ${moment}`));
    if (!state.odds) return;
    this.odds.show(state.odds, this.label);
    byId("verdict").textContent = this.#judged(state.odds);
  }

  #judged(odds) {
    const isAsked = this.address.values.guidance > 0; // else the class is not looked at
    return ofOdds(odds, this.about.names, isAsked ? this.label : undefined);
  }

  // What was measured, and what follows from it.
  #advise() {
    const { advice } = this.about,
      { sampler, images, real } = advice;
    byId("advice").hidden = false;
    byId("advised").textContent = advised(advice);
    byId("heat-note").textContent =
      `Measured for this model with ${SAMPLERS[sampler]}, ${images} digits of each pair; the stronger the colour, the ` +
      `better. Of as many real images ${percent(real.accuracy)} are recognised, at an FID of ${real.fid.toFixed(1)}. A press ` +
      `takes guidance, steps and sampler for the drawing above; the arrow keys go from one to the next.`;
    const heat = new HeatMap(byId("heat"), advice, ({ guidance, steps }) =>
      this.address.set({ guidance, steps, sampler }),
    );
    const choose = () => heat.show(byId("measures").querySelector(":checked").value);
    byId("measures").addEventListener("change", choose);
    choose();
    return heat;
  }

  // What comes and goes while it is drawn; screen readers could only fall behind, and hear what is said at the end.
  #meanwhile(words) {
    byId("status").setAttribute("aria-busy", "true");
    byId("status").textContent = words;
  }

  #status(words) {
    byId("status").removeAttribute("aria-busy");
    byId("status").textContent = words;
  }
}

const model = await attempt(() => Model.load());
if (!model) byId("status").textContent = "There is no model to draw with.";

// The page's own state, for who looks at it from outside, as tests do.
export const page = model && new Page(model);
