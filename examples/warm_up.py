"""What the numbered warm-ups share: their two arguments, and a small model of digits."""

import argparse
from pathlib import Path

import numpy as np

from tinydiff import backends, data
from tinydiff.data import Dataset, bytes_to_signed
from tinydiff.generate import generate
from tinydiff.metrics import classifier
from tinydiff.metrics.fid import FeatureNet
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import schedules
from tinydiff.samplers import finish
from tinydiff.train.fit import fit

FOLDER = Path("runs/warm-ups")
PREDICTION = "v"


def arguments(doc, picture):
    """--out and --quick, from the command line; the folder of --out exists afterwards."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / picture, help="the picture (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, for tests: the picture is rough")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    return args


def say(path):
    print(f"wrote {path}")


def halved_digits(split="train"):
    """MNIST (drawn digits where it cannot be had) at 14 x 14: a network of a minute's training can draw it."""
    dataset = data.load("auto") if split == "train" else data.load_test(data.load("auto").name, count=2000)
    images = dataset.images.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4))
    return Dataset("halved digits", images.round().astype(np.uint8), dataset.labels, dataset.classes)


def enlarged(images):
    """(N, 14, 14, 1) -> (N, 28, 28, 1) for the classifier, each pixel four times."""
    return bytes_to_signed(images).repeat(2, axis=1).repeat(2, axis=2)


def feature_net():
    """The classifier's features, of images at half the size."""
    net = classifier.feature_net()
    return FeatureNet(f"{net.name}, images enlarged", f"{net.fingerprint}x2", lambda x: net.features(enlarged(x)))


class Digits:
    """A U-Net of 14 x 14 digits, trained on the spot."""

    def __init__(self, quick):
        config = UNetConfig(size=14, channels=(16, 48), blocks=1, groups=8, film=True)
        self.model = UNet(config, backends.get("auto"))
        self.schedule = schedules.cosine(200)
        self.data = halved_digits()
        steps, batch = (200, 32) if quick else (800, 64)
        fit(self.model, self.data, self.schedule, PREDICTION, steps=steps, batch=batch, learning_rate=2e-3)

    def draw(self, labels, **options):
        """Images (N, 14, 14, 1) of these labels (N,); options as of ``generate``."""
        batches = [
            finish(generate(self.model, self.schedule, PREDICTION, labels[i : i + 100], first=i, **options))
            for i in range(0, len(labels), 100)
        ]
        return np.concatenate([self.model.backend.to_numpy(batch) for batch in batches])
