"""What gradients.html computes in the tab, in node: the same as Python, for every op."""

import gzip
import html
import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.site.hosts import Node
from tinydiff.gradcheck import terms
from tinydiff.gradcheck.adjoint import TOLERANCE, as_tuple, compare
from tinydiff.gradcheck.table import OP_ROWS, ROWS
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.ops import OPS
from tinydiff.pages import examples, gradients, sources, step
from tinydiff.pages.shipped import load

EXACT = 1e-12
LARGEST = 20  # as given.js takes numbers
IDS = [row.name for row in OP_ROWS]


@pytest.fixture(scope="module")
def node():
    return Node(driver=Path(__file__).parent / "tape_driver.js")


@pytest.fixture(scope="module")
def about():
    return json.loads(examples.data())


def edited(row, seed):
    """{name: array} of what can be edited, upstream gradient last: the example's own, or other numbers."""
    example = EXAMPLES[row.name]
    upstream = examples.UPSTREAM.get(row.name, "dy")
    found = {name: x for name, x in example.inputs.items() if x is not None and x.dtype.kind == "f"}
    found[upstream] = example.dy
    if seed is None:
        return found, upstream
    rng = np.random.default_rng(seed)
    size = LARGEST if seed % 2 else 2
    return {name: rng.uniform(-size, size, x.shape).round(3) for name, x in found.items()}, upstream


def close(actual, expected):
    actual, expected = np.array(actual), np.ravel(expected)
    assert actual.shape == expected.shape
    assert np.all(np.abs(actual - expected) <= EXACT * max(1, np.max(np.abs(expected))))


@pytest.mark.parametrize("seed", [None, 2, 3, 4, 5])
@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_every_gradient_and_every_verdict_is_pythons(row, seed, node, about):
    numbers, upstream = edited(row, seed)
    dy = numbers[upstream]
    inputs = {name: numbers.get(name, x) for name, x in EXAMPLES[row.name].inputs.items()}
    given = {name: x.ravel().tolist() for name, x in numbers.items()}
    cases = [None, *row.terms]
    calls = [("worked", about, row.name, {} if seed is None else given, term) for term in cases]
    for term, found in zip(cases, node.do(*calls), strict=True):
        op = terms.without(row, term) if term else row.module
        forward = lambda op=op: op.forward(*inputs.values(), **EXAMPLES[row.name].options)
        y, cache = forward()
        close(found["y"], y)
        gradients = dict(zip(inputs, as_tuple(op.backward(dy, cache))))
        compared = dict(compare(forward, op.backward, inputs, dy=dy))
        assert set(found["gradients"]) == {name for name, dx in gradients.items() if dx is not None} == set(compared)
        for name, each in found["gradients"].items():
            close(each["derived"], gradients[name])
            assert each["isRight"] == (compared[name].error <= TOLERANCE), (term, name)
        if term is None:
            assert all(each["isRight"] for each in found["gradients"].values())
        elif seed is None:
            assert not all(each["isRight"] for each in found["gradients"].values())


@pytest.mark.parametrize("seed", [None, 2, 3])
@pytest.mark.parametrize("row", OP_ROWS, ids=IDS)
def test_the_page_and_explain_say_the_same(row, seed, node, about):
    numbers, upstream = edited(row, seed)
    inputs = {name: numbers.get(name, x) for name, x in EXAMPLES[row.name].inputs.items()}
    worked = EXAMPLES[row.name](inputs, numbers[upstream])
    [found] = node.do(("worked", about, row.name, {name: x.ravel().tolist() for name, x in numbers.items()}, None))
    assert found["forward"] == worked.forward and found["backward"] == worked.backward


@pytest.mark.parametrize("digits", [2, 4, 6])
def test_numbers_look_as_in_python(digits, node):
    rng = np.random.default_rng(0)
    numbers = np.concatenate([rng.normal(size=200) * 10.0 ** rng.integers(-12, 12, 200), np.arange(4000) / 32])
    [found] = node.do(("general", numbers.tolist(), digits))
    assert found == [f"{each:.{digits}g}" for each in numbers]


