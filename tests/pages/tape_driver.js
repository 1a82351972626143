// What the modules of gradients.html compute, told for a list of calls: [name, ...inputs] each.

export async function perform(site, calls) {
  const { coloured } = await import(`${site}/colours.js`),
    given = await import(`${site}/given.js`),
    tape = await import(`${site}/tape.js`);
  const does = {
    // gradients, and the lines, of an op at some numbers
    worked: (about, op, numbers, term) => {
      const example = about.ops[op],
        { values, ...found } = tape.gradients(about, example, numbers, term);
      const lines = (side) => example.lines[side].map((line) => tape.filled(line, values));
      return { ...found, forward: lines("forward"), backward: lines("backward") };
    },
    general: (numbers, digits) => numbers.map((each) => tape.general(each, digits)),
    read: (text, inputs) => given.read(text, inputs),
    write: (numbers, inputs) => given.write(numbers, inputs),
    coloured: (texts) => texts.map(([text, language]) => coloured(text, language)),
  };
  return calls.map(([name, ...inputs]) => {
    try {
      return does[name](...inputs) ?? null;
    } catch ({ message }) {
      return { error: message };
    }
  });
}
