"""Every op as ONNX, forward and backward, against the reference, at sizes of batch that were not recorded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import assert_as_good, backend_or_skip, normal
from tests.train import tiny
from tinydiff import backends, ops
from tinydiff.program import onnx, onnx_ops, runs
from tinydiff.program.record import record

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

NUMPY = backends.get("numpy")


def run_model(model, feeds):
    """{name: array} of what a model gives; images go in and come out channels-last."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    names = [each.name for each in session.get_outputs()]
    wanted = {each.name: each.shape for each in session.get_inputs()}
    feeds = {
        name: array.transpose(0, 3, 1, 2) if array.ndim == 4 and wanted[name][0] == "N" else array
        for name, array in feeds.items()
        if name in wanted
    }
    images = {each.name for each in session.get_outputs() if len(each.shape) == 4 and each.shape[0] == "N"}
    found = zip(names, session.run(None, feeds))
    return {name: array.transpose(0, 2, 3, 1) if name in images else array for name, array in found}


def to_model(function, make, counts=(2, 3), **options):
    """The model of function(**arrays) with arrays of make(N)."""

    def recording(N):
        inputs = make(N)
        return record(lambda: function(**inputs), NUMPY, inputs=inputs)

    return onnx.to_model([recording(N) for N in counts], **options)


def check(op, make, options=None):
    """Compare what an op gives, and its gradients if it has any, at batches of 1 and 5.

    make  (N) -> {name: array}, the arguments of its forward in float64, in their order
    """
    reference, options = ops.OPS[op], options or {}
    trains = hasattr(reference, "backward")

    def arrays(N, dtype):
        inputs = make(N)
        if trains and (shape := np.shape(reference.forward(**inputs, **options)[0])):
            inputs["dy"] = normal(9, *shape)
        return {name: each.astype(dtype) if each.dtype.kind == "f" else each for name, each in inputs.items()}

    def everything(module, dy=1.0, **inputs):
        if not trains:
            return {"y": module.forward(**inputs, **options)}
        y, cache = module.forward(**inputs, **options)
        gradients = module.backward(dy, cache)
        named = zip(inputs, gradients if isinstance(gradients, tuple) else (gradients,))
        return {"y": y, **{f"d{name}": each for name, each in named if each is not None}}

    model = to_model(lambda **inputs: everything(getattr(NUMPY, op), **inputs), lambda N: arrays(N, np.float32))
    for N in (1, 5):
        found = run_model(model, arrays(N, np.float32))
        truth, rival = (everything(reference, **arrays(N, dtype)) for dtype in (np.float64, np.float32))
        assert found.keys() == truth.keys()
        for name, each in truth.items():
            # sums over pixels and samples cancel: what enters them is about 1
            assert_as_good(found[name], np.asarray(each), rival[name], times=8, entering=1.0, name=name)


@pytest.mark.parametrize("has_b", [True, False])
@pytest.mark.parametrize("middle", [(), (6,)], ids=["vectors", "tokens"])
def test_linear(has_b, middle):
    b = {"b": normal(3, 5)} if has_b else {}
    check("linear", lambda N: {"x": normal(1, N, *middle, 4), "w": normal(2, 4, 5), **b})


