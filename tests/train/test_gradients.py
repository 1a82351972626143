import numpy as np
import pytest

from tests.checks import assert_close, normal
from tinydiff import backends
from tinydiff.train.gradients import clip_factor


backend = backends.get("numpy")


def test_norm_and_factor():
    grads = normal(0, 50)
    norm, factor = clip_factor(grads, 2.0, backend)
    assert_close(norm, [np.linalg.norm(grads)])
    assert_close(np.linalg.norm(grads * factor), 2.0)
    assert clip_factor(grads, 100.0, backend)[1] == 1 and clip_factor(0 * grads, 1.0, backend)[1] == 1


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_bad_gradients_give_a_factor_that_is_not_positive(bad):
    assert not clip_factor(np.array([1.0, bad], np.float32), 1.0, backend)[1] > 0
