"""What a finished run leaves to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinydiff import pictures, plot
from tinydiff.generate import batches
from tinydiff.progress import progress_bar
from tinydiff.train.folder import read_metrics
from tinydiff.train.run import shown

COLUMNS = 10
FRAMES = 12  # of the animation, besides the finished one
MOST_PIXELS = 2**18  # of all images of such a frame that are alike


def write(trainer, folder, sampling):
    """Write ``samples.png``, ``denoising.gif`` and ``loss.png`` into a run's folder; return their paths.

    samples.png    one row a class, ``COLUMNS`` samples each; of many classes or large images as many as ``run.shown`` says
    denoising.gif  the first of every row: the noisy x on the left, the predicted x0 on the right
    loss.png       the loss of every step, and its running median; not written where no step is known
    """
    folder = Path(folder)
    labels, columns = shown(trainer.config.model, COLUMNS)
    images, frames = _draw(trainer, labels, columns, sampling)
    pictures.save(pictures.grid(images, columns), folder / "samples.png")
    columns = -(-len(frames[0][0]) // 2)
    frames = [pictures.side_by_side(pictures.grid(x, columns), pictures.grid(x0_hat, columns)) for x, x0_hat in frames]
    pictures.save_animation(frames, folder / "denoising.gif", milliseconds=200)
    written = ["samples.png", "denoising.gif"]

    if metrics := read_metrics(folder / "metrics.jsonl"):
        save_loss_curve(metrics, folder / "loss.png")
        written.append("loss.png")
    return [folder / name for name in written]


def _draw(trainer, labels, columns, sampling):
    """Finished images (n, H, W, C), and of the ``FRAMES`` and the finished one (x, x0_hat) of the first in every row.

    The network sees half as many images at once as in training, or one: guided it sees each twice, and where a step is a
    program this is none, whose arrays live longer than they must.
    """
    config = trainer.config
    H, W, _ = config.model.shape
    parts = batches(len(labels), config.model.shape, max(1, config.part // 4))
    animated = range(0, len(labels), columns)[: max(1, MOST_PIXELS // (H * W))]
    kept = set(np.linspace(0, sampling["steps"], FRAMES + 1).astype(int).tolist())
    finished, of_firsts = [], []
    with progress_bar(total=len(parts) * (sampling["steps"] + 1), desc="samples: ", leave=False) as bar:
        for part in parts:
            firsts = [i - part.start for i in range(part.start, part.stop) if i in animated]
            states = []
            drawn = trainer.sample(labels[part], seed=config.seed, first=part.start, **sampling)
            for number, state in enumerate(drawn):
                if number in kept:
                    states.append([trainer.backend.to_numpy(each)[firsts] for each in (state.x, state.x0_hat)])
                bar.update()
            finished.append(trainer.backend.to_numpy(state.x))
            of_firsts.append(states)
    frames = [tuple(map(np.concatenate, zip(*of_one))) for of_one in zip(*of_firsts)]
    return np.concatenate(finished), frames


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
