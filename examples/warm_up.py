"""What the numbered warm-ups share: a command line, and a small model of digits."""

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


def run(main, doc, picture):
    """Call main(out, quick) as the command line says."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / picture, help="the picture (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a fraction of the work, for tests: the picture is rough")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    main(args.out, args.quick)
    print(f"wrote {args.out}")


def halved(digits):
    """28 x 28 digits at 14 x 14: what a network of a minute's training can draw."""
    images = digits.images.reshape(-1, 14, 2, 14, 2, 1).mean(axis=(2, 4))
    return Dataset(f"halved {digits.name}", images.round().astype(np.uint8), digits.labels, digits.classes)


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
        train = data.load("auto")  # MNIST; drawn digits where it cannot be had
        self.data, self.test = halved(train), halved(data.load_test(train.name, count=2000))
        steps, batch = (160, 32) if quick else (600, 64)
        fit(self.model, self.data, self.schedule, PREDICTION, steps=steps, batch=batch)

    def draw(self, labels, **options):
        """Images (N, 14, 14, 1) of these labels (N,); options as of ``generate``."""
        batches = [
            finish(generate(self.model, self.schedule, PREDICTION, labels[i : i + 100], first=i, **options))
            for i in range(0, len(labels), 100)
        ]
        return np.concatenate([self.model.backend.to_numpy(batch) for batch in batches])
