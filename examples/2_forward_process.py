"""Warm-up 2: the forward process. One digit loses its signal and gains noise.

What you will see: one digit at steps 0, 100, 500 and 999, noised by the linear and by the cosine schedule, and for each its
signal rate a, its noise rate s and its signal-to-noise ratio in decibels: x = a x0 + s eps, with a^2 + s^2 = 1 at every
step. Below, the ratio over all steps: at the middle the linear schedule has drowned the digit already, the cosine
schedule has not.

    python examples/2_forward_process.py
"""

import numpy as np
import warm_up

from tinydiff import data, pictures, plot
from tinydiff.data import bytes_to_signed
from tinydiff.noise import schedules

STEPS = (0, 100, 500, 999)


def main(out, quick):
    digits = data.load("auto")
    x0 = bytes_to_signed(digits.images[:1])
    eps = np.random.default_rng(0).standard_normal(x0.shape, dtype=np.float32)
    both = {"linear": schedules.linear(1000), "cosine": schedules.cosine(1000)}

    figure = plot.Figure(3, len(STEPS), width=230, height=260, title="x = a x0 + s eps")
    for row, (name, schedule) in enumerate(both.items()):
        print(f"{name}:   step   signal a   noise s   SNR")
        for column, step in enumerate(STEPS):
            a, s = schedule.rates(step)
            x = a * x0 + s * eps
            decibels = 10 * np.log10(a**2 / s**2)
            print(f"{step:14}   {a:8.5f}   {s:7.5f}   {decibels:6.1f} dB")
            caption = f"{name}, step {step}: {decibels:.1f} dB"
            figure.panel(row, column, caption).picture(pictures.grid(np.clip(x / max(a, s), -1, 1), 1, gap=0))

            # power is neither made nor lost, the table agrees with the formula ...
            assert abs(a**2 + s**2 - 1) < 1e-12
            assert abs(decibels - schedule.snr_db[step]) < 1e-9
            # ... and taking the digit away leaves noise of just that strength
            left = x - np.float32(a) * x0
            assert abs(left.std() / s - 1) < 0.1

    options = dict(x=(0, 1000), y=(-60, 50), x_label="step", y_label="dB")
    panel = figure.panel(2, 0, "signal-to-noise ratio", span=len(STEPS), **options)
    for name, schedule in both.items():
        panel.line(np.arange(1000), schedule.snr_db, label=name)
    panel.level(0)
    figure.save(out)

    linear, cosine = both.values()
    assert linear.snr_db[500] < -10 < -3 < cosine.snr_db[500] < 3  # at half time: drowned, and just as much of both
    assert abs(linear.snr_db[999] + 43.9) < 0.1 and abs(np.sqrt(linear.alpha_bar[999]) - 0.00635) < 5e-6


if __name__ == "__main__":
    warm_up.run(main, __doc__, "2_forward_process.png")
