"""Formulas as the docstrings of the ops write them, as MathML.

The notation is what one types: ``dx[m, c] = sum_o dy[m, o] w[c, o]``, ``w^T``, ``1 / sqrt(mean((x - mean)^2) + eps)``.

    names          single letters, words of more, greek ones (gamma), accents (xhat), primes (h'), numbers (beta1); dx
                   is the gradient of x
    x[n, c]        an index
    f(x)           a function of x, without a space; with one, a product
    a b            a product; a / b all that stands before it in the product, over b
    sum_o, sum_{n: labels[n] = k}
    = -> += < ..   relations; words of ``WORDS`` between formulas

Words are told from names by what is known: a formula with an unknown one is none (``NoFormula``).
"""

from __future__ import annotations

import html
import re

GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "eps": "ε",
    "sigma": "σ",
    "pi": "π",
}
FUNCTIONS = {"mean", "var", "exp", "log", "softmax", "silu", "gelu", "erf", "erfc", "max", "cos", "sin", "floor", "sigmoid", "sqrt", "round"}
WORDS = {"for", "where", "or", "else", "if", "and"}
OPERATORS = {"+": "+", "-": "−", "xor": "⊕", "mod": "mod", "div": "div", "@": "", "·": "·"}
RELATIONS = {"=": "=", "->": "→", "+=": "+=", "<": "&lt;", "<=": "≤", ">=": "≥", "..": "…", ":": ":", "in": "∈"}
TOKEN = re.compile(
    r"(?P<space>\s*)(?P<token>0x[0-9A-F]+|\d+(?:\.\d+)?|[A-Za-z]+\d*(?:_[A-Za-z]+\d*)*'*"
    r"|\.\.\.|\.\.|->|\+=|<=|>=|[-+=/^,()\[\]{}_<:@·])"
)
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, set(")]}")
D, SLASH = "<mi>d</mi>", "<mo>/</mo>"
MINUS = '<mo form="prefix">−</mo>'
SPACE = '<mspace width=".22em"/>'


class NoFormula(ValueError):
    """A text that is none."""


def formula(text, known, *, inline=False):
    """A formula as MathML; ``known`` are its words, beside single letters and those of every formula.

    inline  within a line of text, where quotients are flat
    Raises ``NoFormula``.
    """
    parser = _Parser(text, known, inline)
    elements = parser.all()
    return f"<math>{''.join(elements)}</math>"


