import re

import numpy as np
import pytest

from tests.checks import assert_close
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.gradcheck.explain import explain
from tinydiff.gradcheck.table import OP_ROWS, ROWS
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.ops import OPS


def test_every_op_has_an_example():
    assert list(EXAMPLES) == [row.name for row in OP_ROWS]


@pytest.mark.parametrize("op", EXAMPLES)
def test_by_hand_one_arrives_where_the_op_does(op):
    example = EXAMPLES[op]()
    y, cache = OPS[op].forward(*example.inputs.values(), **example.options)
    assert_close(y, example.results.pop("y"))
    gradients = dict(zip(example.inputs, as_tuple(OPS[op].backward(example.dy, cache))))
    found = {f"d{name}": gradient for name, gradient in gradients.items() if gradient is not None}
    assert set(found) == set(example.results)
    for name, gradient in found.items():
        assert_close(gradient, example.results[name])


@pytest.mark.parametrize("op", EXAMPLES)
def test_every_line_of_products_adds_up(op):
    """What stands between two signs of equality is what stands behind them."""
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    sum_of_products = re.compile(rf"([-+·\d.e() ]*[·+][-+·\d.e() ]*) = ({number})(?![\d.])")
    lines = [line for part in EXAMPLES[op]()[3:5] for line in part if "sqrt" not in line and "exp" not in line]
    sums = [match for line in lines for match in sum_of_products.findall(line)]
    for left, right in sums:
        left = left.strip()
        if left.count("(") == left.count(")"):
            left = left.replace("·", "*").replace(") (", ")*(")
            left = re.sub(r"([\d.]) \(", r"\1*(", left)
            assert np.isclose(eval(left), float(right), rtol=2e-3, atol=2e-3), (left, right)
    assert len(sums) >= {"conv2d": 13, "linear": 16, "attention": 8, "group_norm": 4}.get(op, 0)


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_an_explanation_holds_derivation_and_gradients(row):
    text = explain(row)
    assert "def backward" in text if row.kind != "op" else "Backward" in text
    if row.kind == "op":
        assert row.module.__doc__.strip().splitlines()[0] in text
        printed = [re.sub(r"^.* = ", "", each) for each in re.split(r"(?m)^(?=d\w+ by )", text)[1:]]
        derived, defined = printed[::2], printed[1::2]
        assert derived and [each.split() for each in derived] == [each.split() for each in defined]
