"""The docstring of an op as HTML: its derivation with typeset formulas.

What a docstring is made of:

    name: what it is, in one sentence.
    Forward, Backward ...           headings
    Letters: ...                    single letters are formulas
    Cost: ..., Source: ...
    `x = 0`, ``stride``             in text, a formula and a word of the code
        y = x w    a remark         indented lines: formulas, parted from one another and from remarks by two spaces or
                                    more; a line indented further goes on with the one above
        y = x w    ->  dx = dy w^T  a line of the forward and what it is reversed
"""

from __future__ import annotations

import ast
import html
import inspect
import re

from tinydiff.pages.formulas import NoFormula, formula

LABELS = ("Letters", "Cost", "Source")
HEADING = re.compile(r"(Forward|Backward[^.:]*)(?:\.\s*|$)")
INLINE = re.compile(r"``(.+?)``|`(.+?)`")
LETTER = re.compile(r"(?<![\w'-])(?!(?<=\. )A\b|a\b)([A-Za-z]'?)(?![\w'-])")
FURTHER = 8  # columns


def summary(module):
    """What an op is, in the first sentence of its docstring, as HTML."""
    return _text(inspect.getdoc(module).partition("\n\n")[0].partition(": ")[2].replace("\n", " "), known(module))


def derivation(module):
    """All else in the docstring of an op, as HTML."""
    words, parts = known(module), []
    for block in inspect.getdoc(module).split("\n\n")[1:]:
        for indented, lines in _stretches(block.splitlines()):
            parts.append(_formulas(lines, words) if indented else _prose(" ".join(lines), words))
    return "\n".join(parts)


def known(module):
    """The names that the docstring of an op may use in formulas: those of its code, and those it gives a value to."""
    names = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        for field in ("id", "arg", "name"):
            names.add(getattr(node, field, None))
    for line in re.findall(r"(?m)^ .*", inspect.getdoc(module)):
        for left in re.findall(r"([\w, ]+?)(?:\[[^=]*\])?\s*=", line):
            names |= set(re.findall(r"[A-Za-z]\w*", left))
    return {name for name in names if isinstance(name, str) and len(name) > 1}


def remarks(module):
    """The remarks that stand among the formulas of an op, as its docstring has them."""
    words, found = known(module), []
    for block in inspect.getdoc(module).split("\n\n")[1:]:
        for indented, lines in _stretches(block.splitlines()):
            if indented:
                parts = (part for line in _whole(lines) for part in line.split("->"))
                found += [each for part in parts for each in _parts(part, words)[1]]
    return found


def _stretches(lines):
    """[(indented, lines)] of lines that are alike in that; a label begins anew."""
    stretches = []
    for line in lines:
        indented = line.startswith("    ")
        if not stretches or stretches[-1][0] != indented or line.partition(":")[0] in LABELS:
            stretches.append((indented, []))
        stretches[-1][1].append(line)
    return stretches


def _prose(text, words):
    heading = HEADING.match(text)
    start = ""
    if heading:
        start, text = f"<h3>{_text(heading[1], words)}</h3>", text[heading.end() :]
    label, colon, rest = text.partition(": ")
    if colon and label in LABELS:
        if label == "Letters":
            rest = "".join(
                part if part.startswith("`") else LETTER.sub(r"`\1`", part) for part in re.split(r"(`.+?`)", rest)
            )
        return f'<p class="note"><b>{label}</b> {_text(rest, words)}</p>'
    return start + (f"<p>{_text(text, words)}</p>" if text else "")


def _text(text, words):
    parts = []
    for i, part in enumerate(INLINE.split(text)):
        if part is not None:
            kind = i % 3
            parts.append(
                html.escape(part, quote=False)
                if kind == 0
                else f"<code>{html.escape(part)}</code>"
                if kind == 1
                else formula(part, words, inline=True)
            )
    return "".join(parts)


def _formulas(lines, words):
    rows = []
    for line in _whole(lines):
        before, arrow, after = line.partition("->")
        if arrow:
            left, right = _cell(before, words), _cell(after, words)
            rows.append(f'<div class="from">{left}</div><div class="to">{right}</div>')
            continue
        formulas, said = _parts(line, words)
        if not formulas:
            rows.append(f"<p>{_text(' '.join(said), words)}</p>")
            continue
        aside = f'<span class="aside">{_text(" ".join(said), words)}</span>' if said else ""
        left, right = _at_equals(formulas[0])
        shown = f'<div class="left">{formula(left, words) if left else ""}</div><div class="right">'
        shown += " ".join(formula(each, words) for each in (right, *formulas[1:]) if each) + f"{aside}</div>"
        rows.append(shown)
    if all(row.startswith("<p>") for row in rows):
        return "".join(rows)
    return f'<div class="formulas">{"".join(rows)}</div>'


def _cell(text, words):
    formulas, said = _parts(text, words)
    remark = [f"<span>{_text(' '.join(said), words)}</span>"] if said else []
    return " ".join([*(formula(each, words) for each in formulas), *remark])


def _whole(lines):
    """Lines with those that go on with them."""
    start, whole = min(len(line) - len(line.lstrip()) for line in lines), []
    for line in lines:
        deeper = len(line) - len(line.lstrip()) - start
        if whole and deeper >= FURTHER:
            whole[-1] += ("   " if whole[-1].endswith(",") else " ") + line.strip()
        else:
            whole.append(line.strip())
    return whole


def _parts(line, words):
    """The formulas of a line, and its remarks."""
    formulas, said = [], []
    for part in re.split(r"\s{2,}", re.sub(r"\s+(?==|\+=)", " ", line.strip())):
        try:
            formula(part.rstrip(","), words)
        except NoFormula:
            said.append(part)
        else:
            formulas.append(part.rstrip(",") if not said else part)
    return formulas, said


def _at_equals(text):
    """A formula in two, so that those below one another stand with their signs of equality so."""
    found = re.search(r"(?<![+<>])=", re.sub(r"\{.*?\}", lambda braces: "·" * len(braces[0]), text))
    return (text[: found.start()].strip(), text[found.start() :]) if found else ("", text)
