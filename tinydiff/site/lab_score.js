// Which way points lie: the exact score of a mixture of normals in the plane, as tinydiff/data/points2d.py derives it.

export class Mixture {
  constructor({ weights, means, covariances }) {
    Object.assign(this, { weights, means, covariances });
  }

  // The gradient of log p at points, flat, when the mixture is noised to x = a x0 + s eps.
  score(points, a, s) {
    const components = this.weights.map((weight, k) => {
      const [[p, q], [, r]] = this.covariances[k], // V = a^2 C + s^2 I, symmetric
        V = [a * a * p + s * s, a * a * q, a * a * r + s * s],
        determinant = V[0] * V[2] - V[1] * V[1];
      return {
        mean: this.means[k].map((each) => a * each),
        inverse: [V[2] / determinant, -V[1] / determinant, V[0] / determinant],
        log: Math.log(weight) - 0.5 * Math.log(determinant),
      };
    });
    const found = new Float64Array(points.length);
    for (let i = 0; i < points.length; i += 2) {
      const seen = components.map(({ mean, inverse: [p, q, r], log }) => {
        const [u, v] = [points[i] - mean[0], points[i + 1] - mean[1]],
          pull = [p * u + q * v, q * u + r * v];
        return { pull, log: log - 0.5 * (u * pull[0] + v * pull[1]) };
      });
      const most = Math.max(...seen.map(({ log }) => log));
      let all = 0;
      for (const { pull, log } of seen) {
        const odds = Math.exp(log - most);
        all += odds;
        found[i] -= odds * pull[0];
        found[i + 1] -= odds * pull[1];
      }
      found[i] /= all;
      found[i + 1] /= all;
    }
    return found;
  }

  // The same with guidance towards one component; ``label`` null: of the whole mixture.
  guided(points, a, s, label, guidance) {
    const whole = this.score(points, a, s);
    if (label === null) return whole;
    const part = (all) => [all[label]],
      one = new Mixture({ weights: [1], means: part(this.means), covariances: part(this.covariances) });
    const alone = one.score(points, a, s);
    return whole.map((each, i) => each + guidance * (alone[i] - each));
  }
}

// How far one field is from another at each point, in parts of the other's root mean square.
export function errors(field, exact) {
  const size = Math.sqrt(exact.reduce((sum, each) => sum + each * each, 0) / (exact.length / 2));
  return Array.from(
    { length: exact.length / 2 },
    (_, i) => Math.hypot(field[2 * i] - exact[2 * i], field[2 * i + 1] - exact[2 * i + 1]) / size,
  );
}

// The centres of side x side cells over [-limit, limit] in both directions, flat, the lowest row first.
export function lattice(side, limit) {
  const at = (i) => limit * ((2 * i + 1) / side - 1);
  return Float32Array.from({ length: 2 * side * side }, (_, i) =>
    at(i % 2 ? Math.floor(i / 2 / side) : (i / 2) % side),
  );
}
