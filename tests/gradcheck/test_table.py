import importlib
import pkgutil
from pathlib import Path

import numpy as np
import pytest

import tinydiff.model
from tests.checks import COMPILED, backend_or_skip
from tinydiff import backends
from tinydiff.backends.numpy import NumpyBackend
from tinydiff.gradcheck import GradientMismatch
from tinydiff.gradcheck.adjoint import FLOOR
from tinydiff.gradcheck.check import check, compared
from tinydiff.gradcheck.subjects import Case, Subject
from tinydiff.gradcheck.table import KINDS, OP_ROWS, ROWS
from tinydiff.ops import OPS, WITHOUT_GRADIENT

ROOT = Path(__file__).parents[2]


def test_every_op_with_a_gradient_has_a_row():
    assert {row.name for row in OP_ROWS} == set(OPS) - set(WITHOUT_GRADIENT)
    assert all(hasattr(op, "backward") == (name in ROWS) for name, op in OPS.items())


def test_everything_in_the_model_with_a_backward_has_a_row():
    with_backward = set()
    for module in pkgutil.iter_modules(tinydiff.model.__path__, "tinydiff.model."):
        things = vars(importlib.import_module(module.name)).values()
        with_backward |= {thing.__name__ for thing in things if isinstance(thing, type) and hasattr(thing, "backward")}
    assert with_backward == {row.name for row in ROWS.values() if row.kind != "op"}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_row_says_where_things_are(row):
    assert row.kind in KINDS
    for path in (row.derivation, *row.kernels, row.test):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_gradient_is_right(row):
    checked = check(row)
    assert checked.right, checked
    parameters = Subject(row.cases[0], row.module, backends.get("numpy")).parameters
    names = {gradient.name for gradient in checked.gradients}
    assert names and {parameter.name for parameter in parameters} <= names


@pytest.mark.parametrize("precision", backends.PRECISIONS)
@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_gradient_of_a_backend_is_right(row, backend, precision):
    backend_or_skip(backend, precision)
    checked = check(row, backend, precision)
    assert checked.right, checked


@pytest.mark.parametrize("precision", backends.PRECISIONS)
@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_every_gradient_of_a_backend_can_be_wrong(row, precision, monkeypatch):
    """Twice what it should be, or twenty times where the roundings of many ops to bfloat16 may err by as much as there is:
    none passes but what is nearly zero beside others (a key's bias, a shift before a norm of one channel a group)."""
    backend_or_skip("cpu", precision)
    gradients = Subject.gradients
    times = 20 if precision == "bf16" and row.kind in ("block", "model") else 2

    def wrong(self, dy):
        found = gradients(self, dy)
        if self.backend.name != "cpu":
            return found
        return {name: None if dx is None else dx * dx.dtype.type(times) for name, dx in found.items()}

    monkeypatch.setattr(Subject, "gradients", wrong)
    checked = check(row, "cpu", precision)
    largest = max(abs(gradient.comparison.numeric) for gradient in checked.gradients)
    for gradient in checked.gradients:
        assert not gradient.right or abs(gradient.comparison.numeric) < FLOOR * largest, gradient


def test_a_precision_that_is_not_here():
    with pytest.raises(ValueError, match="backend 'numpy' has no precision 'bf16'"):
        check(ROWS["silu"], "numpy", "bf16")


def test_inputs_are_exact_in_float32():
    for row in ROWS.values():
        for case in row.cases:
            for x in case.inputs.values():
                assert x is None or x.dtype.kind == "i" or np.array_equal(x, x.astype(np.float32))


class Tripled:
    """y = 3 x, with a backward that is told by what."""

    def __init__(self, by):
        self.by = by

    def forward(self, x):
        return x * x.dtype.type(3), None

    def backward(self, dy, cache):
        return None if self.by is None else dy * dy.dtype.type(self.by)


class Other(NumpyBackend):
    name = "other"


def test_a_wrong_backend_is_told_from_a_right_one(monkeypatch):
    get = backends.get
    monkeypatch.setattr(backends, "get", lambda name, precision="fp32": Other() if name == "other" else get(name))

    def case(by):
        return Case(
            {"x": np.ones(4)}, build=lambda home, backend, _: (Tripled(by if backend.name == "other" else 3), ())
        )

    for by, right in ((3, True), (3.0001, False), (np.nan, False)):
        ((_, comparison, limit),) = compared(case(by), None, "other")
        assert (comparison.error <= limit) == right
    with pytest.raises(GradientMismatch, match="the gradient of x must have shape"):
        list(compared(case(None), None, "other"))
