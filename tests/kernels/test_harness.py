"""A check must have been seen to fail: the comparison finds one wrong element in any output of any op."""

import numpy as np
import pytest

from tests.checks import EPS32, assert_as_good, normal
from tests.kernels.comparison import compare, expect, outputs
from tests.kernels.rows import ROWS
from tinydiff import backends


@pytest.mark.parametrize("op", ROWS)
def test_one_wrong_element_of_any_output_is_found(op):
    expected = expect(op, ROWS[op].always[-1], 0)
    right = outputs(backends.get("numpy"), expected)
    compare(right, expected)
    for i, output in enumerate(right):
        for wrong in (1e-3 * np.max(np.abs(output)), np.nan) if output is not None else ():
            faulty = [None if x is None else np.array(x) for x in right]
            faulty[i][np.unravel_index(np.random.default_rng(i).integers(output.size), output.shape)] += wrong
            with pytest.raises(AssertionError, match=f"{expected.names[i]} is wrong in 1 of {output.size} elements"):
                compare(faulty, expected)


@pytest.mark.parametrize("op", ROWS)
def test_a_missing_or_additional_output_is_found(op):
    expected = expect(op, ROWS[op].always[-1], 0)
    right = outputs(backends.get("numpy"), expected)
    for wrong in ([*right[:-1], np.ones(1, np.float32) if right[-1] is None else None], right[:-1], [*right, None]):
        with pytest.raises((AssertionError, ValueError)):
            compare(wrong, expected)


def one_after_another(products):
    """The sums over the last axis, in float32."""
    return np.add.accumulate(products, axis=-1, dtype=np.float32)[..., -1]


def test_a_sum_of_one_product_after_another_is_as_good_and_with_one_product_off_it_is_not():
    """At many seeds, on 21 sums of 1000 products: the most honest kernel there is, and the smallest slip."""
    errors = []
    for seed in range(300):
        expected = expect("linear", dict(leading=[3], C=1000, O=7, b=False), seed)
        x, w, _ = expected.inputs
        products = x[:, None, :] * w.T
        dx = one_after_another(expected.dy[:, None, :] * w)
        dw = one_after_another((x[:, :, None] * expected.dy[:, None, :]).transpose(1, 2, 0))
        right = [one_after_another(products), dx, dw, None]
        compare(right, expected)
        errors.append((right[0] - expected.truth[0]) / (expected.chance[0] / 2))

        m, o, c = np.unravel_index(np.argmax(np.abs(products)), products.shape)
        products[m, o, c] *= 1 + 2.0**-8  # as little as bfloat16 would make of it
        with pytest.raises(AssertionError, match="y is wrong in 1 of 21 elements"):
            compare([one_after_another(products), *right[1:]], expected)
    assert 0.5 < np.std(errors) < 1 and np.max(np.abs(errors)) < 9  # the deviation is what it is said to be


def test_as_good_as_the_rival_and_not_more_than_times_worse():
    truth = normal(0, 5, 7)
    scale = np.max(np.abs(truth))

    def off(by):
        actual = truth.astype(np.float32)
        actual[3, 2] += by
        return actual

    assert_as_good(off(0), truth)
    assert_as_good(off(3 * EPS32 * scale), truth)
    assert_as_good(off(3e-3), truth, off(0), off(-1e-3))
    assert_as_good(off(3e-5), truth, entering=100)
    assert_as_good(off(3e-3), truth, off(0), chance=1e-3)
    for actual, rivals, entering in (
        (off(6 * EPS32 * scale), [], 0),
        (off(5e-3), [off(0), off(-1e-3)], 0),
        (off(1e-4), [], 100),
        (off(np.nan), [off(1)], 0),
        (off(np.inf), [off(1)], 0),
        (off(0), [off(np.nan)], 0),  # a rival that is itself broken is no yardstick
        (off(0).astype(np.float64), [], 0),
        (off(0)[:4], [], 0),
        (off(0).reshape(7, 5), [], 0),
    ):
        with pytest.raises(AssertionError):
            assert_as_good(actual, truth, *rivals, entering=entering)


def test_nothing_but_zeros_must_be_zeros():
    zeros = np.zeros(3)
    assert_as_good(zeros.astype(np.float32), zeros, zeros.astype(np.float32))
    with pytest.raises(AssertionError):
        assert_as_good(np.array([0, 1e-30, 0], np.float32), zeros, zeros.astype(np.float32))
