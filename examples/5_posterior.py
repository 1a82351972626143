"""Warm-up 5: the posterior q(x_before | x, x0), re-derived, with the sign error everyone makes.

One step of noising and all the steps before it are two normals,

    x        | x_before ~ N(sqrt(alpha) x_before, beta)                    alpha = 1 - beta
    x_before | x0       ~ N(sqrt(alpha_bar_before) x0, 1 - alpha_bar_before)

and their product, as a function of x_before, is the exponential of

    -1/2 [ (x - sqrt(alpha) x_before)^2 / beta + (x_before - sqrt(alpha_bar_before) x0)^2 / (1 - alpha_bar_before) ]
    = -1/2 [ A x_before^2 - 2 B x_before + ... ]

    A = alpha / beta + 1 / (1 - alpha_bar_before)
    B = sqrt(alpha) x / beta + sqrt(alpha_bar_before) x0 / (1 - alpha_bar_before)

so its mean is B / A and its variance 1 / A. Both squares are of differences, and both cross terms carry a minus, which the
"- 2 B" takes out. Lose it in one of them and B has a minus where a plus belongs:

    B_wrong = sqrt(alpha) x / beta - sqrt(alpha_bar_before) x0 / (1 - alpha_bar_before)

What you will see: a million triples (x0, x_before, x) drawn by noising, and what least squares finds of x_before given the other
two: B / A to three digits, and not B_wrong / A. On the right, data drawn with the one and with the other.

    python examples/5_posterior.py
"""

import numpy as np
import warm_up

from tinydiff import plot
from tinydiff.noise import schedules
from tinydiff.noise.schedules import posterior_from_alpha_bars

SCHEDULE = schedules.cosine(100)
MEAN, STD = 0.7, 0.4  # of the data: normal, so that the best denoiser is known


def derived(alpha_bar, alpha_bar_before, sign=+1):
    """Coefficients of x0 and x, and the variance, from A and B above; ``sign`` -1 makes the error."""
    alpha = alpha_bar / alpha_bar_before
    beta = 1 - alpha
    A = alpha / beta + 1 / (1 - alpha_bar_before)
    of_x0 = sign * np.sqrt(alpha_bar_before) / (1 - alpha_bar_before)
    of_x = np.sqrt(alpha) / beta
    return of_x0 / A, of_x / A, 1 / A


def measured(alpha_bar, alpha_bar_before, count, rng):
    """The same three numbers without any derivation: noise, then fit x_before to x0 and x by least squares."""
    alpha = alpha_bar / alpha_bar_before
    x0 = rng.normal(MEAN, STD, count)
    x_before = np.sqrt(alpha_bar_before) * x0 + np.sqrt(1 - alpha_bar_before) * rng.standard_normal(count)
    x = np.sqrt(alpha) * x_before + np.sqrt(1 - alpha) * rng.standard_normal(count)
    known = np.stack([x0, x], axis=1)
    coefficients, *_ = np.linalg.lstsq(known, x_before, rcond=None)
    return *coefficients, np.var(x_before - known @ coefficients)


def draw(coefficients_of, count, rng):
    """Walk from noise to data by x <- of_x0 x0_hat + of_x x + noise, with the exact x0_hat."""
    x = rng.standard_normal(count)
    for step in range(SCHEDULE.T - 1, 0, -1):
        a, s = SCHEDULE.rates(step)
        x0_hat = (MEAN / STD**2 + a * x / s**2) / (1 / STD**2 + a**2 / s**2)
        of_x0, of_x, variance = coefficients_of(SCHEDULE.alpha_bar[step], SCHEDULE.alpha_bar[step - 1])
        x = of_x0 * x0_hat + of_x * x + np.sqrt(variance) * rng.standard_normal(count)
    return x


def wrong(alpha_bar, alpha_bar_before):
    return derived(alpha_bar, alpha_bar_before, sign=-1)


def main(out, quick):
    rng, count = np.random.default_rng(0), 200_000 if quick else 1_000_000
    tolerance = 0.01 if quick else 0.005
    print(" step            of x0      of x  variance")
    table = []
    for step in (10, 30, 50, 70, 90):
        levels = SCHEDULE.alpha_bar[step], SCHEDULE.alpha_bar[step - 1]
        by_hand, by_noising, in_error = derived(*levels), measured(*levels, count, rng), wrong(*levels)
        for name, numbers in (("derived", by_hand), ("measured", by_noising), ("in error", in_error)):
            print(f"{step:5} {name:9}", "".join(f"{number:10.4f}" for number in numbers))
        table.append((step, by_hand[0], by_noising[0], in_error[0]))

        assert np.allclose(by_hand, posterior_from_alpha_bars(*levels), rtol=1e-9), "the library's is the derived one"
        assert np.allclose(by_hand, by_noising, atol=tolerance), "noising agrees"
        assert not np.allclose(in_error, by_noising, atol=tolerance), "the check must catch the sign"

    right, off = draw(derived, count // 10, rng), draw(wrong, count // 10, rng)
    print(
        f"data: mean {MEAN}, std {STD}; drawn: {right.mean():.3f}, {right.std():.3f}; in error: {off.mean():.3f}, {off.std():.3f}"
    )
    assert abs(right.mean() - MEAN) < 0.02 and abs(right.std() - STD) < 0.03
    assert abs(off.mean() - MEAN) > 0.3

    figure = plot.Figure(1, 2, width=430, height=340, title="the mean of q(x_before | x, x0)")
    step, by_hand, by_noising, in_error = np.array(table).T
    panel = figure.panel(
        0, 0, "how much x0 counts for", x=(0, 100), y=(-0.25, 0.25), x_label="step", y_label="coefficient of x0"
    )
    panel.line(step, by_hand, label="derived").line(step, in_error, label="sign error")
    panel.points(np.stack([step, by_noising], axis=1), colour="#222222", radius=4, label="measured")
    edges = np.linspace(-1.5, 3, 91)
    panel = figure.panel(0, 1, "what is drawn", x=(-1.5, 3), y=(0, 1.6), x_label="x", y_label="density")
    panel.bars(edges, np.histogram(right, edges, density=True)[0], label="derived")
    panel.bars(edges, np.histogram(off, edges, density=True)[0].clip(max=1.6), label="sign error")
    panel.line(
        edges,
        np.exp(-((edges - MEAN) ** 2) / (2 * STD**2)) / (STD * np.sqrt(2 * np.pi)),
        colour="#222222",
        label="the data",
    )
    figure.save(out)


if __name__ == "__main__":
    warm_up.run(main, __doc__, "5_posterior.png")
