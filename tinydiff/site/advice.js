// What a measured table (tinydiff/pages/shipped.py) advises: rows of {guidance, steps, accuracy, fid} by ``images`` each,
// and of as many real images the same, ``real``.

// Whether one value of a measure is better than another, how far from perfect it is, and how it is written.
export const MEASURES = {
  accuracy: {
    // half an image more than were missed: all of them recognised is not infinitely better than all but one
    fault: ({ accuracy }, images) => 1 - accuracy + 0.5 / images,
    text: ({ accuracy }) => percent(accuracy),
    words: "recognised",
  },
  fid: { fault: ({ fid }) => fid, text: ({ fid }) => fid.toFixed(1), words: "FID" },
};

export function percent(part) {
  return `${(100 * part).toFixed(1)} %`;
}

// Which part of the way from the worst to the best each row of the table goes, in the logarithm of its fault.
export function strengths({ rows, images }, measure) {
  const faults = rows.map((row) => Math.log(Math.max(MEASURES[measure].fault(row, images), 1e-9))),
    worst = Math.max(...faults),
    best = Math.min(...faults);
  return faults.map((fault) => (worst === best ? 1 : (worst - fault) / (worst - best)));
}

// The standard error of a share of so many images, which is not 0 where all were recognised.
export function standardError(share, images) {
  const likely = (share * images + 1) / (images + 2);
  return Math.sqrt((likely * (1 - likely)) / images);
}

// {best, error, enough, likest, nearest}: the row with the most recognised, its standard error; of those within it of the
// best the one of the fewest steps, and the one with the least FID; and that with the least FID of all.
export function advise({ rows, images }) {
  const best = rows.reduce((a, b) => (better(b, a) ? b : a)),
    error = standardError(best.accuracy, images);
  const close = rows.filter(({ accuracy }) => accuracy >= best.accuracy - error),
    nearest = (some) => some.reduce((a, b) => (b.fid < a.fid ? b : a));
  const enough = close.reduce((a, b) => (b.steps < a.steps || (b.steps === a.steps && better(b, a)) ? b : a));
  return { best, error, enough, likest: nearest(close), nearest: nearest(rows) };
}

// More recognised or, of as many, nearer to real ones.
function better(a, b) {
  return a.accuracy > b.accuracy || (a.accuracy === b.accuracy && a.fid < b.fid);
}

// That in words.
export function sentence(table) {
  const { best, error, enough, likest, nearest } = advise(table);
  const at = ({ guidance, steps }) => `guidance ${guidance} and ${steps} steps`,
    fid = (row) => row.fid.toFixed(1);
  const words = [`At best ${percent(best.accuracy)} of ${table.images} digits are recognised.`];
  const within = `Within the standard error of that, ${(100 * error).toFixed(1)} points,`;
  words.push(
    likest === enough
      ? `${within} ${at(enough)} take the fewest steps and come nearest to real images: FID ${fid(enough)}.`
      : `${within} ${at(enough)} are enough, but to be recognised is not all: their FID is ${fid(enough)}, ` +
          `that of ${at(likest)} ${fid(likest)}.`,
  );
  if (nearest !== likest)
    words.push(
      `Nearest to real images are ${at(nearest)}: FID ${fid(nearest)}, ${percent(nearest.accuracy)} recognised.`,
    );
  return `${words.join(" ")} As many real images have an FID of ${fid(table.real)}.`;
}
