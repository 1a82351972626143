"""The command ``tinydiff gradcheck``."""

from __future__ import annotations

import json
import math

from tinydiff import backends
from tinydiff.gradcheck import terms
from tinydiff.gradcheck.check import check
from tinydiff.gradcheck.explain import explain, heading
from tinydiff.gradcheck.table import ROWS
from tinydiff.ops import WITHOUT_GRADIENT

WRONG = 1  # exit status


def add_arguments(parser):
    """The arguments of ``gradcheck``."""
    parser.description = (
        "Check every gradient against central differences (or, with --backend, against the reference, which says how "
        "large errors are in that precision). The exit status is 0 if all are right; with --break, if the wrong one is "
        "caught."
    )
    parser.add_argument("name", nargs="*", help="what to check, as in the table (default: everything)")
    parser.add_argument(
        "--explain", action="store_true", help="show the derivation, an example by hand, both gradients"
    )
    parser.add_argument(
        "--break", dest="term", metavar="TERM", help="leave a term of the backward out and see it caught"
    )
    parser.add_argument(
        "--backend", choices=backends.NAMES[1:], default="numpy", help="whose gradients (default %(default)s)"
    )
    parser.add_argument(
        "--precision", choices=backends.PRECISIONS, default="fp32", help="of that backend (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="everything that was measured, as JSON")


def run(args):
    """Check gradients and print what came out; returns the exit status.

    Raises ``ValueError`` for a name or a term that does not exist, for options that do not go together, and for a
    backend that is not here.
    """
    rows = [_row(name) for name in args.name] or list(ROWS.values())
    if args.term is not None:
        return _break(args, rows)
    if args.explain:
        if args.json:
            raise ValueError("json and explain do not go together")
        if not args.name:
            raise ValueError("explain needs a name, as in: tinydiff gradcheck conv2d --explain")
        print("\n\n".join(explain(row) for row in rows))
        print(f"\n{heading('Checked')}\n")
    return _check(args, rows)


def _row(name):
    if name in WITHOUT_GRADIENT:
        raise ValueError(f"{name} has no gradient: nothing is trained through it")
    if name not in ROWS:
        raise ValueError(f"name must be one of {', '.join(ROWS)}, got {name!r}")
    return ROWS[name]


def _check(args, rows):
    """Check rows: a line each, or where they were asked for by name a line for each gradient."""
    backends.get(args.backend, args.precision)  # is here, before anything is printed
    all_right, measured = True, []
    if not (args.json or args.name):
        print(_summary_line("name", "kind", "gradients", "worst error", "of", "limit", "s", "where"))
    for row in rows:
        checked = check(row, args.backend, args.precision)
        all_right &= checked.right
        if args.json:
            measured.append(_as_dict(row, checked))
        elif args.name:
            _print_gradients(row, checked, args)
        else:
            _print_summary(row, checked)
    if args.json:
        print(json.dumps(measured, indent=2))
    elif all_right:
        print(f"all {len(rows)} right" if len(rows) > 1 else "right")
    return 0 if all_right else WRONG


def _break(args, rows):
    """Leave one term out of one backward; returns 0 if the check catches it."""
    if len(args.name) != 1 or args.explain or args.json or (args.backend, args.precision) != ("numpy", "fp32"):
        raise ValueError(
            "break needs one name and no other option, as in: tinydiff gradcheck group_norm --break through_mean"
        )
    (row,) = rows
    twin = terms.without(row, args.term)
    print(f"{row.derivation}, with {args.term} = 0 after")
    for number, text in terms.lines(row, args.term):
        print(f"  line {number}: {text}")
    checked = check(row, home=twin)
    _print_gradients(row, checked, args)
    print("not caught" if checked.right else "caught")
    return WRONG if checked.right else 0


def _print_summary(row, checked):
    worst = checked.worst
    where = [row.derivation, *row.kernels, row.test]
    error, limit = (f"{worst.comparison.error:.1e}", f"{worst.limit:.0e}") if worst else ("", "")
    name = worst.name if worst else ""
    print(
        _summary_line(
            row.name, row.kind, len(checked.gradients), error, name, limit, f"{checked.seconds:.2f}", ", ".join(where)
        )
    )
    for problem in _problems(checked):
        print(f"  WRONG: {problem}")


def _summary_line(name, kind, gradients, error, of, limit, seconds, where):
    return f"{name:<15} {kind:<5} {gradients:>9}  {error:>11}  {of:<40} {limit:>6} {seconds:>6}  {where}".rstrip()


def _print_gradients(row, checked, args):
    print(f"{row.name}: {', '.join([row.derivation, *row.kernels, row.test])}")
    who = args.backend if args.precision == "fp32" else f"{args.backend} {args.precision}"
    both = ("backward", "differences") if who == "numpy" else (who, "reference")
    line = "{:<45} {:>4}  {:<16} {:>8} {:>6}  {:<14} {:>14} {:>14} {}"
    print(line.format("gradient of", "case", "shape", "error", "limit", "worst at", *both, "").rstrip())
    for gradient in checked.gradients:
        comparison = gradient.comparison
        where = "a direction" if comparison.where is None else _tuple(comparison.where)
        both = f"{comparison.analytic:.6g}", f"{comparison.numeric:.6g}"
        mark = "" if gradient.right else "WRONG"
        errors = f"{comparison.error:.1e}", f"{gradient.limit:.0e}"
        values = gradient.name, gradient.case, _tuple(comparison.shape), *errors, where, *both, mark
        print(line.format(*values).rstrip())
    for problem in checked.problems:
        print(f"WRONG: {problem}")


def _problems(checked):
    """What is wrong, in words."""
    yield from checked.problems
    for gradient in checked.gradients:
        if not gradient.right:
            yield f"the gradient of {gradient.name} is off by {gradient.comparison.error:.1e}, allowed {gradient.limit:.0e}"


def _tuple(indices):
    return ",".join(map(str, indices)) or "()"


def _as_dict(row, checked):
    """One row as JSON has it; what is not a finite number is null."""
    gradients = [
        {"name": gradient.name, "case": gradient.case, "right": gradient.right, "limit": gradient.limit}
        | {name: _finite(value) for name, value in gradient.comparison._asdict().items()}
        for gradient in checked.gradients
    ]
    places = {"derivation": row.derivation, "kernels": list(row.kernels), "test": row.test}
    about = {"name": row.name, "kind": row.kind, "right": checked.right, "seconds": checked.seconds}
    return about | places | {"terms": list(row.terms), "problems": checked.problems, "gradients": gradients}


def _finite(value):
    return None if isinstance(value, float) and not math.isfinite(value) else value