def test_numbers_in_the_address(node, about):
    inputs = about["ops"]["linear"]["inputs"]
    given = {"x": [1, 2, -0.5, 20], "b": [0, 0, 1]}
    [text] = node.do(("write", given, inputs))
    assert text == "x:1,2,-0.5,20;b:0,0,1"
    read, own, none = node.do(
        ("read", text, inputs), ("write", {"x": inputs[0]["values"]}, inputs), ("read", "", inputs)
    )
    assert (read, own, none) == (given, "", {})
    for op in EXAMPLES:  # whatever somebody changes, the rest of it can be read again
        all_inputs = about["ops"][op]["inputs"]
        changed = {each["name"]: [0.125, *each["values"][1:]] for each in all_inputs if not each["fixed"]}
        [text] = node.do(("write", changed, all_inputs))
        assert "error" not in node.do(("read", text, all_inputs))[0]


@pytest.mark.parametrize(
    "text, problem",
    [
        ("q:1", "it gives “q”, which this example does not take"),
        ("x:1,2", "x has 4 numbers, got 2"),
        ("x:1,2,,3", "x holds “”, which must be a number from -20 to 20"),
        ("x:1,2,many,3", "x holds “many”, which must be a number from -20 to 20"),
        ("x:1,2,21,3", "x holds “21”, which must be a number from -20 to 20"),
        ("x:1,2,NaN,3", "x holds “NaN”, which must be a number from -20 to 20"),
    ],
)
def test_nonsense_for_numbers_is_told(text, problem, node, about):
    assert node.do(("read", text, about["ops"]["linear"]["inputs"])) == [{"error": problem}]


def test_what_is_fixed_cannot_be_given(node, about):
    for op, name in (("class_embedding", "labels:1,1,1"), ("mse_loss", "dloss:2")):
        assert "does not take" in node.do(("read", name, about["ops"][op]["inputs"]))[0]["error"]


def test_colours_change_no_character(node):
    texts = [(text, "python" if path.endswith(".py") else "cpp") for path, text in sources.texts().items()]
    [found] = node.do(("coloured", texts))
    for (text, _), coloured in zip(texts, found, strict=True):
        assert html.unescape(re.sub(r'</?span(?: class="\w+")?>', "", coloured)) == text
        assert coloured.count('<span class="word">') > 3


def test_colours(node):
    [[python, c]] = node.do(("coloured", [('x = "a # b"  # return', "python"), ("int x = 0x1F; // if", "cuda")]))
    assert python == 'x = <span class="text">"a # b"</span>  <span class="comment"># return</span>'
    number, comment = '<span class="number">0x1F</span>', '<span class="comment">// if</span>'
    assert c == f'<span class="word">int</span> x = {number}; {comment}'


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_its_sources(op):
    files, texts = sources.files(op), sources.texts()
    assert set(files) == set(sources.LANGUAGES)
    for paths in files.values():
        assert op in paths[0] and all(texts[path] for path in paths)


@pytest.fixture(scope="module")
def facts():
    return gradients.make(load())[0]


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_place_on_the_page(op, facts):
    [section] = re.findall(rf'<section class="op" data-op="{op}".*?</section>', facts["derivations"], re.DOTALL)
    assert f'href="#{op}"' in facts["operations"]
    assert (f'<div class="live" data-op="{op}"></div>' in section) == (op in ROWS)
    for paths in sources.files(op).values():
        assert all(f"<code>{path}</code>" in section for path in paths)
    assert ("In a training step: " in section) != (op in gradients.WITHOUT_A_CALL)


def test_the_shares_of_a_step_are_shares():
    shares = step.shares(load().config)
    assert set(OPS) - set(gradients.WITHOUT_A_CALL) <= set(shares) and "array" in shares
    for part in ("flops", "bytes"):
        assert np.isclose(sum(getattr(share, part) for share in shares.values()), 1)
    assert shares["conv2d"].flops > 0.5


def test_the_data_is_small():
    files = gradients.make(load())[1]
    assert sum(len(gzip.compress(content, 9)) for content in files.values()) < 130_000
