"""Programs in a file: written, read and run natively; and what is refused, in one line."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import backend_or_skip, same_bits
from tests.program.functions import of_sequence, sequences
from tests.train import tiny
from tinydiff import backends, tensors
from tinydiff.program import file, runs, web
from tinydiff.program.record import record

stored = pytest.importorskip("tinydiff.backends.stored")


@settings(max_examples=15)
@given(sequence=sequences())
def test_a_program_from_a_file_gives_the_bits_of_the_direct_run(sequence, tmp_path_factory):
    backend = backends.get("cpu")
    function = of_sequence(backend, *sequence)
    folder = tmp_path_factory.mktemp("file") / "programs"
    file.write(folder, file.gather({"all": record(function, backend)}))
    programs = stored.StoredPrograms(folder)
    programs.run("all")
    returned = function()
    for name in programs.stored.programs["all"].outputs:
        want = returned
        for key in name.split("."):
            want = want[key] if isinstance(want, dict) else want[int(key)]
        assert same_bits(programs.get(name), np.asarray(want)), name


@pytest.fixture
def folder(tmp_path):
    """A tiny U-Net's programs: drawing, and training on 40 images."""
    trainer = tiny.trainer(seed=2**63 + 5)
    made = web.of_checkpoint(trainer.checkpoint(), backends.get("numpy"), ways={"ddim": [2]}, images=40)
    file.write(tmp_path / "bars", made)
    return tmp_path / "bars"


def test_what_is_read_is_what_was_written(folder):
    trainer = tiny.trainer(seed=2**63 + 5)
    made = web.of_checkpoint(trainer.checkpoint(), backends.get("numpy"), ways={"ddim": [2]}, images=40)
    found = file.read(folder)
    assert (found.memory, found.arrays, found.programs) == (made.memory, made.arrays, made.programs)
    assert found.about == json.loads(json.dumps(made.about))
    assert found.values.keys() == made.values.keys()
    assert all(same_bits(found.values[name], made.values[name]) for name in made.values)
    for number, line in enumerate((folder / file.PROGRAM).read_text().splitlines()):
        assert len(line) < 1000 or number == 0, "one call a line"


def test_training_goes_on_from_a_file_as_it_would_have(folder):
    trainer = tiny.trainer(seed=2**63 + 5)
    trainer = type(trainer)(trainer.config, trainer.dataset, backends.get("cpu"))
    programs = stored.StoredPrograms(folder)
    programs.set("images", trainer.images)
    programs.set("train.labels", trainer.labels)
    for _ in range(3):
        metrics = trainer.train_step()
        for name, array in trainer.optimizer.each_step.items():
            programs.set(name, array)
        programs.run("train")
        assert (programs.get("loss"), programs.get("norm")[0]) == metrics[1:3]
    for each in trainer.parameters:
        assert same_bits(programs.get(f"train.{each.name}"), each.value)
    assert same_bits(programs.get("average"), trainer.average)


def test_the_values_of_one_memory_are_written_once(folder):
    values = file.read(folder).values
    count = tiny.trainer().parameters.count
    parameters = sum(value.size for name, value in values.items() if "." in name)
    assert count < parameters <= 2 * count  # the average and the model, without those that are zero
    assert "parameters" not in values and "average" not in values and "gradients" not in values


