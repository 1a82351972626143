// Maximum mean discrepancy between points of the plane, flat: the same estimate as tinydiff/metrics/mmd.py, which derives it.

const FACTORS = [0.5, 1, 2], // bandwidths, in median distances
  BAND = [0.025, 0.975]; // quantiles
export const SPLITS = 200; // of the real points into halves, for the floor

// The bandwidths of the three kernels.
export function medianBandwidths(real) {
  const squares = [];
  for (let i = 0; i < real.length; i += 2)
    for (let j = i + 2; j < real.length; j += 2) squares.push(squaredDistance(real, i, real, j));
  const median = Math.sqrt(quantile(Float64Array.from(squares).sort(), 0.5));
  if (!(median > 0)) throw new Error("MMD needs real data that differ: the median distance between two of them is 0");
  return FACTORS.map((factor) => factor * median);
}

// The unbiased estimate of MMD^2 between two sets.
export function squaredMmd(x, y, bandwidths) {
  const [n, m] = [x.length / 2, y.length / 2];
  const sum = (a, b) => kernelMatrix(a, b, bandwidths).reduce((all, each) => all + each, 0);
  return (sum(x, x) - n) / (n * (n - 1)) + (sum(y, y) - m) / (m * (m - 1)) - (2 * sum(x, y)) / (n * m);
}

// What two halves of 2 n real points have between them: {floor, band}, of SPLITS halvings. ``uniform`` are as many random
// numbers for each point: those with the n smallest are one half.
export function floorOf(real, uniform, bandwidths) {
  const count = real.length / 2,
    n = count / 2,
    K = kernelMatrix(real, real, bandwidths);
  const found = Float64Array.from({ length: SPLITS }, (_, split) => {
    const drawn = uniform.subarray(split * count, (split + 1) * count),
      order = Array.from(drawn.keys()).sort((i, j) => drawn[i] - drawn[j]),
      half = new Uint8Array(count);
    for (const i of order.slice(0, n)) half[i] = 1;
    let [within, between] = [-count, 0]; // less the diagonal, k(x, x) = 1
    for (let i = 0; i < count; i++)
      for (let j = 0; j < count; j++)
        half[i] === half[j] ? (within += K[i * count + j]) : (between += K[i * count + j]);
    return within / (n * (n - 1)) - between / (n * n);
  });
  const floor = found.reduce((a, b) => a + b) / SPLITS;
  found.sort();
  return { floor, band: BAND.map((part) => quantile(found, part)) };
}

// Of sorted values, linear between two.
function quantile(sorted, part) {
  const at = part * (sorted.length - 1),
    low = Math.floor(at),
    high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

function kernelMatrix(x, y, bandwidths) {
  const [n, m] = [x.length / 2, y.length / 2],
    K = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++) {
      const square = squaredDistance(x, 2 * i, y, 2 * j);
      let sum = 0;
      for (const h of bandwidths) sum += Math.exp(square / (-2 * h * h));
      K[i * m + j] = sum / bandwidths.length;
    }
  return K;
}

function squaredDistance(x, i, y, j) {
  const [u, v] = [x[i] - y[j], x[i + 1] - y[j + 1]];
  return u * u + v * v;
}
