"""How good is a trained model? Everything that ``tinydiff.metrics`` can say of its samples, in one go.

No number stands alone: accuracy is told with that of real test images; FID with the number of samples, the network
whose features it compares and its floor, the FID of as many real test images; MMD with what two such sets of real
images give; nearness to training images with that of test images. Of the laptop preset (25 DDIM steps, guidance 2):

    conditional accuracy  99.9% of 1,000 samples recognised as the class asked for (standard error 0.1%); 99.5% of
                          10,000 test images
    FID                   17.00 (n = 1,000 against 60,000 training images; floor 2.83, of 1,000 test images; tinydiff's
                          MNIST classifier, 64 features)
    MMD^2 of pixels       4.69e-03 (n = 1,000 in each set; two such sets of real data: 3e-06, 95 % of them -2.2e-04 to
                          3.1e-04)
    memorisation          0.2% of 1,000 samples lie nearer to a training image than all but 1% of 1,000 test images do;
                          median distance 0.316, of those 0.305

The network of accuracy and FID is ``tinydiff.metrics.classifier``; FID takes any other as a ``FeatureNet``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics import SaysNothing, classifier
from tinydiff.metrics.fid import fid
from tinydiff.metrics.memorisation import memorisation
from tinydiff.metrics.mmd import mmd
from tinydiff.ranks import alone

TITLES = {
    "accuracy": "conditional accuracy",
    "fid": "FID",
    "mmd": "MMD^2 of pixels",
    "memorisation": "memorisation",
}


class Accuracy(NamedTuple):
    """How many samples the classifier takes for the class they were asked for as."""

    value: float
    n: int
    test: float  # the same of real images that were held out, with their labels
    test_n: int

    def __str__(self):
        error = math.sqrt(self.value * (1 - self.value) / self.n)
        return (
            f"{self.value:.1%} of {self.n:,} samples recognised as the class asked for (standard error {error:.1%}); "
            f"{self.test:.1%} of {self.test_n:,} test images"
        )


def measure(samples, labels, train, test=None, *, backend="auto", seed=0, ranks=alone()):
    """Samples (N, H, W, C) float32 in [-1, 1], drawn for labels (N,) -> {name: result}.

    train  the ``Dataset`` the model was trained on
    test   images of the same kind that were held out, or None where there are none

    Each result is a NamedTuple that says itself in words; a string stands where one could not be measured, and says
    why. Conditional accuracy and FID need a network that knows such images: there is one for digits. Of several ranks all
    share the work of FID, most of it, and rank 0 alone measures the rest.
    """
    rng = np.random.default_rng(seed)
    # shuffled, as measures take the first of them, and in MNIST's test set those are of other writers than the last
    held_out = None if test is None else test.images[rng.permutation(len(test))]
    results = dict.fromkeys(TITLES)  # in this order
    knows = train.digits and test is not None and test.digits
    if knows:
        results["fid"] = _or_why_not(fid, samples, train.images, held_out, classifier.feature_net(backend), ranks=ranks)
    if not ranks.speaks:
        return results
    if knows:
        recognised = classifier.classify(samples, backend) == labels
        test_recognised = classifier.classify(test.images, backend) == test.labels
        accuracy = Accuracy(float(recognised.mean()), len(labels), float(test_recognised.mean()), len(test))
        results["accuracy"] = accuracy
    else:
        why_not = "not measured: the classifier reads digits, which these images are not known to be"
        results["accuracy"] = results["fid"] = why_not

    real = train.images[rng.permutation(len(train))[: 2 * len(samples)]]
    results["mmd"] = _or_why_not(mmd, samples, bytes_to_signed(real), seed=seed)
    results["memorisation"] = _or_why_not(memorisation, samples, train.images, held_out)
    return results


def _or_why_not(measure, *images, **options):
    try:
        return measure(*images, **options)
    except SaysNothing as error:
        return f"not measured: {error}"


def proportional_labels(dataset, count):
    """Labels (count,) in the proportions of the data set, as every measure of a distribution needs them."""
    places = (np.arange(count) + 0.5) / count * len(dataset)
    return np.sort(dataset.labels)[places.astype(int)]