@settings(max_examples=25)
@given(
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    filters=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.sampled_from([0, 1, (0, 1), (1, 0), (2, 1)]),
    add=st.sampled_from(["none", "time shift", "residual"]),
    has_b=st.booleans(),
)
def test_conv2d(size, widths, filters, stride, padding, add, has_b):
    (H, W), (C, O) = size, widths
    together = sum(padding) if isinstance(padding, tuple) else 2 * padding
    if H + together < filters[0] or W + together < filters[1]:
        return

    def make(N):
        inputs = {"x": normal(1, N, H, W, C), "w": normal(2, *filters, C, O)}
        if has_b or add != "none":
            inputs["b"] = normal(3, O)
        if add != "none":
            y, _ = ops.conv2d.forward(**inputs, stride=stride, padding=padding)
            inputs["add"] = normal(4, *((N, 1, 1, O) if add == "time shift" else y.shape))
        return inputs

    check("conv2d", make, {"stride": stride, "padding": padding})


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("film", [True, False])
@pytest.mark.parametrize("size, C, groups", [((4, 3), 6, 3), ((1, 1), 4, 4), ((5, 5), 8, 1), ((2, 1), 4, 2)])
def test_group_norm(silu, film, size, C, groups):
    def make(N):
        inputs = {"x": 2 + normal(1, N, *size, C), "gamma": normal(2, C), "beta": normal(3, C)}
        return inputs | ({"scale": normal(4, N, C), "shift": normal(5, N, C)} if film else {})

    check("group_norm", make, {"groups": groups, "silu": silu, "eps": 1e-3})


def test_group_norm_adds_what_comes_by_other_ways():
    def make(N):
        arrays = {"x": normal(1, N, 4, 4, 4), "gamma": normal(2, 4), "beta": normal(3, 4)}
        arrays |= {"dy": normal(4, N, 4, 4, 4), "add": normal(5, N, 4, 4, 4)}
        return {name: each.astype(np.float32) for name, each in arrays.items()}

    def function(x, gamma, beta, dy, add, op=NUMPY.group_norm):
        _, cache = op.forward(x, gamma, beta, groups=2)
        return {"dx": op.backward(dy, cache, add)[0]}

    arrays = make(4)
    found = run_model(to_model(function, make), arrays)["dx"]
    rival = function(**arrays)["dx"]
    truth = function(**{name: each.astype(np.float64) for name, each in arrays.items()})["dx"]
    assert_as_good(found, truth, rival, times=8)


@pytest.mark.parametrize("shape", [(3,), (4, 3, 2)], ids=["vectors", "images"])
def test_silu(shape):
    check("silu", lambda N: {"x": 3 * normal(1, N, *shape)})


@pytest.mark.parametrize("L, M, A, D", [(5, 5, 2, 3), (4, 7, 1, 4), (1, 1, 3, 2)])
def test_attention(L, M, A, D):
    check("attention", lambda N: {"q": normal(1, N, L, A, D), "k": normal(2, N, M, A, D), "v": normal(3, N, M, A, D)})


@pytest.mark.parametrize("padded, causal", [(True, False), (False, True), (True, True)])
def test_attention_that_does_not_look_at_all_keys(padded, causal):
    def make(N):
        length = {"length": np.arange(N) % 5 + 1} if padded else {}
        return {name: normal(i, N, 5, 2, 3) for i, name in enumerate("qkv")} | length

    check("attention", make, {"causal": causal})


def test_layer_norm():
    check("layer_norm", lambda N: {"x": normal(1, N, 3, 6), "gamma": normal(2, 6), "beta": normal(3, 6)}, {"eps": 1e-3})


@pytest.mark.parametrize("form", ops.gelu.FORMS)
def test_gelu(form):
    check("gelu", lambda N: {"x": 3 * normal(1, N, 4, 3)}, {"form": form})


def test_geglu():
    check("geglu", lambda N: {"x": 2 * normal(1, N, 3, 8)})


def test_upsample2x():
    check("upsample2x", lambda N: {"x": normal(1, N, 3, 4, 2)})


def test_concat():
    check("concat", lambda N: {"a": normal(1, N, 3, 4, 2), "b": normal(2, N, 3, 4, 5)})


def test_class_embedding():
    check("class_embedding", lambda N: {"table": normal(1, 4, 6), "labels": np.arange(N)[::-1] % 4})


def test_timestep_embedding():
    step = np.array([0, 1, 999, 123.5, 3])
    check("timestep_embedding", lambda N: {"step": step[:N]}, {"width": 8})


