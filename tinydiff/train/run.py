"""A training run as a folder: checkpoints, metrics and pictures; started, stopped and resumed.

config.json                   the TrainConfig
metrics.jsonl                 one line a step: step, loss, grad_norm, learning_rate
checkpoints/step-NNNNNNN.safetensors
samples/step-NNNNNNN.png      the same noise drawn at that step, one row a class
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tinydiff import pictures
from tinydiff.files import write_atomically
from tinydiff.train import checkpoint as checkpoints

# How the progress pictures are drawn: quickly, and the same each time
SAMPLES_PER_CLASS = 4
SAMPLE_OPTIONS = dict(sampler="ddim", steps=20, guidance=1.0)


def run(
    trainer,
    folder,
    *,
    minutes=None,
    checkpoint_every=250,
    sample_every=250,
    keep=3,
    progress=True,
):
    """Train until ``config.steps``, or for so many minutes, or until Ctrl-C or SIGTERM.

    A checkpoint is written every ``checkpoint_every`` steps and at the end, of which the last ``keep`` stay;
    a picture of samples every ``sample_every`` steps (0: none). Returns None when training is complete, else
    why it stopped: "minutes", or the signal's name. A second Ctrl-C stops at once, without a checkpoint.

    Raises ``OSError`` if the folder cannot be written, ``NonFinite`` from the trainer. The checkpoints
    already there survive both.
    """
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be positive, got {minutes:g}")
    folder = Path(folder)
    for each in (folder / "checkpoints", folder / "samples"):
        each.mkdir(parents=True, exist_ok=True)
    config = trainer.config
    write_atomically(folder / "config.json", json.dumps(config.to_dict(), indent=2).encode())
    _keep_metrics_until(folder / "metrics.jsonl", trainer.step)

    deadline = time.monotonic() + 60 * minutes if minutes else None
    stopped = None
    saved_at = trainer.step if trainer.step else None
    draw = None
    with (
        _StopSignals() as signals,
        open(folder / "metrics.jsonl", "a") as metrics_file,
        tqdm(total=config.steps, initial=trainer.step, unit="step", disable=not progress) as bar,
    ):
        while trainer.step < config.steps and not stopped:
            metrics = trainer.train_step()
            metrics_file.write(json.dumps(metrics._asdict()) + "\n")
            bar.update()
            bar.set_postfix(loss=f"{metrics.loss:.4f}", refresh=False)
            if metrics.step < config.steps:
                if signals.received:
                    stopped = signals.received.name
                elif deadline and time.monotonic() >= deadline:
                    stopped = "minutes"
            if sample_every and metrics.step % sample_every == 0:
                draw = draw or _sampler_of(trainer)
                draw(folder / "samples" / f"step-{metrics.step:07d}.png")
            if metrics.step % checkpoint_every == 0:
                saved_at = _save(trainer, folder, metrics_file, keep)
        if saved_at != trainer.step:
            _save(trainer, folder, metrics_file, keep)
    return stopped


def read_metrics(path):
    """The lines of a metrics file as dicts; an unfinished last line is left out."""
    if not Path(path).exists():
        return []
    lines = Path(path).read_text().split("\n")
    return [json.loads(line) for line in lines[:-1]]


def _save(trainer, folder, metrics_file, keep):
    # metrics first: a checkpoint never knows of a step whose metrics may be lost
    metrics_file.flush()
    os.fsync(metrics_file.fileno())
    checkpoints.save(checkpoints.path_for(folder / "checkpoints", trainer.step), trainer.checkpoint())
    for old in checkpoints.saved(folder / "checkpoints")[:-keep]:
        old.unlink()
    return trainer.step


def _sampler_of(trainer):
    """A function that draws the same noise every time and saves the picture."""
    labels = np.repeat(np.arange(max(trainer.config.model.classes, 1)), SAMPLES_PER_CLASS)
    steps = min(SAMPLE_OPTIONS["steps"], trainer.schedule.T)
    trajectory = trainer.trajectory(len(labels), **{**SAMPLE_OPTIONS, "steps": steps})

    def draw(path):
        images = trainer.backend.to_numpy(trajectory.draw(labels, seed=trainer.config.seed))
        pictures.save(pictures.grid(images, SAMPLES_PER_CLASS), path)

    return draw


def _keep_metrics_until(path, step):
    """Drop what a run that was killed wrote after its last checkpoint: those steps are trained again."""
    entries = [entry for entry in read_metrics(path) if entry["step"] <= step]
    if path.exists():
        content = "".join(json.dumps(entry) + "\n" for entry in entries)
        write_atomically(path, content.encode())


class _StopSignals:
    """Within this context the first Ctrl-C or SIGTERM is only noted; the next has its usual effect."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        self.received = signal.Signals(number)
        for each, handler in self._before.items():
            signal.signal(each, handler)