@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
def test_rounding_to_bfloat16(bits):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = np.array(bits, np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        want = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    assert same_bits(tensors.round_to_bf16(values), want)


def test_rounded_values_take_half_the_room(folder, tmp_path):
    made = file.read(folder)
    floats = {name for name, value in made.values.items() if value.dtype == np.float32}
    file.write(tmp_path / "rounded", made, types=dict.fromkeys(floats, "BF16"))
    sizes = [(each / file.WEIGHTS).stat().st_size for each in (folder, tmp_path / "rounded")]
    assert sizes[1] < 0.6 * sizes[0]
    found = file.read(tmp_path / "rounded").values
    assert all(same_bits(found[name], tensors.round_to_bf16(made.values[name])) for name in floats)
    file.write(tmp_path / "halves", made, types=dict.fromkeys(floats, "F16"))
    found = file.read(tmp_path / "halves").values
    assert all(same_bits(found[name], np.float32(np.float16(made.values[name]))) for name in floats)


def changed(folder, **fields):
    path = folder / file.PROGRAM
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def cut(folder, name, length):
    (folder / name).write_bytes((folder / name).read_bytes()[:length])


BAD_FILES = [
    (lambda folder: changed(folder, version=2), "program.json has version 2 of its format; version 1 is read"),
    (lambda folder: changed(folder, format="other"), "program.json is not a program of tinydiff"),
    (lambda folder: cut(folder, "program.json", 5000), "program.json is truncated or not a program"),
    (
        lambda folder: cut(folder, "weights.safetensors", 20_000),
        "weights.safetensors is truncated or not a safetensors",
    ),
    (
        lambda folder: cut(folder, "weights.safetensors", 6),
        "weights.safetensors is truncated or not a safetensors file",
    ),
    (lambda folder: changed(folder, weights=["x"]), "weights.safetensors does not go with program.json: "),
    (lambda folder: (folder / "program.json").unlink(), "program.json does not exist"),
    (lambda folder: (folder / "weights.safetensors").unlink(), "weights.safetensors does not exist"),
]


def other_shape(folder):
    arrays = json.loads((folder / file.PROGRAM).read_text())["arrays"]
    arrays["conv_in.weight"]["shape"] = [3, 3, 8, 1]
    changed(folder, arrays=arrays)


@pytest.mark.parametrize(("break_it", "message"), BAD_FILES)
def test_a_bad_file_is_refused_in_one_line(break_it, message, folder):
    break_it(folder)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        stored.StoredPrograms(folder)
    assert "\n" not in str(raised.value)


def test_weights_of_another_shape_are_refused(folder):
    other_shape(folder)
    message = r"conv_in.weight must be float32 \(3, 3, 8, 1\), got float32 \(3, 3, 1, 8\)"
    with pytest.raises(ValueError, match=message):
        stored.StoredPrograms(folder)


def test_bad_use_is_refused_in_one_line(folder):
    programs = stored.StoredPrograms(folder)
    with pytest.raises(ValueError, match=r"labels must have shape \(1,\), got \(3,\)"):
        programs.set("labels", [1, 2, 3])
    with pytest.raises(ValueError, match="there is no array nothing"):
        programs.get("nothing")
    with pytest.raises(ValueError, match="there is no program nothing; there are start, "):
        programs.run("nothing")
    programs.set("labels", [3])
    with pytest.raises(ValueError, match=r"class_embedding: labels must lie in \[0, 3\), got 3 .. 3"):
        programs.run("predict")
    with pytest.raises(ValueError, match="is there and not empty"):
        file.write(folder, file.read(folder))


def test_programs_with_two_arrays_of_one_name():
    backend = backends.get("numpy")
    one, other = np.ones(3, np.float32), np.ones(3, np.float32)
    recordings = {
        name: record(lambda x=x: {"y": backend.silu.forward(x)[0]}, backend, state={"x": x})
        for name, x in (("first", one), ("second", other))
    }
    made = file.gather(recordings)
    assert made.arrays["x"] != made.arrays["second.x"]
    assert made.programs["first"].outputs == ("y",)


def test_a_program_in_bfloat16_is_refused_in_one_line():
    """The engine of a page computes in float32."""
    backend, checkpoint = backend_or_skip("cpu", "bf16"), tiny.trainer().checkpoint()
    message = (
        r"program predict: programs go there in float32, and call \d+ of this one, timestep_embedding.forward, is in "
        "bfloat16; record it on a backend of precision fp32"
    )
    with pytest.raises(ValueError, match=message):
        file.gather({"predict": runs.of_config(checkpoint.config, backend, "predict", count=1)})
    with pytest.raises(ValueError, match=message):
        web.of_checkpoint(checkpoint, backend, ways={"ddim": [2]})


def test_a_run_of_a_network_in_a_file():
    trainer = tiny.trainer()
    made = file.gather({"predict": runs.predict(trainer.model, 2)})
    assert made.programs["predict"].inputs == ("x", "step", "labels")
    assert set(made.values) <= {each.name for each in trainer.parameters}
