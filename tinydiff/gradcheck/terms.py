"""One term of a backward left out, to see the check catch it.

The code of a backward keeps the terms of its derivation as variables (``through_mean``, ``through_var``, ...). Leaving
one out means setting it to zero wherever it is given its value: the source is read, that one statement added, and the
module run again under the changed source. The module itself stays as it is.
"""

from __future__ import annotations

import ast
import inspect
import types

ZERO = "_left_out"  # the name, inside the twin, of the function that makes a term zero


def without(row, term):
    """A twin of the module of a row of the table in which ``term`` is zero in its backward.

    Raises ``ValueError`` for a name that is not one of the row's terms, naming those there are.
    """
    if term not in row.terms:
        terms = f"its terms are {', '.join(row.terms)}" if row.terms else "it has none: break the op that it calls"
        raise ValueError(f"break: {row.name} has no term {term!r} in its backward; {terms}")
    tree = ast.parse(inspect.getsource(row.module))
    drop = _Drop(term)
    for function in _functions(tree, row):
        drop.visit(function)
    if not drop.found:
        raise LookupError(f"{row.name}: no statement gives {term} its value")
    twin = types.ModuleType(row.module.__name__)
    twin.__file__ = row.module.__file__
    setattr(twin, ZERO, _zero)
    exec(compile(ast.fix_missing_locations(tree), row.module.__file__, "exec"), twin.__dict__)
    return twin


def lines(row, term):
    """The source lines that give a term its value, in order: [(line number, text)]."""
    source = inspect.getsource(row.module)
    found = []
    for function in _functions(ast.parse(source), row):
        for node in ast.walk(function):
            if _gives(node, term):
                found.append((node.lineno, source.splitlines()[node.lineno - 1].strip()))
    return sorted(found)


def _functions(tree, row):
    """The definitions of the functions that hold the terms of a row."""
    scope = tree
    if row.kind != "op":
        scope = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == row.name)
    return [node for node in scope.body if isinstance(node, ast.FunctionDef) and node.name in row.holders]


def _gives(node, term):
    if not isinstance(node, ast.Assign):
        return False
    names = [name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return any(name.id == term and isinstance(name.ctx, ast.Store) for name in names)


class _Drop(ast.NodeTransformer):
    """After every statement that gives the term a value, one that makes it zero."""

    def __init__(self, term):
        self.term, self.found = term, False

    def visit_Assign(self, node):
        if not _gives(node, self.term):
            return node
        self.found = True
        return [node, *ast.parse(f"{self.term} = {ZERO}({self.term})").body]


def _zero(value):
    return None if value is None else 0 * value
