"""A training run small enough for a test: 8x8 bars on a grid, two classes."""

import numpy as np

from tinydiff import backends
from tinydiff.data.dataset import Dataset
from tinydiff.model.unet import UNetConfig
from tinydiff.train import TrainConfig, Trainer

MODEL = dict(size=8, channels=(8, 16), blocks=1, groups=4, head_width=8, classes=2)


def dataset(n=40, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = np.zeros((n, 8, 8, 1), np.uint8)
    for image, label in zip(images, labels):
        at = rng.integers(1, 7)
        image[(slice(None), at) if label else (at, slice(None))] = 255
    return Dataset("bars", images, labels, 2)


def trainer(data=None, model=None, **changes):
    data = data or dataset()
    config = dict(data=data.name, batch=8, steps=20, noise_steps=50, learning_rate=2e-3, warmup_steps=5)
    config = TrainConfig(model=UNetConfig(**{**MODEL, **(model or {})}), **{**config, **changes})
    return Trainer(config, data, backends.get("numpy"))


def state(trainer):
    """Everything a run leaves behind, as bytes."""
    checkpoint = trainer.checkpoint()
    return {(part, name): array.tobytes() for part, named in checkpoint.parts.items() for name, array in named.items()}
