import math

import numpy as np
import pytest

from tests.checks import assert_close, ones
from tinydiff.ops import timestep_embedding


def test_values():
    y = timestep_embedding.forward(np.array([0.0, 3.0]), width=4)
    assert_close(y[0], [0, 0, 1, 1])
    assert_close(y[1], [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)])


def test_float32_is_exact_to_its_last_digit_even_at_large_steps():
    step = np.array([999, 123.456], np.float32)
    y = timestep_embedding.forward(step, width=32)
    assert y.dtype == np.float32
    assert_close(y, timestep_embedding.forward(step.astype(np.float64), width=32), 1e-7)


@pytest.mark.parametrize("width", [0, 1, 3, 2.0])
def test_bad_width(backend, width):
    with pytest.raises(ValueError, match="width must be an even integer of at least 2"):
        backend.timestep_embedding.forward(ones(1), width=width)
