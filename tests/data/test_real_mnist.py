"""Runs where the real files are at hand ($TINYDIFF_DATA or the cache)."""

import hashlib

import numpy as np
import pytest

from tinydiff.data import NotFound, mnist


@pytest.mark.parametrize("split, n", [("train", 60_000), ("test", 10_000)])
def test_real_mnist(split, n):
    try:
        said = []
        data = mnist.load(split, download=False, say=said.append)
    except NotFound as error:
        pytest.skip(str(error))
    assert data.images.shape == (n, 28, 28, 1) and data.digits and not said
    assert set(np.unique(data.labels)) == set(range(10))
    header = bytes([0, 0, 8, 3]) + n.to_bytes(4, "big") + (28).to_bytes(4, "big") * 2
    assert hashlib.sha256(header + data.images.tobytes()).hexdigest() == mnist.FILES[split][0][1]
