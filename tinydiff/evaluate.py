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

The networks of accuracy and FID are those of ``tinydiff.metrics.classifier``: one for digits, and one that knows the
classes of CIFAR-10 and makes features of other colour images too. FID takes any other as a ``FeatureNet``, such as that
of papers, ``tinydiff.metrics.inception``. Scenes, whose class is their number of digits, ``tinydiff.metrics.reader``
reads; how many of the digits asked for are there and clear is told too. Where no images were held out, all are told
without what those would give.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

from tinydiff.data.dataset import bytes_to_signed
from tinydiff.metrics import SaysNothing, classifier, reader
from tinydiff.metrics.fid import fid
from tinydiff.metrics.memorisation import memorisation
from tinydiff.metrics.mmd import mmd
from tinydiff.metrics.reader import Fulfilment
from tinydiff.ranks import alone

TITLES = {
    "accuracy": "conditional accuracy",
    "digits": "digits recognised",
    "captions": "captions fulfilled",
    "fid": "FID",
    "mmd": "MMD^2 of pixels",
    "memorisation": "memorisation",
}
NO_CLASSES = "not measured: the classifiers know MNIST's digits, the classes of CIFAR-10 and scenes, not these images"
NO_LABELS = "not measured: the model draws without being asked for a class"
NO_FEATURES = (
    "not measured: there are features of MNIST's digits and of colour images of 32x32 or a multiple, not of these; "
    "--inception makes them of any images"
)


class Accuracy(NamedTuple):
    """How many samples the classifier takes for the class they were asked for as."""

    value: float
    n: int
    test: float | None  # the same of real images that were held out, with their labels; None without such images
    test_n: int

    def __str__(self):
        error = math.sqrt(self.value * (1 - self.value) / self.n)
        test = "no images were held out" if self.test is None else f"{self.test:.1%} of {self.test_n:,} test images"
        return (
            f"{self.value:.1%} of {self.n:,} samples recognised as the class asked for (standard error {error:.1%}); "
            f"{test}"
        )


class Digits(NamedTuple):
    """How many of the digits that scenes were asked for are there and clear."""

    value: float
    n: int
    test: float | None  # the same of real scenes that were held out; None without such
    test_n: int

    def __str__(self):
        test = "no images were held out" if self.test is None else f"{self.test:.1%} of {self.test_n:,} in test images"
        return f"{self.value:.1%} of {self.n:,} digits that were asked for are there and clear; {test}"


class Captions(NamedTuple):
    """How many images are as their captions say, of captions that were not trained on."""

    known: Fulfilment  # of those whose things were all seen in their colours
    n: int
    new: Fulfilment | None  # of those with a thing in a colour in which it was never seen; None where there are none
    new_n: int
    test: Fulfilment | None  # of real images of both kinds; None without such

    def __str__(self):
        told = [f"{_told(self.known)} of {self.n:,} samples"]
        if self.new is not None:
            told.append(f"of {self.new_n:,} with a thing in a colour never seen on it {_told(self.new)}")
        test = "no images were held out" if self.test is None else f"of test images {_told(self.test)}"
        return "; ".join([*told, test])


def _told(fulfilment):
    places = fulfilment.places
    placed = "" if places is None else f", places {places:.1%} where both things are there"
    return f"{fulfilment.all:.1%} (things {fulfilment.kinds:.1%}, with colours {fulfilment.colours:.1%}{placed})"


class Said(NamedTuple):
    """What samples were asked to show: of scenes, by their captions."""

    said: np.ndarray  # (N,) of ``captions.SAID``
    is_new: np.ndarray  # (N,) whether a thing is in a colour in which it was never seen


