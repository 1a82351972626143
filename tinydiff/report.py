"""What a finished run leaves to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinydiff import pictures, plot
from tinydiff.generate import batches
from tinydiff.progress import progress_bar
from tinydiff.train import reconstructions
from tinydiff.train.folder import read_metrics
from tinydiff.train.run import shown

COLUMNS = 10
FRAMES = 12  # of the animation, besides the finished one
RECONSTRUCTIONS = 6, 8  # columns and rows
MOST_PIXELS = 2**18  # of all images of such a frame that are alike


def write(trainer, folder, sampling):
    """Write ``samples.png``, ``denoising.gif`` and ``loss.png`` into a run's folder; return their paths.

    samples.png    one row a class, ``COLUMNS`` samples each; of many classes or large images as many as ``run.shown`` says
    denoising.gif  the first of every row: the noisy x on the left, the predicted x0 on the right
    loss.png       the loss of every step, and its running median; not written where no step is known
    """
    folder = Path(folder)
    labels, columns = shown(trainer.model.classes, COLUMNS, trainer.image_shape)
    images, frames = _draw(trainer, labels, columns, sampling)
    pictures.save(pictures.grid(images, columns), folder / "samples.png")
    columns = -(-len(frames[0][0]) // 2)
    frames = [pictures.side_by_side(pictures.grid(x, columns), pictures.grid(x0_hat, columns)) for x, x0_hat in frames]
    pictures.save_animation(frames, folder / "denoising.gif", milliseconds=200)
    return [folder / "samples.png", folder / "denoising.gif", *_loss_curve_of(folder, "mean squared error")]


def write_reconstructions(trainer, folder):
    """Write ``reconstructions.png`` and ``loss.png`` into the folder of an autoencoder's run; return their paths.

    reconstructions.png  images of the data set on the left, what the autoencoder makes of them on the right
    """
    folder = Path(folder)
    reconstructions.picture_of(trainer, *RECONSTRUCTIONS)(folder / "reconstructions.png")
    return [folder / "reconstructions.png", *_loss_curve_of(folder, "loss")]


def _loss_curve_of(folder, of):
    """Write ``loss.png`` where a step is known, ``of`` being what the loss is; return its path, in a list."""
    metrics = read_metrics(folder / "metrics.jsonl")
    if metrics:
        save_loss_curve(metrics, folder / "loss.png", of)
    return [folder / "loss.png"] if metrics else []


def _draw(trainer, labels, columns, sampling):
    """Finished images (n, H, W, C), and of the ``FRAMES`` and the finished one (x, x0_hat) of the first in every row.

    The network sees half as many images at once as in training, or one: guided it sees each twice, and where a step is a
    program this is none, whose arrays live longer than they must.
    """
    config, shape = trainer.config, trainer.image_shape
    parts = batches(len(labels), shape, max(1, config.part // 4))
    animated = range(0, len(labels), columns)[: max(1, MOST_PIXELS // (shape[0] * shape[1]))]
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
            finished.append(trainer.decode(trainer.backend.to_numpy(state.x)))
            of_firsts.append(states)
    frames = [[trainer.decode(np.concatenate(each)) for each in zip(*of_one)] for of_one in zip(*of_firsts)]
    return np.concatenate(finished), frames


def save_loss_curve(metrics, path, of="mean squared error"):
    """Draw the loss of every step and its running median; metrics are dicts with "step" and "loss", ``of`` is what that
    is."""
    step = np.array([entry["step"] for entry in metrics])
    loss = np.array([entry["loss"] for entry in metrics])
    window = max(1, min(51, len(loss) // 10 * 2 + 1))
    padded = np.pad(loss, window // 2, mode="reflect")  # not "edge": the last loss would count for half a window
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1)
    axes = dict(x=(0, max(step[-1], 1)), y=(0.8 * loss.min(), 1.25 * loss.max()), log_y=True)
    figure = plot.Figure(width=840, height=480)
    panel = figure.panel(0, 0, x_label="training step", y_label=of, **axes)
    panel.line(step, loss, colour="#b3cfe6", label="each step", width=1)
    panel.line(step, smooth, label=f"running median of {window} steps")
    figure.save(path)
