// Does a list of things with the modules of the lesson, in node.

import { pack, unpack } from "../site/driver.js";

export async function perform(site, steps) {
  const from = (name) => import(`${site}/${name}.js`);
  const [{ load }, { LessonModel, signed }, { Drawing, pattern }, { Progress }, { digits }] = await Promise.all(
    ["engine", "lesson_model", "lesson_patterns", "lesson_progress", "lesson_view"].map(from),
  );
  let engine, model;
  const verbs = {
    async load(address, data) {
      engine = await load(address);
      model = new LessonModel(engine, data);
      return model.digits;
    },
    noise: (clean, rates, options) => model.noise(clean, rates, options),
    start: (seed) => model.start(seed),
    rates: (step) => model.rates(step),
    back: (options) => model.back(options),
    compare: (options) => model.compare(options),
    judge: (image) => model.judge(image),
    walk: async (options) => all(model.walk(options)),
    // two at once, each step of them in turn
    walks: (first, second) => Promise.all([all(model.walk(first)), all(model.walk(second))]),
    signed: (bytes) => signed(bytes),
    pattern: (name) => pattern(name),
    strokes: (...strokes) => {
      const drawing = new Drawing();
      for (const stroke of strokes) drawing.stroke(...stroke);
      return [drawing.bytes, drawing.isEmpty];
    },
    digits: (values) => values.map(digits),
    // a store that holds a text, or is forbidden, and what a progress does with it: [method, ...inputs]
    progress: (text, ...actions) => {
      const store = { text, getItem: () => store.text, setItem: (_, value) => void (store.text = value) };
      const heard = [];
      const progress = new Progress(text === "forbidden" ? undefined : store);
      progress.onChange(({ rightAnswers }) => heard.push(rightAnswers));
      for (const [method, ...inputs] of actions) progress[method](...inputs);
      const { state, triedSections, rightAnswers, isComplete, isKept } = progress;
      return { state, triedSections, rightAnswers, isComplete, isKept, heard, text: store.text };
    },
  };
  const results = [];
  for (const [verb, ...inputs] of steps) {
    try {
      results.push(await verbs[verb](...inputs.map(unpack)));
    } catch (error) {
      results.push({ error: error.message });
    }
  }
  engine?.close();
  return pack(results);
}

async function all(iterator) {
  const found = [];
  for await (const each of iterator) found.push(each);
  return found;
}