class _Parser:
    """Every method takes what it names from the tokens, and gives a list of MathML elements."""

    def __init__(self, text, known, inline):
        self.known, self.flat = known, inline
        self.tokens, end = [], 0
        while end < len(text.rstrip()):
            found = TOKEN.match(text, end)
            if not found:
                raise NoFormula(text)
            self.tokens.append((found["token"], bool(found["space"])))
            end = found.end()
        self.at = 0

    def all(self):
        elements = self.list(())
        if self.next() is not None or not elements:
            raise NoFormula(self.next())
        return elements

    def next(self, ahead=0):
        return self.tokens[self.at + ahead][0] if self.at + ahead < len(self.tokens) else None

    def take(self, wanted=None):
        token = self.next()
        if token is None or wanted not in (None, token):
            raise NoFormula(token)
        self.at += 1
        return token

    def list(self, until):
        """Formulas between commas, relations and words."""
        elements = []
        while self.next() is not None and self.next() not in until:
            token = self.next()
            if token == ",":
                elements += ["<mo>,</mo>"]
            elif token in RELATIONS:
                elements += [f"<mo>{RELATIONS[token]}</mo>"]
            elif token in WORDS:
                elements += [f"<mtext>&nbsp;{token}&nbsp;</mtext>"]
            elif token == "...":
                elements += ["<mo>…</mo>"]
            else:
                elements += self.sum()
                continue
            self.take()
        return elements

    def sum(self):
        elements = []
        while True:
            if self.next() == "-":
                self.take()
                elements += [MINUS]
            elements += self.product()
            if self.next() not in OPERATORS:
                return elements
            operator = OPERATORS[self.take()]
            if len(operator) > 1:
                elements += [SPACE, *_word(operator), SPACE]
            else:
                elements.append(f"<mo>{operator}</mo>" if operator else SPACE)

    def product(self):
        factors = [self.factor()]
        while True:
            if self.next() == "/":
                self.take()
                below = self.factor()
                if self.flat:
                    factors += [[SLASH], below]
                else:
                    above = _joined(factors) if len(factors) > 1 else _bare(factors[0])
                    factors = [[f"<mfrac>{_row(above)}{_row(_bare(below))}</mfrac>"]]
            elif self._begins_a_factor():
                factors.append(self.factor())
            else:
                return _joined(factors)

    def _begins_a_factor(self):
        token = self.next()
        return (
            token is not None
            and (token[0].isalnum() or token in OPEN)
            and not (token in WORDS or token in OPERATORS or token in RELATIONS)
        )

    def factor(self):
        elements = self.atom()
        while self.next() == "^" or (self.next() == "[" and not self.tokens[self.at][1]):
            if self.take() == "[":
                below = self.inside("]")
                elements = [f"<msub>{_row(elements)}{_row(below)}</msub>"]
            else:
                elements = [f"<msup>{_row(elements)}{_row(self.exponent())}</msup>"]
        return elements

    def exponent(self):
        if self.next() == "T":
            self.take()
            return ["<mo>⊤</mo>"]
        sign = [MINUS] if self.next() == "-" and self.take() else []
        if self.next() != "(":
            return sign + self.atom()
        self.take()
        return sign + self.inside(")")

    def inside(self, close):
        """What stands before a closing bracket, where quotients are flat."""
        before, self.flat = self.flat, True
        elements = self.list((close,))
        self.flat = before
        self.take(close)
        return elements

    def atom(self):
        token = self.take()
        if token in OPEN:
            elements = self.list((OPEN[token],))
            close = self.take(OPEN[token])
            return [f"<mo>{token}</mo>", *elements, f"<mo>{close}</mo>"]
        if token[0].isdigit():
            return [f"<mn>{token}</mn>"]
        if not token[0].isalpha() or token in WORDS:
            raise NoFormula(token)
        if token == "sum" or token.startswith("sum_"):
            return self.total(token)
        if self.next() == "(" and not self.tokens[self.at][1]:
            return self.application(token)
        return self.name(token)

    def total(self, token):
        below = _letters(token.removeprefix("sum_")) if token != "sum" else []
        if token == "sum" and self.next() == "_":
            self.take(), self.take("{")
            below = self.inside("}")
        return [f"<munder><mo>∑</mo>{_row(below)}</munder>"] if below else ["<mo>∑</mo>"]

    def application(self, token):
        self.take("(")
        elements = self.list((")",))
        self.take(")")
        if token == "sqrt":
            return [f"<msqrt>{''.join(elements)}</msqrt>"]
        if token == "floor":
            return ["<mo>⌊</mo>", *elements, "<mo>⌋</mo>"]
        try:
            name = self.name(token)
        except NoFormula:
            name = _word(token)
        return [*name, "<mo>(</mo>", *elements, "<mo>)</mo>"]

    def name(self, token):
        word = token.rstrip("'")
        elements = self.named(word)
        if primes := len(token) - len(word):
            return [f"<mrow>{''.join(elements)}<mo>{'′' * primes}</mo></mrow>"]  # a sign that stands high by itself
        return elements

    def named(self, word):
        if len(word) == 1:
            return _letters(word)
        if word in GREEK:
            return [f"<mi>{GREEK[word]}</mi>"]
        if word in self.known | FUNCTIONS and not self._is_gradient(word) and not self._is_accented(word):
            stem, number = _numbered(word)
            if number:
                stem = _letters(stem) if len(stem) == 1 else _word(stem)
                return [f"<msub>{_row(stem)}<mn>{number}</mn></msub>"]
            return _word(word)
        if self._is_accented(word):
            return [f"<mover>{_row(self.named(word[:-3]))}<mo>^</mo></mover>"]
        if self._is_gradient(word):
            return [D, *self.named(word[1:])]
        stem, number = _numbered(word)
        if number and (len(stem) == 1 or stem in GREEK or stem in self.known):
            return [f"<msub>{_row(self.named(stem))}<mn>{number}</mn></msub>"]
        stem, _, below = word.partition("_")
        if below and (stem in GREEK or len(stem) == 1):
            return [f"<msub>{_row(self.named(stem))}{_row(_letters(below))}</msub>"]
        raise NoFormula(word)

    def _is_gradient(self, word):
        rest = word[1:]
        return word[0] == "d" and (
            len(rest) == 1 or rest in GREEK or rest in self.known or (rest and self._is_accented(rest))
        )

    def _is_accented(self, word):
        return len(word) == 4 and word.endswith("hat")


def _numbered(word):
    found = re.fullmatch(r"([A-Za-z]+)(\d+)", word)
    return found.groups() if found else (word, "")


def _letters(word):
    return [f"<mi>{letter}</mi>" for letter in word]


def _word(word):
    return [f"<mi>{html.escape(word)}</mi>"]


def _joined(factors):
    """Factors beside one another, with a space where one would run into its neighbour."""
    elements, last = [], []
    for factor in factors:
        if last and [SLASH] not in (last, factor) and (_is_wide(last) or _is_wide(factor)):
            elements.append(SPACE)
        elements += factor
        last = factor
    return elements


def _is_wide(factor):
    """Whether it is more than one letter: a word, a gradient such as dx, a quotient."""
    first = factor[0]
    if first == D or re.search(r"<mi>\w{2,}</mi>", first):
        return True
    return first.startswith((f"<msub><mrow>{D}", f"<msup><mrow>{D}", "<mfrac", "<mn", "<msqrt", "<mover"))


def _bare(elements):
    """Without the brackets around all of it."""
    if elements[0] == "<mo>(</mo>" and elements[-1] == "<mo>)</mo>":
        return elements[1:-1]
    return elements


def _row(elements):
    return elements[0] if len(elements) == 1 else f"<mrow>{''.join(elements)}</mrow>"
