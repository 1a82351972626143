// All charts of the site, each on a canvas of its own: lines, bands, points, arrows and coloured cells between two axes.
//
//     const chart = new Chart(canvas, { x: { title: "step" }, y: { title: "loss", log: true } });
//     chart.show([line(points, { colour: "c0", name: "loss" })], "Loss over 200 steps, from 1.2 to 0.3.");
//
// An axis is {title, from, to, log, ticks}; without from and to it holds what is shown, without a title it is not drawn.
// Colours are those of style.css, so charts follow the scheme. The words given to ``show`` are what a screen reader has.

const MARGIN = { left: 58, right: 18, top: 10, bottom: 42 },
  BARE = 4; // pixels around what has no axis
const NO_TICKS = 5;

// A curve through [[x, y], ...]; where y is not a number it is broken.
export const line = (points, { colour = "c0", name, dash = [], width = 2 } = {}) => ({
  name,
  colour,
  dash,
  extent: points,
  draw(context, place) {
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    let isDown = false;
    for (const [x, y] of points) {
      const at = place(x, y);
      isDown = at.every(Number.isFinite) ? (context[isDown ? "lineTo" : "moveTo"](...at), true) : false;
    }
    context.stroke();
    context.setLineDash([]);
  },
});

// The stretch between low and high of [[x, low, high], ...].
export const band = (stretches, { colour = "faint", name } = {}) => ({
  name,
  colour,
  extent: stretches.flatMap(([x, low, high]) => [
    [x, low],
    [x, high],
  ]),
  draw(context, place) {
    const edge = [...stretches.map(([x, , high]) => [x, high]), ...stretches.map(([x, low]) => [x, low]).reverse()];
    context.globalAlpha = 0.22;
    context.beginPath();
    for (const [x, y] of edge) context.lineTo(...place(x, y));
    context.fill();
    context.globalAlpha = 1;
  },
});

// Dots at flat [x, y, x, y, ...]; ``classes`` gives each the colour of its class.
export const points = (flat, { colour = "c0", classes, name, size = 2 } = {}) => ({
  name,
  colour,
  extent: classes ? [] : pairs(flat),
  draw(context, place, colourOf) {
    for (let i = 0; 2 * i < flat.length; i++) {
      if (classes) context.fillStyle = colourOf(`c${classes[i] % 8}`);
      const [x, y] = place(flat[2 * i], flat[2 * i + 1]);
      context.fillRect(x - size, y - size, 2 * size, 2 * size);
    }
  },
});

// Arrows from flat [x, y, ...] along flat [dx, dy, ...], in units of the axes.
export const arrows = (from, along, { colour = "ink", name } = {}) => ({
  name,
  colour,
  extent: pairs(from),
  draw(context, place) {
    context.lineWidth = 1.25;
    context.beginPath(); // one for all: hundreds would take as many times as long
    for (let i = 0; i < from.length; i += 2) {
      const [x, y] = place(from[i], from[i + 1]),
        [u, v] = place(from[i] + along[i], from[i + 1] + along[i + 1]);
      const length = Math.hypot(u - x, v - y),
        head = Math.min(4, length / 2),
        turn = Math.atan2(v - y, u - x);
      context.moveTo(x, y);
      context.lineTo(u, v);
      for (const side of [2.6, -2.6]) {
        context.moveTo(u, v);
        context.lineTo(u + head * Math.cos(turn + side), v + head * Math.sin(turn + side));
      }
    }
    context.stroke();
  },
});

// A board of rows of numbers, the first row lowest, over the whole of both axes; how strong each is coloured lies in
// [0, 1].
export const cells = (rows, { colour = "c1", name } = {}) => ({
  name,
  colour,
  extent: [],
  draw(context, place, colourOf, { x, y }) {
    const wide = (x.to - x.from) / rows[0].length,
      high = (y.to - y.from) / rows.length;
    rows.forEach((row, j) =>
      row.forEach((strength, i) => {
        const [left, bottom] = place(x.from + i * wide, y.from + j * high).map(Math.round),
          [right, top] = place(x.from + (i + 1) * wide, y.from + (j + 1) * high).map(Math.round);
        context.globalAlpha = Math.min(1, Math.max(0, strength));
        context.fillRect(left, top, right - left, bottom - top);
      }),
    );
    context.globalAlpha = 1;
  },
});

export class Chart {
  #layers = [];

