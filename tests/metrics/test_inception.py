import numpy as np
import pytest
import safetensors.numpy

from tests.checks import assert_close, normal
from tinydiff import backends
from tinydiff.metrics import inception
from tinydiff.metrics.inception import Filter, average3x3, halving_max, max3x3, prepared


def random_state(network=inception.NETWORK, seed=0):
    """{name: array} of a network, so that what flows through it neither grows nor fades."""
    rng, state = np.random.default_rng(seed), {}
    for name, shape in inception._shapes(network, 3)[1].items():
        if name.endswith("conv.weight"):
            values = rng.standard_normal(shape) * (2 / np.prod(shape[1:])) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.standard_normal(shape) * 0.1
        state[name] = values.astype(np.float32)
    return state


def windows(x, value):
    """The 3x3 around each pixel of x (N,H,W,C), {(h, w): (N, 3, 3, C)}, with this value outside of the image."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=value)
    return {(h, w): padded[:, h : h + 3, w : w + 3] for h in range(x.shape[1]) for w in range(x.shape[2])}


def test_an_average_does_not_count_what_lies_outside():
    x = normal(0, 2, 5, 4, 3)
    averaged = average3x3(x)
    for (h, w), window in windows(x, np.nan).items():
        assert_close(averaged[:, h, w], np.nanmean(window, axis=(1, 2)))


def test_a_maximum_takes_nothing_from_outside():
    x = normal(0, 2, 5, 4, 3) - 10  # of which 0 would be the largest
    largest = max3x3(x)
    for (h, w), window in windows(x, -np.inf).items():
        assert np.array_equal(largest[:, h, w], window.max(axis=(1, 2)))
    assert np.array_equal(halving_max(x), largest[:, 1:-1:2, 1:-1:2])


@pytest.mark.parametrize("n", [1, 8, 299, 640])
def test_images_are_brought_to_299_bilinearly(n):
    """Each new pixel from the four around the place it stands for, one by one."""
    images = np.random.default_rng(0).integers(0, 256, (1, n, n, 3)).astype(np.uint8)
    brought = prepared(images)
    assert brought.shape == (1, 299, 299, 3) and brought.dtype == np.float32
    for i, j in [(0, 0), (298, 298), (0, 298), (150, 7), (298, 31)]:
        y, x = (min(max((k + 0.5) * n / 299 - 0.5, 0), n - 1) for k in (i, j))
        top, left = int(y), int(x)
        bottom, right = min(top + 1, n - 1), min(left + 1, n - 1)
        above = images[0, top, left] * (left + 1 - x) + images[0, top, right] * (x - left)
        below = images[0, bottom, left] * (left + 1 - x) + images[0, bottom, right] * (x - left)
        assert_close(brought[0, i, j], (above * (top + 1 - y) + below * (y - top)) / 127.5 - 1, 1e-5)


def test_what_images_are_given():
    """A gray image is one of three equal channels, and of float32 the bytes are seen."""
    gray = np.random.default_rng(0).integers(0, 256, (2, 9, 9, 1)).astype(np.uint8)
    colour = np.repeat(gray, 3, axis=-1)
    assert np.array_equal(prepared(gray), prepared(colour))
    assert np.array_equal(prepared(gray / np.float32(127.5) - 1 + np.float32(1e-3)), prepared(colour))
    with pytest.raises(ValueError, match=r"Inception takes images \(N, H, W, 1 or 3\), got \(2, 9, 9, 4\)"):
        prepared(np.zeros((2, 9, 9, 4), np.uint8))


@pytest.mark.parametrize("R, S, stride, same", [(1, 1, 1, True), (1, 7, 1, True), (7, 1, 1, True), (3, 3, 2, False)])
def test_a_filter_is_a_convolution_then_its_norm_then_relu(R, S, stride, same):
    """The norm as it is in print, on the convolution by itself, value by value."""
    each = Filter("f", 4, R, S, stride, same)
    state, x = random_state(each), normal(0, 2, 8, 9, 3, dtype=np.float32)
    y = inception.Inception(state, backends.get("auto"), each)._run(each, x)

    rows, columns = (R // 2, S // 2) if same else (0, 0)
    padded = np.pad(x.astype(np.float64), ((0, 0), (rows, rows), (columns, columns), (0, 0)))
    weight, gamma, beta, mean, variance = state.values()
    for h in range(y.shape[1]):
        for w in range(y.shape[2]):
            window = padded[:, h * stride : h * stride + R, w * stride : w * stride + S]
            plain = np.einsum("nrsc,ocrs->no", window, weight)
            assert_close(y[:, h, w], np.maximum((plain - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0), 1e-5)


def test_features_do_not_depend_on_the_batch(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    network = inception.Inception(random_state(), backends.get("auto"))
    whole = network.features(images)
    assert whole.shape == (3, inception.FEATURES) and np.median(whole.std(axis=0)) > 0.01
    monkeypatch.setattr(inception, "BATCH", 2)
    assert_close(network.features(images), whole, 1e-5)


def test_weights_that_lack_something_are_refused_by_name(tmp_path):
    path, shapes = tmp_path / "weights.safetensors", inception._shapes(inception.NETWORK, 3)[1]
    few = {name: np.zeros(shape, np.float32) for name, shape in list(shapes.items())[:7]}

    def refused(named):
        path.write_bytes(safetensors.numpy.save(named))
        with pytest.raises(ValueError) as raised:
            inception.feature_net(path, "numpy")
        assert str(raised.value).startswith(f"inception: {path} does not hold the weights of pytorch-fid: ")
        return str(raised.value).partition("pytorch-fid: ")[2]

    assert refused(few) == "Conv2d_2a_3x3.bn.bias is missing"
    del few["Conv2d_1a_3x3.bn.running_var"]
    assert refused(few) == "Conv2d_1a_3x3.bn.running_var is missing"
    few["Conv2d_1a_3x3.conv.weight"] = np.zeros((3, 3, 3, 32), np.float32)  # channels last
    assert refused(few) == "Conv2d_1a_3x3.conv.weight must have shape (32, 3, 3, 3), got (3, 3, 3, 32)"


@pytest.mark.parametrize("content", [b"PK\x03\x04...", b"\x80\x02\x8a"], ids=["zip", "plain"])
def test_a_pickle_is_refused_in_one_line_that_says_what_to_do(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ValueError) as raised:
        inception.feature_net(tmp_path / "weights.pth")
    line = str(raised.value)
    assert "is a pickle" in line and "\n" not in line
    python = line.partition("safetensors of it: ")[2]
    assert compile(python, "", "exec") and str(tmp_path / "weights.safetensors") in python


@pytest.mark.parametrize(
    "content, message", [(None, r"cannot be read \(No such file"), (b"nothing", "does not hold the weights")]
)
def test_files_that_are_no_weights(tmp_path, content, message):
    if content is not None:
        (tmp_path / "weights").write_bytes(content)
    with pytest.raises(ValueError, match=f"inception: {tmp_path}/weights {message}"):
        inception.feature_net(tmp_path / "weights")
