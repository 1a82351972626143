import copy

import numpy as np
import pytest

from tests.checks import COMPILED, backend_or_skip
from tinydiff import backends
from tinydiff.model.parameters import Constant, Normal, Parameters, Uniform


def build(backend=None, **options):
    parameters = Parameters(backend or backends.get("numpy"))
    parameters.add("a.bias", (3,), Constant(2.0))
    parameters.add("a.weight", (200, 3), Uniform(0.5), decay=True)
    parameters.add("b", (1000,), Normal(3.0))
    parameters.allocate(**options)
    return parameters


def test_views_share_the_flat_buffers_and_decayed_values_come_first():
    parameters = build()
    assert parameters.count == 1603 and parameters.decayed == 600
    parameters.values[:600], parameters.grads[600:603] = 1, 2
    assert (parameters["a.weight"].value == 1).all() and (parameters["a.bias"].grad == 2).all()
    parameters["b"].value[...] = 3
    assert (parameters.values[603:] == 3).all()


def test_initial_values():
    parameters = build()
    parameters.initialise(1)
    weight = parameters["a.weight"].value
    assert np.abs(weight).max() <= 0.5 and abs(weight.std() - 0.5 / np.sqrt(3)) < 0.02
    assert abs(parameters["b"].value.std() - 3) < 0.3 and (parameters["a.bias"].value == 2).all()
    other = build()
    other.initialise(1)
    assert np.array_equal(other.values, parameters.values)
    other.initialise(2)
    assert not np.array_equal(other.values, parameters.values)


def test_named_arrays_round_trip():
    parameters, flat = build(), np.arange(1603, dtype=np.float32)
    named = parameters.to_numpy(flat)
    assert list(named) == ["a.bias", "a.weight", "b"] and named["a.weight"].shape == (200, 3)
    back = np.zeros_like(flat)
    parameters.load(back, named)
    assert np.array_equal(back, flat)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda named: named.pop("b"), "parameter b is missing"),
        (lambda named: named.update(c=np.ones(1)), "parameter c is not part of this model"),
        (lambda named: named.update(b=np.ones(9)), r"parameter b must have shape \(1000,\), got \(9,\)"),
    ],
)
def test_arrays_that_do_not_fit_change_nothing(change, message):
    parameters = build()
    named = parameters.to_numpy(np.ones(1603, np.float32))
    change(named)
    with pytest.raises(ValueError, match=message):
        parameters.load(parameters.values, named)
    assert (parameters.values == 0).all()


def test_a_name_is_declared_once():
    parameters = build()
    with pytest.raises(ValueError, match="parameter 'b' is declared twice"):
        parameters.add("b", (1,), Constant(0.0))


@pytest.mark.parametrize("backend", COMPILED)
def test_matrices_are_read_rounded_where_activations_are(backend):
    parameters = build()
    assert parameters.rounded is None and parameters["a.weight"].operand is parameters["a.weight"].value
    parameters = build(backend_or_skip(backend, "bf16"))
    weight, bias = parameters["a.weight"], parameters["a.bias"]
    assert parameters.values.dtype == np.float32 and str(parameters.rounded.dtype) == "bfloat16"
    assert bias.operand is bias.value and weight.operand.shape == weight.shape
    for write in (
        lambda: parameters.initialise(1),
        lambda: parameters.load(parameters.values, parameters.to_numpy(np.arange(1603) / np.float32(7))),
    ):
        write()
        assert np.any(weight.value) and np.array_equal(weight.operand, weight.value.astype(parameters.rounded.dtype))
    parameters.values[...] = 1 + 2**-8 + 2**-20  # just above the middle between two bfloat16
    parameters.refresh()
    assert (weight.operand == 1 + 2**-7).all() and (weight.value != weight.operand).all()


@pytest.mark.parametrize("backend", COMPILED)
def test_frozen_they_are_held_in_the_precision_in_which_they_are_read_alone(backend):
    named = build().to_numpy(np.arange(1603, dtype=np.float32) / np.float32(7))
    whole, frozen = (build(backend_or_skip(backend, "bf16"), frozen=each) for each in (False, True))
    for parameters in (whole, frozen):
        parameters.load(parameters.values, named)
        parameters.refresh()
    assert frozen.grads is None and frozen["a.weight"].value is None
    assert frozen.values.size + frozen.rounded.size == frozen.count == whole.count
    for each in whole:
        assert np.array_equal(frozen[each.name].operand, each.operand)
    again = copy.deepcopy(frozen)
    assert all(np.array_equal(again[each.name].operand, each.operand) for each in whole)
    with pytest.raises(ValueError, match="parameters that are frozen in bfloat16 are loaded, not drawn"):
        frozen.initialise(1)
    assert build(backend_or_skip(backend), frozen=True)["a.weight"].value is not None