  constructor(canvas, { x = {}, y = {}, ratio = 0.62, square = false } = {}) {
    this.canvas = canvas;
    this.axes = { x, y };
    this.ratio = square ? 1 : ratio;
    canvas.classList.add("chart");
    canvas.setAttribute("role", "img");
    // in a frame of its own: a chart that changes its height while sizes are told of is an error to browsers
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // Show these layers instead of the last ones; ``words`` say what there is to see.
  show(layers, words) {
    this.#layers = layers;
    if (words !== undefined) this.canvas.setAttribute("aria-label", words);
    this.draw();
  }

  // The values of x and y at a place of the canvas, in CSS pixels from its corner; what someone draws.
  at(left, top) {
    const { x, y, box } = this.placed;
    return [x.value((left - box.left) / box.width), y.value(1 - (top - box.top) / box.height)];
  }

  draw() {
    const width = this.canvas.clientWidth,
      dense = globalThis.devicePixelRatio || 1;
    if (!width) return;
    const has = { x: this.axes.x.title !== undefined, y: this.axes.y.title !== undefined };
    const box = {
      left: has.y ? MARGIN.left : BARE,
      top: has.y ? MARGIN.top : BARE,
    };
    box.width = width - box.left - (has.x ? MARGIN.right : BARE);
    box.height =
      this.ratio === 1 ? box.width : Math.round(width * this.ratio) - box.top - (has.x ? MARGIN.bottom : BARE);
    const height = box.top + box.height + (has.x ? MARGIN.bottom : BARE);
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(height * dense);
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    const context = this.canvas.getContext("2d"),
      style = getComputedStyle(this.canvas),
      known = {};
    const colourOf = (name) => (known[name] ??= style.getPropertyValue(`--${name}`).trim());
    context.scale(dense, dense);
    const extent = this.#layers.flatMap((layer) => layer.extent);
    const x = scaled(
        this.axes.x,
        extent.map(([x]) => x),
      ),
      y = scaled(
        this.axes.y,
        extent.map(([, y]) => y),
      );
    this.placed = { x, y, box };
    const place = (u, v) => [box.left + x.part(u) * box.width, box.top + (1 - y.part(v)) * box.height];

    context.font = `12px ${style.fontFamily}`;
    this.#frame(context, colourOf, has);
    context.save();
    context.beginPath();
    context.rect(box.left, box.top, box.width, box.height);
    context.clip();
    for (const layer of this.#layers) {
      context.fillStyle = context.strokeStyle = colourOf(layer.colour);
      layer.draw(context, place, colourOf, { x, y });
    }
    context.restore();
  }

  #frame(context, colourOf, has) {
    const { x, y, box } = this.placed;
    context.strokeStyle = colourOf("line");
    context.fillStyle = colourOf("faint");
    context.lineWidth = 1;
    context.strokeRect(box.left + 0.5, box.top + 0.5, box.width - 1, box.height - 1);
    if (has.x) {
      [context.textAlign, context.textBaseline] = ["center", "top"];
      for (const tick of x.ticks) {
        const left = box.left + x.part(tick) * box.width;
        context.fillRect(Math.round(left), box.top + box.height, 1, 4);
        context.fillText(short(tick), left, box.top + box.height + 6);
      }
      context.fillText(x.title, box.left + box.width / 2, box.top + box.height + 23);
    }
    if (!has.y) return;
    [context.textAlign, context.textBaseline] = ["right", "middle"];
    for (const tick of y.ticks) {
      const top = box.top + (1 - y.part(tick)) * box.height;
      context.globalAlpha = 0.35;
      context.fillRect(box.left, Math.round(top), box.width, 1);
      context.globalAlpha = 1;
      context.fillText(short(tick), box.left - 5, top);
    }
    context.save();
    context.translate(11, box.top + box.height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(y.title, 0, 0);
    context.restore();
  }
}

// What the colours of a chart stand for, in a list under it.
export function legend(host, layers) {
  const items = layers
    .filter(({ name }) => name)
    .map(({ name, colour, dash }) => {
      const item = document.createElement("li"),
        mark = document.createElement("span");
      mark.style.borderTop = `3px ${dash?.length ? "dashed" : "solid"} var(--${colour})`;
      mark.setAttribute("aria-hidden", "true");
      item.append(mark, name);
      return item;
    });
  host.classList.add("legend");
  host.replaceChildren(...items);
}

// A number in few digits.
export function short(value) {
  if (value === 0 || !Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(size < 1e-3 ? 0 : 1) : String(Number(value.toPrecision(3)));
}

function pairs(flat) {
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
}

// An axis with its ends, its ticks, and which part of it lies before a value.
function scaled({ title, from, to, log = false, ticks }, found) {
  const usable = found.filter((value) => Number.isFinite(value) && (!log || value > 0));
  from ??= usable.reduce((a, b) => Math.min(a, b), Infinity);
  to ??= usable.reduce((a, b) => Math.max(a, b), -Infinity);
  if (!(from <= to)) [from, to] = log ? [0.1, 1] : [0, 1];
  if (from === to) [from, to] = log ? [from / 2, to * 2] : [from - 0.5, to + 0.5];
  const inner = log ? Math.log10 : (value) => value,
    outer = log ? (value) => 10 ** value : (value) => value;
  const [low, high] = [inner(from), inner(to)];
  return {
    title,
    from,
    to,
    part: (value) => (inner(value) - low) / (high - low),
    value: (part) => outer(low + part * (high - low)),
    ticks: ticks?.filter((tick) => tick >= from && tick <= to) ?? (log ? decades(low, high) : round(from, to)),
  };
}

function round(from, to) {
  const rough = (to - from) / NO_TICKS,
    size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * size).find((step) => step >= rough);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)),
  );
}

function decades(low, high) {
  const mantissas = high - low < 1.5 ? [1, 2, 5] : [1],
    every = Math.max(1, Math.ceil((high - low) / NO_TICKS));
  const found = [];
  for (let power = Math.floor(low); power <= high; power += every)
    for (const mantissa of mantissas) found.push(Number(`${mantissa}e${power}`));
  return found.filter((tick) => Math.log10(tick) >= low - 1e-9 && Math.log10(tick) <= high + 1e-9);
}
