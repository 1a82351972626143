"""Docstrings of the ops as the page shows them: no browser is needed for it."""

import re
import xml.etree.ElementTree as xml

import pytest

from tinydiff.ops import OPS, WITHOUT_GRADIENT
from tinydiff.pages import derivations
from tinydiff.pages.formulas import NoFormula, formula


def text_of(mathml):
    """What a formula reads like."""
    return "".join(xml.fromstring(mathml.replace("&nbsp;", " ")).itertext())


@pytest.mark.parametrize(
    "given, elements",
    [
        ("x", "<mi>x</mi>"),
        ("x[m, c]", "<msub><mi>x</mi><mrow><mi>m</mi><mo>,</mo><mi>c</mi></mrow></msub>"),
        ("dx", "<mi>d</mi><mi>x</mi>"),
        ("xhat", "<mover><mi>x</mi><mo>^</mo></mover>"),
        ("gamma", "<mi>γ</mi>"),
        ("beta1^n", "<msup><msub><mi>β</mi><mn>1</mn></msub><mi>n</mi></msup>"),
        ("w^T", "<msup><mi>w</mi><mo>⊤</mo></msup>"),
        ("h'", "<mrow><mi>h</mi><mo>′</mo></mrow>"),
        ("1 / sqrt(x + eps)", "<mfrac><mn>1</mn><msqrt><mi>x</mi><mo>+</mo><mi>ε</mi></msqrt></mfrac>"),
        (
            "a b / (c + d)",
            "<mfrac><mrow><mi>a</mi><mi>b</mi></mrow><mrow><mi>c</mi><mo>+</mo><mi>d</mi></mrow></mfrac>",
        ),
        ("sum_o y", "<munder><mo>∑</mo><mi>o</mi></munder><mi>y</mi>"),
        ("sum_{h,w} y", "<munder><mo>∑</mo><mrow><mi>h</mi><mo>,</mo><mi>w</mi></mrow></munder><mi>y</mi>"),
        ("rstd", "<mi>rstd</mi>"),
        ("mean(x)", "<mi>mean</mi><mo>(</mo><mi>x</mi><mo>)</mo>"),
        ("2^-23", '<msup><mn>2</mn><mrow><mo form="prefix">−</mo><mn>23</mn></mrow></msup>'),
    ],
)
def test_formulas(given, elements):
    assert formula(given, {"rstd"}) == f"<math>{elements}</math>"


def test_within_a_line_quotients_are_flat():
    assert text_of(formula("dL/dy = a / b", set(), inline=True)) == "dL/dy=a/b"


@pytest.mark.parametrize(
    "given", ["gather over s", "x = (1", "x)", "y[", "", "rstd x", "x = %", "the sum", "sqrt x, ("]
)
def test_what_is_no_formula_is_refused(given):
    with pytest.raises(NoFormula):
        formula(given, set())


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_derivation_with_formulas(op):
    shown = derivations.derivation(OPS[op])
    assert derivations.summary(OPS[op])
    assert shown.count('<div class="formulas">') >= (1 if op in WITHOUT_GRADIENT else 2)
    assert op == "philox" or "<h3>Forward</h3>" in shown
    assert ("<h3>Backward" in shown) == (op not in WITHOUT_GRADIENT)
    assert '<p class="note"><b>Cost</b>' in shown
    for mathml in re.findall(r"<math>.*?</math>", shown):
        assert text_of(mathml)


@pytest.mark.parametrize("op", OPS)
def test_no_formula_is_left_as_plain_text(op):
    """Remarks among formulas, and text, hold no formula of their own but in backticks, which are typeset."""
    for remark in derivations.remarks(OPS[op]):
        assert not re.search(r"[=^\[\]]|sum_|sqrt|\bd[a-z]+hat", re.sub(r"`+.*?`+", "", remark)), remark
    shown = derivations.derivation(OPS[op])
    text = re.sub(r"<(math|code)>.*?</\1>", "", shown)
    assert "`" not in text
    assert not re.search(r"[=^]|sum_|sqrt\(|\bdy\b|\bdx\b", re.sub(r"<[^>]*>", "", text)), text


@pytest.mark.parametrize("op", OPS)
def test_no_word_is_lost(op):
    """All that a docstring says stands on the page."""
    shown = re.sub(r"&\w+;|<[^>]*>", " ", derivations.derivation(OPS[op]))
    body = OPS[op].__doc__.partition("\n\n")[2]
    words = re.findall(r"[a-z]{4,}", re.sub(r"`[^`]*`|^ .*$", "", body, flags=re.MULTILINE))
    assert words and not [word for word in words if word not in shown]


def test_the_main_formulas_of_group_norm():
    shown = derivations.derivation(OPS["group_norm"])
    formulas = [text_of(each).replace("d", "") for each in re.findall(r"<math>.*?</math>", shown)]
    assert "=rst(x^−mean(x^)−x^mean(x^x^))" in formulas
    assert "=rst(x^−through_mean−x^through_var)" in formulas
