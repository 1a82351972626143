"""Files of named tensors: every type that is read, and what is refused."""

import json
import re

import numpy as np
import pytest
import safetensors.numpy

from tinydiff import tensors


def file_of(header, content=b""):
    """The bytes of a file with this header, whatever it is."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(header).to_bytes(8, "little") + header + content


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


def test_what_safetensors_writes_is_read(tmp_path):
    named = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.array([0.1, 6e-8, 65504], np.float16),
        "double": np.array([[np.pi]]),
        "scalar": np.array(3, np.float32),
        "nothing": np.empty((0, 3), np.float32),
    }
    safetensors.numpy.save_file(named, tmp_path / "x", {"tinydiff": "é"})
    read, metadata, _ = tensors.read(tmp_path / "x")
    assert metadata == {"tinydiff": "é"} == tensors.read_metadata(tmp_path / "x")
    assert read.keys() == named.keys()
    for name, array in named.items():
        assert read[name].dtype == np.float32 and read[name].flags.writeable
        assert read[name].shape == array.shape and np.array_equal(read[name], array.astype(np.float32))


def test_bfloat16_is_widened_without_another_package(tmp_path):
    values = np.array([0, -0.0, 1.5, -2.25, 2.0**-133, 3.3895314e38], np.float32)  # each of them a bfloat16
    content = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    for shape, bytes_there in (((2, 3), 12), ((), 2)):
        (tmp_path / "x").write_bytes(file_of(entry("BF16", shape, (0, bytes_there)), content[:bytes_there]))
        read = tensors.read(tmp_path / "x").named["a"]
        assert isinstance(read, np.ndarray) and read.dtype == np.float32 and read.shape == shape
        assert read.tobytes() == values.tobytes()[: 2 * bytes_there]


@pytest.mark.parametrize("kind, bytes_each", [("F8_E4M3", 1), ("F8_E5M2", 1), ("I64", 8), ("BOOL", 1), ("U8", 1)])
def test_other_types_are_refused_by_name(tmp_path, kind, bytes_each):
    (tmp_path / "x").write_bytes(file_of(entry(kind, (2,), (0, 2 * bytes_each)), bytes(2 * bytes_each)))
    with pytest.raises(ValueError, match=rf"^{tmp_path}/x: tensor a is {kind}; F64, F32, F16 and BF16 are read$"):
        tensors.read(tmp_path / "x")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_a_value_that_is_not_finite_as_float32(tmp_path, value):
    safetensors.numpy.save_file({"a": np.array([1, value])}, tmp_path / "x")
    with pytest.raises(ValueError, match="x: tensor a holds a value that is not finite"):
        tensors.read(tmp_path / "x")


WHOLE = file_of(entry(), bytes(8))


@pytest.mark.parametrize(
    "content",
    [
        *(WHOLE[:length] for length in range(len(WHOLE))),
        b"\xff" * 100,
        b"\x80\x04 a pickle of PyTorch, or whatever it is",
        file_of(b"\xff{}"),
        file_of(b"[" * 100_000),
        file_of([]),
        file_of({"__metadata__": []}),
        file_of({"__metadata__": {"tinydiff": 1}}),
        file_of({"a": 1}),
        file_of({"a": {}}),
        file_of(entry(dtype=1), bytes(8)),
        file_of(entry(dtype=["F32"]), bytes(8)),
        file_of(entry(shape=(3,)), bytes(8)),
        file_of(entry(shape=(-1, -2)), bytes(8)),
        file_of(entry(shape=(2.0,)), bytes(8)),
        file_of(entry(shape=("2",)), bytes(8)),
        file_of(entry(shape=(10**30,)), bytes(8)),
        file_of(entry(offsets=(8, 0)), bytes(8)),
        file_of(entry(offsets=(-8, 0)), bytes(8)),
        file_of(entry(offsets=(0, 8, 8)), bytes(8)),
        file_of(entry(offsets=(1, 9)), bytes(8)),
    ],
)
def test_truncated_and_foreign_files(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    for read in (tensors.read, tensors.read_metadata):
        with pytest.raises(ValueError, match=f"^{re.escape(str(tmp_path / 'x'))} is truncated or not a safetensors"):
            read(tmp_path / "x")


def test_a_folder_and_a_missing_file_are_errors_of_the_system(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(OSError) as caught:
            tensors.read(path)
        assert str(caught.value.filename) == str(path)


def test_an_array_that_is_made_when_it_is_asked_for(tmp_path):
    named = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "half": np.ones((2, 2, 1), np.float16)}
    safetensors.numpy.save_file(named, tmp_path / "x")
    lazies, _, kinds = tensors.read_lazily(tmp_path / "x")
    turned = lazies["a"].then(lambda array: array.T[::-1])
    assert kinds == {"F32", "F16"} and lazies["half"].shape == (2, 2, 1) and turned.shape == (3, 2)
    assert np.array_equal(turned, named["a"].T[::-1]) and np.asarray(lazies["half"]).dtype == np.float32
    assert np.asarray(turned, np.float64).dtype == np.float64
    (tmp_path / "x").unlink()  # as a run does with the checkpoints before the last ones
    assert np.array_equal(turned, named["a"].T[::-1])


def test_what_is_lazy_is_not_in_memory(tmp_path):
    path = tmp_path / "x"
    safetensors.numpy.save_file({"a": np.zeros(4, np.float32)}, path)
    lazy = tensors.read_lazily(path).named["a"]
    with open(path, "r+b") as file:
        file.seek(-4, 2)
        file.write(np.float32(7).tobytes())
    assert np.asarray(lazy).tolist() == [0, 0, 0, 7]


def test_a_value_that_is_not_finite_is_found_when_it_is_read(tmp_path):
    safetensors.numpy.save_file({"a": np.array([1, np.nan]), "b": np.ones(2)}, tmp_path / "x")
    named = tensors.read_lazily(tmp_path / "x").named
    assert np.array_equal(named["b"], [1, 1])
    with pytest.raises(tensors.Damaged, match="x: tensor a holds a value that is not finite"):
        np.asarray(named["a"])
