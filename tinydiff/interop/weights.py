"""Our arrays and PyTorch's: the same numbers under the same names, in other orders.

    ours                                  theirs
    convolution (R, S, C, O)              (O, C, R, S)
    linear (C, O)                         (O, C)
    proj_in, proj_out of a transformer    (O, C), or (O, C, 1, 1) where they are convolutions
    class_embedding (K, E)                (K, E)
    time_embedding.linear_1.weight        its inputs are [sin, cos] here; [cos, sin] there with flip_sin_to_cos

Attention saved by older versions of diffusers has other names, which are read as well.
"""

from __future__ import annotations

import functools

import numpy as np

from tinydiff.tensors import Lazy

FROM_WAVES = "time_embedding.linear_1.weight"
PROJECTIONS = (".proj_in.weight", ".proj_out.weight")
OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def to_torch(named, *, flip_sin_to_cos):
    """{name: array} of ours, which may be lazy, -> of theirs, contiguous copies."""
    turn = lambda name, array: _turn(name, np.asarray(array), (3, 2, 0, 1), flip_sin_to_cos, 0)
    return {name: _contiguous(turn(name, array)) for name, array in named.items()}


def from_torch(named, *, flip_sin_to_cos):
    """{name: array} of theirs -> of ours, contiguous copies; of a ``Lazy`` another one."""
    turned = {}
    for name, array in named.items():
        for old, new in OLD_ATTENTION.items():
            name = name.replace(old, new) if ".attentions." in name else name
        turn = functools.partial(_from_torch, name, flip_sin_to_cos=flip_sin_to_cos)
        turned[name] = array.then(turn) if isinstance(array, Lazy) else _contiguous(turn(array))
    return turned


def _from_torch(name, array, flip_sin_to_cos):
    if f".{name}".endswith(PROJECTIONS) and array.shape[2:] == (1, 1):
        array = array[:, :, 0, 0]
    return _turn(name, array, (2, 3, 1, 0), flip_sin_to_cos, 1)


def _turn(name, array, convolution_axes, flip_sin_to_cos, waves_axis):
    if name == FROM_WAVES and flip_sin_to_cos and array.ndim == 2:
        array = np.roll(array, array.shape[waves_axis] // 2, axis=waves_axis)  # two halves change places
    if array.ndim == 4:
        return array.transpose(convolution_axes)
    return array.T if array.ndim == 2 and name != "class_embedding.weight" else array


def _contiguous(array):
    return np.array(array, order="C")
