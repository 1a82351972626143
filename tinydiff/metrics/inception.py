"""The network whose features FID is measured with in print: InceptionV3, as pytorch-fid runs it.

    images, uint8; float32 in [-1, 1] are rounded to it, as whoever writes a file does; of gray ones each channel is it
    -> in [0, 1], brought to 299x299 bilinearly, the middles of pixels as the points (PyTorch's align_corners=False),
       which of larger images passes over pixels, unlike a filter
    -> in [-1, 1], through the network, the mean over its last 8x8 places: 2,048 features

Every convolution is without a bias and is followed by batch norm and ReLU. The norm's statistics being known, it is
folded into the convolution:

    gamma (conv(x, w) - mean) / sqrt(variance + eps) + beta = conv(x, w scale) + beta - mean scale
    scale = gamma / sqrt(variance + eps)

Averages over 3x3 do not count what lies outside of the image, and the last block takes a maximum where the others take
an average: such is the network that was trained in 2015, unlike torchvision's.

The weights, 95 MB, do not come with the package: pytorch-fid's (pt_inception-2015-12-05-6726825d.pth), as safetensors,
under the names that they have there. Its 5.7 billion multiply-adds an image are for a GPU, or for patience.

Source: Szegedy et al., "Rethinking the inception architecture for computer vision", 2016; pytorch-fid's patches of it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from tinydiff import backends
from tinydiff.data.dataset import signed_to_bytes
from tinydiff.metrics.fid import FeatureNet

NAME = "InceptionV3 of pytorch-fid, 2,048 features"
SIZE, FEATURES = 299, 2048
EPS = 1e-3  # of batch norm
NORM = ("weight", "bias", "running_mean", "running_var")  # its arrays
BATCH = 16  # images at a time
PICKLES = (b"PK", b"\x80")  # how files of torch.save begin


class Filter(NamedTuple):
    """A convolution with its norm and ReLU. ``same``: padded so that the image keeps its size."""

    name: str
    O: int
    R: int = 1
    S: int = 1
    stride: int = 1
    same: bool = True


def average3x3(x):
    """x (N,H,W,C) -> (N,H,W,C), the mean of each pixel and those of its eight neighbours that there are."""
    ones = np.ones((1, *x.shape[1:3], 1), x.dtype)
    return _sum3x3(x) / _sum3x3(ones)


def _sum3x3(x):
    H, W = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = padded[:, :H] + padded[:, 1 : H + 1] + padded[:, 2:]
    return rows[:, :, :W] + rows[:, :, 1 : W + 1] + rows[:, :, 2:]


def max3x3(x, stride=1):
    """x (N,H,W,C) -> (N,H,W,C), the largest of each pixel and its neighbours; with a stride of 2, (N,H',W',C), of each
    window that lies within."""
    if stride == 1:
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    H, W = ((n - 3) // stride + 1 for n in x.shape[1:3])
    rows = np.max([x[:, r : r + stride * (H - 1) + 1 : stride] for r in range(3)], axis=0)
    return np.max([rows[:, :, s : s + stride * (W - 1) + 1 : stride] for s in range(3)], axis=0)


def halving_max(x):
    """x (N,H,W,C) -> (N,H',W',C)."""
    return max3x3(x, stride=2)


# A network is a filter, a function of images, a list of networks one after another, or a tuple of them side by side: all
# are fed with the same, and their channels are joined.


def _block_a(name, pooled):
    return (
        Filter(f"{name}.branch1x1", 64),
        [Filter(f"{name}.branch5x5_1", 48), Filter(f"{name}.branch5x5_2", 64, 5, 5)],
        [
            Filter(f"{name}.branch3x3dbl_1", 64),
            Filter(f"{name}.branch3x3dbl_2", 96, 3, 3),
            Filter(f"{name}.branch3x3dbl_3", 96, 3, 3),
        ],
        [average3x3, Filter(f"{name}.branch_pool", pooled)],
    )


def _block_b(name):
    return (
        Filter(f"{name}.branch3x3", 384, 3, 3, stride=2, same=False),
        [
            Filter(f"{name}.branch3x3dbl_1", 64),
            Filter(f"{name}.branch3x3dbl_2", 96, 3, 3),
            Filter(f"{name}.branch3x3dbl_3", 96, 3, 3, stride=2, same=False),
        ],
        halving_max,
    )


def _block_c(name, inner):
    return (
        Filter(f"{name}.branch1x1", 192),
        [
            Filter(f"{name}.branch7x7_1", inner),
            Filter(f"{name}.branch7x7_2", inner, 1, 7),
            Filter(f"{name}.branch7x7_3", 192, 7, 1),
        ],
        [
            Filter(f"{name}.branch7x7dbl_1", inner),
            Filter(f"{name}.branch7x7dbl_2", inner, 7, 1),
            Filter(f"{name}.branch7x7dbl_3", inner, 1, 7),
            Filter(f"{name}.branch7x7dbl_4", inner, 7, 1),
            Filter(f"{name}.branch7x7dbl_5", 192, 1, 7),
        ],
        [average3x3, Filter(f"{name}.branch_pool", 192)],
    )


def _block_d(name):
    return (
        [Filter(f"{name}.branch3x3_1", 192), Filter(f"{name}.branch3x3_2", 320, 3, 3, stride=2, same=False)],
        [
            Filter(f"{name}.branch7x7x3_1", 192),
            Filter(f"{name}.branch7x7x3_2", 192, 1, 7),
            Filter(f"{name}.branch7x7x3_3", 192, 7, 1),
            Filter(f"{name}.branch7x7x3_4", 192, 3, 3, stride=2, same=False),
        ],
        halving_max,
    )


def _block_e(name, pool):
    return (
        Filter(f"{name}.branch1x1", 320),
        [
            Filter(f"{name}.branch3x3_1", 384),
            (Filter(f"{name}.branch3x3_2a", 384, 1, 3), Filter(f"{name}.branch3x3_2b", 384, 3, 1)),
        ],
        [
            Filter(f"{name}.branch3x3dbl_1", 448),
            Filter(f"{name}.branch3x3dbl_2", 384, 3, 3),
            (Filter(f"{name}.branch3x3dbl_3a", 384, 1, 3), Filter(f"{name}.branch3x3dbl_3b", 384, 3, 1)),
        ],
        [pool, Filter(f"{name}.branch_pool", 192)],
    )


NETWORK = [
    Filter("Conv2d_1a_3x3", 32, 3, 3, stride=2, same=False),  # 299 -> 149
    Filter("Conv2d_2a_3x3", 32, 3, 3, same=False),  # 147
    Filter("Conv2d_2b_3x3", 64, 3, 3),
    halving_max,  # 73
    Filter("Conv2d_3b_1x1", 80),
    Filter("Conv2d_4a_3x3", 192, 3, 3, same=False),  # 71
    halving_max,  # 35
    _block_a("Mixed_5b", 32),
    _block_a("Mixed_5c", 64),
    _block_a("Mixed_5d", 64),
    _block_b("Mixed_6a"),  # 17
    _block_c("Mixed_6b", 128),
    _block_c("Mixed_6c", 160),
    _block_c("Mixed_6d", 160),
    _block_c("Mixed_6e", 192),
    _block_d("Mixed_7a"),  # 8
    _block_e("Mixed_7b", average3x3),
    _block_e("Mixed_7c", max3x3),
]


class Inception:
    """Images (N, H, W, 1 or 3) -> features (N, 2048), on a backend; forward alone.

    named    {name: array} of pytorch-fid's state dict; what the features do not need is passed over
    network  for tests, another

    Raises ``ValueError`` naming the first array that is missing or of another shape.
    """

    def __init__(self, named, backend, network=NETWORK):
        self.backend, self.network = backend, network
        self.folded = {}  # name of a filter: weight and bias
        _, shapes = _shapes(network, 3)
        for name, shape in shapes.items():
            if name not in named:
                raise ValueError(f"{name} is missing")
            if named[name].shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {named[name].shape}")
        for name in (name.removesuffix(".conv.weight") for name in shapes if name.endswith(".conv.weight")):
            self.folded[name] = _folded(named, name, backend)

    def features(self, images):
        """images (N, H, W, 1 or 3) uint8, or float32 in [-1, 1] -> features (N, 2048)."""
        batches = (prepared(images[first : first + BATCH]) for first in range(0, len(images), BATCH))
        return np.concatenate([self._run(self.network, x).mean(axis=(1, 2)) for x in batches])

    def _run(self, network, x):
        """What a network, as above, makes of x (N,H,W,C)."""
        if isinstance(network, Filter):
            return self._convolved(network, x)
        if isinstance(network, list):
            for each in network:
                x = self._run(each, x)
            return x
        if isinstance(network, tuple):
            return np.concatenate([self._run(each, x) for each in network], axis=-1)
        return network(x)

    def _convolved(self, each, x):
        padding = 0
        if each.same and each.R == each.S:
            padding = each.R // 2
        elif each.same:  # along one axis, which conv2d does not
            rows, columns = each.R // 2, each.S // 2
            x = np.pad(x, ((0, 0), (rows, rows), (columns, columns), (0, 0)))
        x = self.backend.asarray(x)
        y, _ = self.backend.conv2d.forward(x, *self.folded[each.name], stride=each.stride, padding=padding)
        return np.maximum(self.backend.to_numpy(y), 0)


def _folded(named, name, backend):
    """Weight (R, S, C, O) and bias (O,) of a filter and its norm in one."""
    weight = named[f"{name}.conv.weight"].astype(np.float64).transpose(2, 3, 1, 0)
    gamma, beta, mean, variance = (named[f"{name}.bn.{each}"].astype(np.float64) for each in NORM)
    scale = gamma / np.sqrt(variance + EPS)
    return [backend.asarray(each, np.float32) for each in (weight * scale, beta - mean * scale)]


def _shapes(network, C):
    """Of a network that is fed with C channels: how many it gives, and {name: shape} of its arrays."""
    if isinstance(network, Filter):
        shapes = {f"{network.name}.conv.weight": (network.O, C, network.R, network.S)}
        return network.O, shapes | {f"{network.name}.bn.{each}": (network.O,) for each in NORM}
    if not isinstance(network, (list, tuple)):
        return C, {}
    side_by_side, shapes = 0, {}
    for each in network:
        O, more = _shapes(each, C)
        side_by_side, shapes = side_by_side + O, shapes | more
        if isinstance(network, list):
            C = O
    return (C if isinstance(network, list) else side_by_side), shapes


def prepared(images):
    """images (N, H, W, 1 or 3) uint8, or float32 in [-1, 1] -> (N, 299, 299, 3) float32 in [-1, 1]."""
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(f"Inception takes images (N, H, W, 1 or 3), got {images.shape}")
    if images.dtype != np.uint8:
        images = signed_to_bytes(images)
    x = np.repeat(images, 3 // images.shape[-1], axis=-1).astype(np.float32) / np.float32(255)
    for axis in (1, 2):
        low, high, weight = _neighbours(x.shape[axis])
        weight = weight.reshape((-1, 1, 1) if axis == 1 else (-1, 1))
        x = x.take(low, axis) * (1 - weight) + x.take(high, axis) * weight
    return 2 * x - 1


def _neighbours(n):
    """Of n pixels in a row, brought to 299: between which two each new one lies, and how near to the second, (299,)."""
    place = ((np.arange(SIZE) + 0.5) * n / SIZE - 0.5).clip(0)
    low = place.astype(int)
    return low, np.minimum(low + 1, n - 1), (place - low).astype(np.float32)


def feature_net(path, backend_name="auto"):
    """The network with the weights in a file, as a ``FeatureNet``.

    Raises ``ValueError`` for a file that cannot be read, is a pickle, or lacks a weight.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"inception: {path} cannot be read ({error.strerror})") from None
    if content.startswith(PICKLES):
        raise ValueError(
            f"inception: {path} is a pickle, which could run any program. Two lines of Python make safetensors of it: "
            f"import torch, safetensors.torch as s; s.save_file(torch.load({str(path)!r}, weights_only=True), "
            f"{str(Path(path).with_suffix('.safetensors'))!r})"
        )
    try:
        network = Inception(safetensors.numpy.load(content), backends.get(backend_name))
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"inception: {path} does not hold the weights of pytorch-fid: {error}") from None
    return FeatureNet(NAME, hashlib.sha256(content).hexdigest()[:16], network.features)
