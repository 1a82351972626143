// What the playground begins with besides digits: patterns, and a pad to draw on. Images are 28 x 28 bytes.

export const SIZE = 28;
const MIDDLE = (SIZE - 1) / 2,
  WHITE = 255;

const PATTERNS = {
  checkerboard: (row, column) => (Math.floor(row / 7) + Math.floor(column / 7)) % 2,
  stripes: (_, column) => Math.floor(column / 4) % 2,
  ring: (row, column) => within(Math.abs(Math.hypot(row - MIDDLE, column - MIDDLE) - 8), 2),
  gradient: (_, column) => column / (SIZE - 1),
};
export const SUBJECTS = ["digit", ...Object.keys(PATTERNS), "drawing"];

// How much of a pixel lies within a width of a line from which it is so far.
function within(distance, width) {
  return Math.min(1, Math.max(0, width + 0.5 - distance));
}

export function pattern(name) {
  return Uint8Array.from({ length: SIZE * SIZE }, (_, i) =>
    Math.round(WHITE * PATTERNS[name](Math.floor(i / SIZE), i % SIZE)),
  );
}

// A drawing, by a round pen.
export class Drawing {
  static RADIUS = 1.2;

  constructor() {
    this.clear();
  }

  clear() {
    this.bytes = new Uint8Array(SIZE * SIZE);
  }

  get isEmpty() {
    return !this.bytes.some(Boolean);
  }

  // A straight stroke between two places [column, row], in pixels from the upper left corner.
  stroke([fromX, fromY], [toX, toY]) {
    const [dx, dy] = [toX - fromX, toY - fromY],
      square = dx * dx + dy * dy;
    for (let i = 0; i < this.bytes.length; i++) {
      const [x, y] = [(i % SIZE) + 0.5 - fromX, Math.floor(i / SIZE) + 0.5 - fromY];
      const along = square ? Math.min(1, Math.max(0, (x * dx + y * dy) / square)) : 0;
      const shade = within(Math.hypot(x - along * dx, y - along * dy), Drawing.RADIUS);
      this.bytes[i] = Math.max(this.bytes[i], Math.round(WHITE * shade));
    }
  }
}
