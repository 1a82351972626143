"""What a finished run leaves to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tinydiff import pictures
from tinydiff.train.run import read_metrics

COLUMNS = 10
FRAMES = 12  # of the animation, besides the finished one


def write(trainer, folder, sampling, *, say=print):
    """Write ``samples.png``, ``denoising.gif`` and ``loss.png`` into a run's folder; return their paths.

    samples.png    one row a class, ``COLUMNS`` samples each
    denoising.gif  one sample a class: the noisy x on the left, the predicted x0 on the right
    loss.png       the loss of every step; left out, saying so, where matplotlib is missing
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

    written = [folder / "samples.png", folder / "denoising.gif"]
    try:
        pictures.save_loss_curve(read_metrics(folder / "metrics.jsonl"), folder / "loss.png")
        written.append(folder / "loss.png")
    except ImportError:
        say("loss.png is left out: it needs matplotlib (pip install 'tinydiff[plot]')")
    return written
