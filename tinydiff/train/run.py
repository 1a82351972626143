"""A training run: started, stopped and resumed, with all that it leaves in its folder (``folder``)."""

from __future__ import annotations

import functools
import json
import signal
import threading
import time

import numpy as np

from tinydiff import pictures
from tinydiff.files import sync
from tinydiff.generate import draw
from tinydiff.progress import progress_bar
from tinydiff.train.folder import Elsewhere, RunFolder

# How the progress pictures are drawn: quickly, and the same each time
SAMPLES_PER_CLASS = 4
SAMPLE_OPTIONS = dict(sampler="ddim", steps=20, guidance=1.0)
MOST_ROWS = 16  # of a picture, one row a class
MOST_PIXELS = 2**20  # of all its images


def run(
    trainer,
    folder,
    *,
    minutes=None,
    checkpoint_every=250,
    sample_every=250,
    keep=3,
    picture_of=None,
    progress=True,
):
    """Train until ``config.steps``, or for so many minutes, or until Ctrl-C, SIGTERM or SIGHUP.

    ``folder``, a path or ``RunFolder``, must be new, or that of the run; it is locked meanwhile. A checkpoint is written
    every ``checkpoint_every`` steps and at the end, of which the last ``keep`` stay; a picture every ``sample_every`` steps
    (0: none), saved by ``picture_of(trainer)``, a function of a path: by default one of samples from the same noise. Returns
    None when training is complete, else why it stopped: "minutes", or the signal's name. A second Ctrl-C stops at once,
    without a checkpoint.

    Of several ranks each runs its trainer so, and all stop after the same step, whichever was told to. Rank 0 alone
    writes, and needs the folder.

    Raises ``ValueError`` for a folder that holds files of someone else or is in use, ``OSError`` if it cannot be written,
    ``NonFinite`` from the trainer. The checkpoints already there survive all of them.
    """
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be positive, got {minutes:g}")
    config, ranks = trainer.config, trainer.ranks
    if not ranks.speaks:
        folder = Elsewhere()
    elif not isinstance(folder, RunFolder):
        folder = RunFolder.of(folder)
    deadline = time.monotonic() + 60 * minutes if minutes else None
    stopped = None
    saved_at = trainer.step if trainer.step else None
    draw_picture = None
    with folder.locked(), _StopSignals() as signals:
        folder.prepare(config, trainer.dataset, trainer.step, trainer.autoencoder)
        with (
            open(folder.metrics, "a") as metrics_file,
            progress_bar(total=config.steps, initial=trainer.step, shown=progress and ranks.speaks) as bar,
        ):
            while trainer.step < config.steps and not stopped:
                metrics = trainer.train_step()
                metrics_file.write(json.dumps(metrics._asdict()) + "\n")
                rate = bar.format_dict["rate"]
                speed = f"{rate * config.batch:.0f} images/s, " if rate else ""
                bar.set_postfix_str(f"{speed}loss {metrics.loss:.4f}", refresh=False)
                bar.update()
                if metrics.step < config.steps:
                    stopped = _stop(ranks, signals, deadline)
                if sample_every and metrics.step % sample_every == 0 and ranks.speaks:
                    draw_picture = draw_picture or (picture_of or _picture_of)(trainer)
                    draw_picture(folder.samples / f"step-{metrics.step:07d}.png")
                if metrics.step % checkpoint_every == 0:
                    saved_at = _save(trainer, folder, metrics_file, keep)
            if saved_at != trainer.step:
                _save(trainer, folder, metrics_file, keep)
    return stopped


def _stop(ranks, signals, deadline):
    """Why all ranks are to stop after this step, or None: the first rank's reason that has one."""
    reason = signals.received.name if signals.received else None
    if deadline and time.monotonic() >= deadline:
        reason = reason or "minutes"
    return next(filter(None, ranks.gather(reason)), None)


def _save(trainer, folder, metrics_file, keep):
    """Write a checkpoint where this rank writes; returns its step."""
    if trainer.ranks.speaks:
        # metrics first: a checkpoint never knows of a step whose metrics may be lost
        metrics_file.flush()
        sync(metrics_file.fileno())
        folder.save(trainer.checkpoint(), keep)
    return trainer.step


def shown(classes, columns, shape):
    """The labels of a picture of samples (H, W, C), row by row, and how many are in a row.

    A row is of a class, or a text: of the first ``MOST_ROWS`` of many. It has ``columns`` samples, or, of large images, as many as
    make no more than ``MOST_PIXELS`` in all; where one in every row are too many, rows are fewer.
    """
    H, W, _ = shape
    images = max(1, MOST_PIXELS // (H * W))
    rows = min(max(classes, 1), MOST_ROWS, images)
    columns = min(columns, images // rows)
    return np.repeat(np.arange(rows), columns), columns


def _picture_of(trainer):
    """A function that draws the same noise every time and saves the picture."""
    config = trainer.config
    labels, columns = shown(trainer.model.classes, SAMPLES_PER_CLASS, trainer.image_shape)
    steps = min(SAMPLE_OPTIONS["steps"], trainer.schedule.T)
    trajectory_of = functools.cache(lambda count: trainer.trajectory(count, **{**SAMPLE_OPTIONS, "steps": steps}))

    def draw_picture(path):
        options = dict(seed=config.seed, decode=trainer.decode, at_most=config.part)
        images = draw(trajectory_of, labels, trainer.image_shape, **options)
        pictures.save(pictures.grid(images, columns), path)

    return draw_picture


class _StopSignals:
    """Within this context the first Ctrl-C, SIGTERM or SIGHUP is only noted; the next has its usual effect."""

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in self.SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN or number != getattr(signal, "SIGHUP", None):  # ignored: nohup's wish
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received = signal.Signals(number)
        for each, handler in self._before.items():
            signal.signal(each, handler)
