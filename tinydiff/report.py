"""What a finished run leaves to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinydiff import pictures, plot
from tinydiff.train.run import read_metrics

COLUMNS = 10
FRAMES = 12  # of the animation, besides the finished one


def write(trainer, folder, sampling):
    """Write ``samples.png``, ``denoising.gif`` and ``loss.png`` into a run's folder; return their paths.

    samples.png    one row a class, ``COLUMNS`` samples each
    denoising.gif  one sample a class: the noisy x on the left, the predicted x0 on the right
    loss.png       the loss of every step, and its running median
    """
    folder = Path(folder)
    classes = max(trainer.config.model.classes, 1)
    labels = np.repeat(np.arange(classes), COLUMNS)
    firsts = np.arange(classes) * COLUMNS  # the first sample of each row is the one to animate
    states = [
        (trainer.backend.to_numpy(state.x), trainer.backend.to_numpy(state.x0_hat)[firsts])
        for state in trainer.sample(labels, seed=trainer.config.seed, **sampling)
    ]
    pictures.save(pictures.grid(states[-1][0], COLUMNS), folder / "samples.png")

    columns = -(-classes // 2)
    shown = np.unique(np.linspace(0, len(states) - 1, FRAMES + 1).astype(int))
    frames = [
        pictures.side_by_side(pictures.grid(x[firsts], columns), pictures.grid(x0_hat, columns))
        for x, x0_hat in (states[i] for i in shown)
    ]
    pictures.save_animation(frames, folder / "denoising.gif", milliseconds=200)

    save_loss_curve(read_metrics(folder / "metrics.jsonl"), folder / "loss.png")
    return [folder / name for name in ("samples.png", "denoising.gif", "loss.png")]


def save_loss_curve(metrics, path):
    """Draw the loss of every step and its running median; metrics are dicts with "step" and "loss"."""
    step = np.array([entry["step"] for entry in metrics])
    loss = np.array([entry["loss"] for entry in metrics])
    window = max(1, min(51, len(loss) // 10 * 2 + 1))
    padded = np.pad(loss, window // 2, mode="reflect")  # not "edge": the last loss would count for half a window
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    axes = dict(x=(0, max(step[-1], 1)), y=(0.8 * loss.min(), 1.25 * loss.max()), log_y=True)
    figure = plot.Figure(width=840, height=480)
    panel = figure.panel(0, 0, x_label="training step", y_label="mean squared error", **axes)
    panel.line(step, loss, colour="#b3cfe6", label="each step", width=1)
    panel.line(step, smooth, label=f"running median of {window} steps")
    figure.save(path)
