import numpy as np
import pytest

from tests.checks import normal
from tinydiff.gradcheck import taped, terms
from tinydiff.gradcheck.adjoint import TOLERANCE, as_tuple, compare
from tinydiff.gradcheck.table import OP_ROWS
from tinydiff.gradcheck.trace import Node, Tape, Traced, marks
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.ops import linear

EXACT = 1e-12
IDS = [row.name for row in OP_ROWS]


def is_float(x):
    return x is not None and x.dtype.kind == "f"


def numbers_of(row, other=None):
    """(inputs, dy) of the example of a row, or others of the same shapes."""
    example = EXAMPLES[row.name]
    if other is None:
        return example.inputs, example.dy
    inputs = {
        name: normal(other + i, *x.shape) if is_float(x) else x for i, (name, x) in enumerate(example.inputs.items())
    }
    return inputs, normal(other + 9, *example.dy.shape)


def run(found, inputs, dy):
    flat = np.concatenate([x.ravel() for x in (*inputs.values(), dy) if is_float(x)])
    return np.array(taped.run(found.tape.nodes, flat))


def filled(values, array):
    """An array of traced numbers with what a run gave for them."""
    return np.array([values[x.place] if isinstance(x, Traced) else x for x in array.ravel()]).reshape(array.shape)


def close(actual, expected):
    assert actual.shape == expected.shape
    assert np.all(np.abs(actual - expected) <= EXACT * max(1, np.max(np.abs(expected))))


@pytest.mark.parametrize("other", [None, 0, 100])
@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_a_tape_computes_what_the_op_does(row, other):
    found, (inputs, dy) = taped.of_row(row), numbers_of(row, other)
    values = run(found, inputs, dy)

    def check(op, gradients):
        y, cache = op.forward(*inputs.values(), **EXAMPLES[row.name].options)
        expected = dict(zip(inputs, as_tuple(op.backward(dy, cache))))
        close(filled(values, found.y), np.asarray(y))
        assert {name for name, dx in expected.items() if dx is not None} == set(gradients)
        for name, dx in gradients.items():
            close(filled(values, dx), expected[name])

    check(row.module, found.gradients)
    for term in row.terms:
        check(terms.without(row, term), found.without[term])


@pytest.mark.parametrize("other", [None, 100])
@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_by_hand_a_tape_arrives_where_the_op_does(row, other):
    found = taped.of_row(row)
    values = run(found, *numbers_of(row, other))
    for name, result in found.worked.results.items():
        expected = found.y if name == "y" else found.gradients[name.removeprefix("d")]
        close(filled(values, np.asarray(result)), filled(values, expected))


@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_the_forward_needs_the_nodes_it_says(row):
    found = taped.of_row(row)
    assert all(found.tape.place(y) < found.forward <= len(found.tape.nodes) for y in found.y.ravel())


@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_every_term_left_out_shows_at_the_example(row):
    example = EXAMPLES[row.name]
    inputs = {name: x if x is None else x.copy() for name, x in example.inputs.items()}

    def wrong(op):
        forward = lambda: op.forward(*inputs.values(), **example.options)
        return {name for name, each in compare(forward, op.backward, inputs, dy=example.dy) if each.error > TOLERANCE}

    assert wrong(row.module) == set()
    for term in row.terms:
        assert wrong(terms.without(row, term)), term


def test_examples_are_exact_in_float32():
    for example in EXAMPLES.values():
        for x in (*example.inputs.values(), example.dy):
            assert not is_float(x) or np.array_equal(x, x.astype(np.float32))


def test_what_depends_on_a_comparison_is_refused():
    x = Tape().inputs(np.array([1.0, 2.0]))
    with pytest.raises(TypeError, match="must not depend on a comparison"):
        x.min()
    with pytest.raises(TypeError, match="must not depend on a comparison"):
        bool(x[0] < 0)


def test_the_larger_of_two_is_chosen_when_the_tape_runs():
    tape = Tape()
    largest = tape.inputs(np.array([1.0, 2.0])).max().item()
    assert [taped.run(tape.nodes, pair)[largest.place] for pair in ((1, 2), (5, 2))] == [2, 5]


def test_what_arrays_compare_is_compared_when_the_tape_runs():
    tape = Tape()
    x = tape.inputs(np.array([1.0, -2.0, 0.0]))
    made = lambda x: [np.sign(x), np.abs(x), np.minimum(x, 0.5), np.maximum(x, 0.5), np.maximum(x, 0.5) == x]
    traced = made(x)
    for numbers in ([1.0, -2.0, 0.0], [-0.25, 0.0, 3.0]):
        values = taped.run(tape.nodes, numbers)
        for found, expected in zip(traced, made(np.array(numbers)), strict=True):
            assert np.array_equal(filled(values, found), expected)


def test_nothing_is_written_down_twice_or_for_nothing():
    tape = Tape()
    x = tape.inputs(np.array([3.0]))[0]
    assert ((x + 0) * 1 - 0) / 1 is x and 0 * x == 0
    x * 2 + x * 2
    assert tape.nodes[1:] == [Node("number", (2.0,)), Node("*", (0, 1)), Node("+", (2, 2))]


def test_marks_say_which_number_stands_where():
    x = Tape().inputs(np.array([3.0, 4.0]))
    assert marks(f"a {x[1]:.4g} = {x[0]:(.4g)}") == ["a ", [".4g", 1], " = ", ["(.4g)", 0]]


def test_other_arrays_of_objects_are_refused_as_before():
    x = np.array([[1.0]], object)
    with pytest.raises(ValueError, match="linear: x must be a floating-point array, got object"):
        linear.forward(x, x)