def measure(samples, labels, train, test=None, *, net=None, said=None, backend="auto", seed=0, ranks=alone()):
    """Samples (N, H, W, C) float32 in [-1, 1], drawn for labels (N,) -> {name: result}.

    labels  or None where no class was asked for
    train   the ``Dataset`` the model was trained on
    test    images of the same kind that were held out, or None where there are none
    net     the ``FeatureNet`` of FID; by default the classifier that suits the images
    said    of scenes drawn for captions, and of the ``test`` images likewise, what those say, as ``Said``; labels are None

    Each result is a NamedTuple that says itself in words; a string stands where one could not be measured, and says
    why. Conditional accuracy needs a network that knows the classes, FID one that makes features of such images. Of
    several ranks all share the work of FID, most of it, and rank 0 alone measures the rest.
    """
    rng = np.random.default_rng(seed)
    # shuffled, as measures take the first of them, and in MNIST's test set those are of other writers than the last
    held_out = None if test is None else test.images[rng.permutation(len(test))]
    has_digits = _are_scenes(train, test)
    without = {"digits": not has_digits, "captions": said is None, "accuracy": said is not None}
    results = {name: None for name in TITLES if not without.get(name)}  # in this order
    if net is None and (kind := _kind(classifier.of_images, train, test)):
        net = classifier.feature_net(backend, kind, train.images.shape[1])
    results["fid"] = NO_FEATURES
    if net is not None:
        results["fid"] = _or_why_not(fid, samples, train.images, held_out, net, ranks=ranks)
    if not ranks.speaks:
        return results
    if said is not None:
        results["captions"] = _captions(samples, said, test, backend)
    else:
        results["accuracy"] = _accuracy(samples, labels, train, test, backend)
    if has_digits:
        results["digits"] = _digits(samples, labels, test, backend)
    real = train.images[rng.permutation(len(train.images))[: 2 * len(samples)]]
    results["mmd"] = _or_why_not(mmd, samples, bytes_to_signed(real), seed=seed)
    results["memorisation"] = _or_why_not(memorisation, samples, train.images, held_out)
    return results


def _kind(of, train, test):
    """The kind of classifier that both sets ask for by this function, or None."""
    kind = of(train)
    return kind if test is None or of(test) is kind else None


def _are_scenes(train, test):
    """Whether both sets are what the reader reads."""
    return reader.suits(train) and (test is None or reader.suits(test))


def _accuracy(samples, labels, train, test, backend):
    """An ``Accuracy``, or why not."""
    if labels is None:
        return NO_LABELS
    if _are_scenes(train, test):
        classify = reader.classify
    elif kind := _kind(classifier.of_classes, train, test):
        classify = functools.partial(classifier.classify, kind=kind)
    else:
        return NO_CLASSES
    share = lambda images, labels: float((classify(images, backend) == labels).mean())
    test_share, test_n = (None, 0) if test is None else (share(test.images, test.labels), len(test))
    return Accuracy(share(samples, labels), len(labels), test_share, test_n)


def _captions(samples, said, test, backend):
    """``Captions``: half of them of either kind, or all of the first."""
    found, new = reader.read(samples, backend), said.is_new
    of = lambda some: Fulfilment.of(found[some], said.said[some]) if some.any() else None
    real = None if test is None else Fulfilment.of(reader.read(test.images, backend), said.said)
    return Captions(of(~new), int((~new).sum()), of(new), int(new.sum()), real)


def _digits(samples, labels, test, backend):
    """``Digits``, or why not."""
    if labels is None:
        return NO_LABELS

    def share(images, labels):
        asked = labels + 1
        return float(np.minimum(reader.clear(reader.read(images, backend)), asked).sum() / asked.sum())

    found = (None, 0) if test is None else (share(test.images, test.labels), int((test.labels + 1).sum()))
    return Digits(share(samples, labels), int((labels + 1).sum()), *found)


def _or_why_not(measure, *images, **options):
    try:
        return measure(*images, **options)
    except SaysNothing as error:
        return f"not measured: {error}"


def proportional_labels(dataset, count):
    """Labels (count,) in the proportions of the data set, as every measure of a distribution needs them."""
    places = (np.arange(count) + 0.5) / count * len(dataset)
    return np.sort(dataset.labels)[places.astype(int)]
