// What the modules of the page of digits give that need no page.

export async function perform(site, steps) {
  const at = (name) => import(`${site}/${name}.js`);
  const works = {
    // [[number, step, x, x0Hat], ...] of a way of so many parts
    async states(of, steps) {
      const { states } = await at("states"),
        found = [];
      const parts = Array.from({ length: of }, (_, i) => ({
        done: i + 1,
        of,
        step: 90 - i,
        asked: i,
        x: i + 1,
        x0Hat: -i,
      }));
      for await (const { number, step, x, x0Hat } of states(parts, steps)) found.push([number, step, x, x0Hat]);
      return found;
    },
    // What three pieces of work do of which each is asked for while the one before it is under way, or not begun.
    async turns() {
      const { Turns } = await at("turns"),
        turns = new Turns(),
        heard = [];
      const work = (name) => async (signal) => {
        heard.push(`${name} begins`);
        await new Promise((resolve) => setTimeout(resolve, 20));
        heard.push(`${name} ${signal.aborted ? "is stopped" : "ends"}`);
        signal.throwIfAborted();
        return name;
      };
      const begun = turns.take(work("a"));
      await Promise.resolve();
      const others = [turns.take(work("b")), turns.take(work("c"))];
      const results = await Promise.allSettled([begun, ...others]);
      return { heard, results: results.map(({ value, reason }) => value ?? reason.name) };
    },
    async call(module, name, ...inputs) {
      return (await at(module))[name](...inputs);
    },
  };
  const results = [];
  for (const [verb, ...inputs] of steps) results.push(await works[verb](...inputs));
  return results;
}
