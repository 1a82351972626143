"""A page of the site: what stands in ``tinydiff/site/NAME.html``, in the layout that all share.

Such a file begins with what the layout asks for, one comment each (title, description, script), and goes on with the
content. In it

    \\( ... \\) and \\[ ... \\]   are formulas in LaTeX, within a line and on one of their own; they become MathML
    {{name}}                  is a fact: text that Python computed for the page

A fact without a place, and a place without a fact, is an error.
"""

from __future__ import annotations

import html
import re
from importlib import resources

import latex2mathml.converter

SITE = resources.files("tinydiff") / "site"
LAYOUT = "layout.html"
# pages, as the navigation has them
NAMES = {"index": "Digits", "lab": "Lab", "lesson": "Lesson", "gradients": "Gradients"}
HEAD = re.compile(r"\s*<!-- (\w+): (.*?) -->", re.DOTALL)
FORMULA = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
NEEDLESS = ' xmlns="http://www.w3.org/1998/Math/MathML"', ' display="inline"'  # of MathML within HTML
ENTITY = re.compile(r"&#x([0-9A-F]+);")
INDENT = re.compile(r"^[ \t]+", re.MULTILINE)
PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(name, facts):
    """The HTML of a page, bytes. Raises ``ValueError`` for facts that are not those it has places for."""
    content, given = (SITE / f"{name}.html").read_text(encoding="utf-8"), {}
    while found := HEAD.match(content):
        given[found[1]] = found[2]
        content = content[found.end() :]
    filled = _fill(f"{name}.html", with_formulas(content), facts)
    if "<pre" not in filled:
        filled = INDENT.sub("", filled)  # which is for who writes it, and a tenth of a page
    around = {"content": filled.strip("\n"), "navigation": _navigation(name), "engine_size": _engine_size(), **given}
    return _fill(LAYOUT, (SITE / LAYOUT).read_text(encoding="utf-8"), around).encode()


def with_formulas(text):
    """Text or HTML with its formulas as MathML."""

    def formula(found):
        inline, display = found.groups()
        return mathml(html.unescape(inline or display).strip(), display="inline" if inline else "block")

    return FORMULA.sub(formula, text)


def mathml(latex, *, display="inline"):
    """A formula in LaTeX as MathML."""
    made = latex2mathml.converter.convert(latex, display=display)
    for needless in NEEDLESS:
        made = made.replace(needless, "")
    return ENTITY.sub(lambda found: found[0] if chr(int(found[1], 16)) in "<>&" else chr(int(found[1], 16)), made)


def decibels(value):
    """A number of decibels as a page writes it."""
    return f"{value:.1f} dB".replace("-", "−")


def _fill(where, text, facts):
    places = set(PLACE.findall(text))
    if wrong := places ^ facts.keys():
        raise ValueError(
            f"{where}: {min(wrong)} is " + ("no fact" if min(wrong) in places else "a fact without a place")
        )
    return PLACE.sub(lambda found: facts[found[1]], text)


def _navigation(name):
    current = ' aria-current="page"'
    links = (f'<a href="{each}.html"{current if each == name else ""}>{title}</a>' for each, title in NAMES.items())
    return "\n        ".join(links)


def _engine_size():
    return f"{len((SITE / 'engine.wasm').read_bytes()) / 1e3:.0f} kB"
