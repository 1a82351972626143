import json

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tinydiff import cli
from tinydiff.gradcheck import check as checks
from tinydiff.gradcheck.command import WRONG
from tinydiff.gradcheck.table import ROWS
from tinydiff.ops import silu

QUICK = ["linear", "silu", "Linear"]


def test_the_table_has_a_line_for_everything(capsys, monkeypatch):
    monkeypatch.setattr("tinydiff.gradcheck.command.ROWS", {name: ROWS[name] for name in QUICK})
    assert cli.main(["gradcheck"]) == 0
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "kind", "gradients"] and last == "all 3 right"
    assert [line.split()[0] for line in lines] == QUICK
    assert "tinydiff/ops/silu.py, csrc/cpu/silu.cpp, csrc/cuda/silu.cu, tests/ops/test_silu.py" in lines[1]


def test_what_is_asked_for_by_name_has_a_line_for_every_gradient(capsys):
    assert cli.main(["gradcheck", "linear", "--backend", "numpy"]) == 0
    _, _, *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["x", "w", "b"] and last == "right"


def test_a_wrong_gradient_is_told_and_ends_in_a_status(capsys, monkeypatch):
    monkeypatch.setattr(silu, "backward", lambda dy, cache: 2 * dy)
    assert cli.main(["gradcheck", "silu", "linear"]) == WRONG
    out = capsys.readouterr().out
    assert "WRONG" in out and "right" not in out
    monkeypatch.setattr("tinydiff.gradcheck.command.ROWS", {name: ROWS[name] for name in QUICK})
    assert cli.main(["gradcheck"]) == WRONG
    assert "  WRONG: the gradient of x is off by" in capsys.readouterr().out
    monkeypatch.setattr(silu, "backward", lambda dy, cache: dy[0])
    assert cli.main(["gradcheck", "silu"]) == WRONG
    assert "WRONG: the gradient of x must have shape (2, 3), got (3,)" in capsys.readouterr().out


def test_gradients_in_bfloat16(capsys, monkeypatch):
    backend = backend_or_skip("cpu", "bf16")
    in_it = ["--backend", "cpu", "--precision", "bf16"]
    assert cli.main(["gradcheck", "group_norm", *in_it]) == 0
    head, titles, *lines, last = capsys.readouterr().out.splitlines()
    assert titles.split()[:6] == ["gradient", "of", "case", "shape", "error", "limit"] and "cpu bf16" in titles
    assert len(lines) == 11 and last == "right"
    assert cli.main(["gradcheck", "linear", "--json", *in_it]) == 0
    x, w, b = json.loads(capsys.readouterr().out)[0]["gradients"]
    assert 1e-3 < x["limit"] < 0.05 and w["limit"] < 1e-5 > b["limit"]  # one is rounded, two are sums in float32

    kernel = type(backend.group_norm._op)
    whole = kernel.backward

    def broken(self, dy, cache, *others, **options):
        """As if a mean were left in it."""
        dx, *rest = whole(self, dy, cache, *others, **options)
        return dx + dx.dtype.type(0.1), *rest

    monkeypatch.setattr(kernel, "backward", broken)
    assert cli.main(["gradcheck", "group_norm", *in_it]) == WRONG
    wrong = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("WRONG")]
    assert wrong == ["x"] * 3
    monkeypatch.setattr("tinydiff.gradcheck.command.ROWS", {name: ROWS[name] for name in ("silu", "group_norm")})
    assert cli.main(["gradcheck", *in_it]) == WRONG
    assert "  WRONG: the gradient of x is off by" in capsys.readouterr().out


def test_a_broken_term_is_caught(capsys, monkeypatch):
    assert cli.main(["gradcheck", "group_norm", "--break", "through_var"]) == 0
    out = capsys.readouterr().out
    assert "line " in out and "through_var = _per_channel(" in out and "WRONG" in out and out.endswith("\ncaught\n")
    monkeypatch.setattr(checks, "TOLERANCE", 1e9)
    assert cli.main(["gradcheck", "group_norm", "--break", "through_var"]) == WRONG
    assert capsys.readouterr().out.endswith("\nnot caught\n")


def test_explain(capsys):
    assert cli.main(["gradcheck", "conv2d", "--explain"]) == 0
    out = capsys.readouterr().out
    for part in (
        "cross-correlation",
        "y[0,0]  = 1·1 + 2·(-1) + 3·2 + 1·3 + 0.5 + 2 = 10.5",
        "dx by definition",
        "right",
    ):
        assert part in out


def test_json(capsys, monkeypatch):
    assert cli.main(["gradcheck", "group_norm", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["right"] and row["derivation"] == "tinydiff/ops/group_norm.py" and "through_mean" in row["terms"]
    first = row["gradients"][0]
    assert (first["name"], first["case"], first["shape"]) == ("x", 0, [2, 3, 3, 4]) and first["error"] < first["limit"]
    monkeypatch.setattr(silu, "backward", lambda dy, cache: np.nan * dy)
    assert cli.main(["gradcheck", "silu", "--json"]) == WRONG
    text = capsys.readouterr().out
    assert json.loads(text)[0]["gradients"][0]["error"] is None and "NaN" not in text and "Infinity" not in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["conv3d"], "name must be one of linear, conv2d, group_norm"),
        (["philox"], "philox has no gradient: nothing is trained through it"),
        (["linear", "--break", "dz"], "break: linear has no term 'dz' in its backward; its terms are dx, dw, db"),
        (["Linear", "--break", "dx"], "break: Linear has no term 'dx' in its backward; it has none"),
        (["--break", "dx"], "break needs one name and no other option"),
        (["linear", "silu", "--break", "dx"], "break needs one name and no other option"),
        (["linear", "--break", "dx", "--backend", "cpu"], "break needs one name and no other option"),
        (["linear", "--break", "dx", "--precision", "bf16"], "break needs one name and no other option"),
        (["--precision", "bf16"], "backend 'numpy' has no precision 'bf16'; 'cpu', 'cuda' and 'emulator' have"),
        (["--explain"], "explain needs a name"),
        (["linear", "--explain", "--json"], "json and explain do not go together"),
    ],
)
def test_bad_arguments_end_in_one_line(capsys, arguments, message):
    assert cli.main(["gradcheck", *arguments]) == cli.BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"tinydiff: {message}")