@pytest.mark.parametrize("op", ["mse_loss", "l1_loss"])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("shape", [(2,), (4, 3, 2)], ids=["vectors", "images"])
def test_losses(op, weighted, shape):
    def make(N):
        inputs = {"prediction": normal(1, N, *shape), "target": normal(2, N, *shape)}
        return inputs | ({"weight": np.abs(normal(3, N))} if weighted else {})

    check(op, make)


@pytest.mark.parametrize("middle", [(), (5,), (4, 3)], ids=["vectors", "tokens", "images"])
@pytest.mark.parametrize("scale", [1, 30])
def test_gaussians(middle, scale):
    """At a scale of 30 some logarithms of variances are cut off."""

    def make(N):
        return {"moments": np.concatenate([normal(1, N, *middle, 2), scale * normal(2, N, *middle, 2)], axis=-1)}

    check("gaussian_sample", lambda N: {**make(N), "eps": normal(3, N, *middle, 2)})
    check("gaussian_kl", make)


def samples(N):
    return {"x": normal(1, N, 4, 4, 2, dtype=np.float32), "h": normal(2, N, 6, dtype=np.float32)}


def recorded(*arrays):
    """Arrays that a program makes, on which operators are recorded."""
    return [NUMPY.silu.forward(each)[0] for each in arrays]


def test_operators_of_arrays_and_views():
    def function(x, h):
        x, h = recorded(x, h)
        left, right = h[:, :2].copy(), h[:, 2:].copy()
        swapped = NUMPY.empty((len(h), 6))
        swapped[:, :4], swapped[:, 4:] = right, left
        tokens = x.reshape(len(x), 16, 2)
        numbers = (x * 2 - 1) / 3 + 0.5
        return {
            "numbers": numbers,
            "clipped": (x - numbers).clip(-0.1, 0.1),
            "tokens": tokens + tokens,
            "swapped": swapped,
        }

    arrays = samples(5)
    found = run_model(to_model(function, samples), arrays)
    for name, each in function(**arrays).items():
        assert_as_good(found[name], each.astype(np.float64), each, entering=1.0, name=name)


def test_what_cannot_be_written():
    def of_the_batch(x, h):
        return {"y": recorded(x)[0] * len(x)}

    def another_length(x, h):
        for _ in range(len(x)):
            (h,) = recorded(h)
        return {"y": h}

    def part_of_an_array(x, h):
        (h,) = recorded(h)
        y = h.copy()
        y[:1] = h[:1]
        return {"y": y}

    def noise(x, h):
        return {"y": NUMPY.philox.forward(0, "noise", labels[: len(x)], 0, (3,), kind="normal")}

    def dropping(x, h):
        return {"y": NUMPY.dropout.forward(x, labels[1:2], rate=0.5, layer=0, seed=0)[0]}

    labels = np.arange(9)
    for function, message in (
        (of_the_batch, "a number in this program depends on the size of the batch"),
        (another_length, "does something else at another size of batch"),
        (part_of_an_array, "writes over a part of an array"),
        (noise, "philox.forward has no form in ONNX: it draws"),
        (dropping, "dropout.forward has no form in ONNX: it draws"),
    ):
        with pytest.raises(ValueError, match=message):
            to_model(function, samples)


def test_a_program_in_bfloat16_is_refused_in_one_line():
    backend, config = backend_or_skip("cpu", "bf16"), tiny.trainer().config
    recordings = [runs.of_config(config, backend, "predict", count=count) for count in (2, 3)]
    with pytest.raises(
        ValueError, match=r"onnx: programs go there in float32, and call \d+ of this one, .*, is in bfloat16"
    ):
        onnx.to_model(recordings)


def test_a_planted_error_is_found(monkeypatch):
    monkeypatch.setitem(onnx_ops.WRITE, "silu.backward", lambda g, r, w, o: {"dx": r["dy"]})
    with pytest.raises(AssertionError, match="dx is wrong"):
        check("silu", lambda N: {"x": normal(1, N, 4)})
