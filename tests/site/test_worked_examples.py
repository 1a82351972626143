"""The kernels at the worked examples of gradcheck, and those of a training step op by op, as gradients.html runs them."""

import numpy as np
import pytest

from tests.checks import same_bits
from tests.site.hosts import Node
from tinydiff.gradcheck.adjoint import as_tuple
from tinydiff.gradcheck.worked import EXAMPLES
from tinydiff.pages import examples, step
from tinydiff.pages.shipped import load
from tinydiff.program import file


def written(folder, files):
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return (folder / "program.json").as_uri()


@pytest.mark.parametrize("seed", [None, 0])
def test_a_kernel_has_the_bits_that_python_gives_it(seed, baseline, tmp_path):
    rng, steps, expected = np.random.default_rng(seed), [], []
    for name, example in EXAMPLES.items():
        number = lambda x: x if seed is None or x.dtype.kind != "f" else rng.normal(size=x.shape)
        kind = lambda x: number(x).astype(np.float32 if x.dtype.kind == "f" else np.int64)
        inputs = {each: kind(x) for each, x in example.inputs.items() if x is not None}
        dy = kind(example.dy) if example.dy.shape else 1.0
        op = getattr(baseline, name)
        y, cache = op.forward(*inputs.values(), **example.options)
        gradients = dict(zip(inputs, as_tuple(op.backward(dy, cache))))
        given = inputs | ({"dy": dy} if example.dy.shape else {})
        found = {"y": y} | {f"d{each}": dx for each, dx in gradients.items() if dx is not None}
        expected.append({f"{name}.{each}": np.asarray(value) for each, value in found.items()})
        values = {f"{name}.{each}": x.ravel() for each, x in given.items()}
        steps.append(["run", [{"program": name, "set": values, "get": list(expected[-1])}]])
    address = written(tmp_path / "kernels", examples.kernel_files(baseline))
    _, *results = Node().do(["load", address, {"threads": 1}], *steps)
    for [got], wanted in zip(results, expected, strict=True):
        for name, value in wanted.items():
            assert same_bits(got[name], value.ravel()), name


def test_the_ops_of_a_step_run_in_any_order(tmp_path):
    files = step.program_files(load().config)
    address = written(tmp_path / "step", files)
    programs = sorted(file.read(tmp_path / "step").programs)
    assert {"conv2d.forward", "conv2d.backward", "array.forward", "adamw.forward", "corrupt.forward"} <= set(programs)
    about, *ran = Node().do(["load", address, {"threads": 1}], ["run", programs], ["run", programs[::-1]])
    assert sorted(about["programs"]) == programs and all(len(each) == len(programs) for each in ran), ran
