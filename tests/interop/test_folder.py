import errno
import json
import os

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tests.interop import folders
from tests.interop.folders import CONFIGS, DROPOUT, POSITIONS, checkpoint, same, write_foreign
from tests.train import tiny
from tinydiff import cli, terminal
from tinydiff.interop import weights
from tinydiff.interop.folder import export_folder, import_folder
from tinydiff.train import checkpoint as checkpoints

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("changes", (CONFIGS | POSITIONS | DROPOUT).values(), ids=CONFIGS | POSITIONS | DROPOUT)
@pytest.mark.parametrize("part", ["average", "model"])
def test_there_and_back_is_bit_identical(tmp_path, changes, part):
    before = checkpoint(changes)
    export_folder(before, tmp_path / "out", part=part)
    after, assumed, *_ = import_folder(tmp_path / "out")
    assert assumed == [] and after.step == 0 and after.config == before.config
    for name in ("model", "average"):
        assert same(after.parts[name], before.parts[part])
    assert not any(array.any() for name in ("adamw.mean", "adamw.mean_square") for array in after.parts[name].values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    names = ["config.json", WEIGHTS, "scheduler_config.json"]
    names[2:2] = ["positions.safetensors"] if "positions" in changes else []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("flip", [True, False])
def test_a_folder_of_somebody_else(tmp_path, changes, flip):
    before = checkpoint(changes)
    folder = write_foreign(tmp_path / "theirs", before, flip_sin_to_cos=flip)
    after, assumed, *_ = import_folder(folder, data="bars")
    assert same(after.parts["average"], before.parts["average"])
    model = after.config.model
    assert model.has_attention(0) == before.config.model.has_attention(0)
    assert (model.size, model.channels, model.film) == (8, before.config.model.channels, before.config.model.film)
    assert (after.config.schedule, after.config.noise_steps, after.config.prediction) == ("linear", 1000, "eps")
    assert assumed[0].startswith("no scheduler_config.json: schedule linear, 1000 noise steps, prediction eps")


def test_training_goes_on_with_a_fresh_optimizer(tmp_path):
    trained = tiny.trainer()
    trained.train_step()
    export_folder(trained.checkpoint(), tmp_path / "out", part="model")
    other = tiny.trainer()
    other.restore(import_folder(tmp_path / "out").checkpoint)
    assert other.step == 0 and not other.optimizer.mean.any() and not other.optimizer.mean_square.any()
    assert np.array_equal(other.parameters.values, trained.parameters.values)
    assert other.train_step().step == 1


def test_layouts():
    ours = {
        "conv_in.weight": np.arange(3 * 3 * 2 * 4.0).reshape(3, 3, 2, 4),
        "class_embedding.weight": np.arange(6.0).reshape(3, 2),
        "conv_in.bias": np.arange(3.0),
        "time_embedding.linear_1.weight": np.arange(4 * 3.0).reshape(4, 3),
        "time_embedding.linear_2.weight": np.arange(6.0).reshape(2, 3),
    }
    theirs = weights.to_torch(ours, flip_sin_to_cos=True)
    assert theirs["conv_in.weight"][3, 1, 2, 0] == ours["conv_in.weight"][2, 0, 1, 3]
    assert np.array_equal(theirs["class_embedding.weight"], ours["class_embedding.weight"])
    # four inputs: sin, sin, cos, cos here; cos, cos, sin, sin there
    assert np.array_equal(
        theirs["time_embedding.linear_1.weight"], ours["time_embedding.linear_1.weight"][[2, 3, 0, 1]].T
    )
    assert np.array_equal(theirs["time_embedding.linear_2.weight"], ours["time_embedding.linear_2.weight"].T)
    assert same(weights.from_torch(theirs, flip_sin_to_cos=True), ours)


def test_names_of_older_attention(tmp_path):
    before = checkpoint()
    folder = write_foreign(tmp_path, before)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    named = safetensors.numpy.load_file(folder / WEIGHTS)
    for new, name in old.items():
        named = {key.replace(f".{new}.", f".{name}."): array for key, array in named.items()}
    assert any(".proj_attn." in name for name in named)
    safetensors.numpy.save_file(named, folder / WEIGHTS)
    assert same(import_folder(folder).checkpoint.parts["model"], before.parts["average"])


def test_a_pipeline_and_its_scheduler(tmp_path):
    before = checkpoint()
    write_foreign(tmp_path / "unet", before)
    (tmp_path / "scheduler").mkdir()
    scheduler = {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 300, "prediction_type": "v_prediction"}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler | {"clip_sample": False}))
    for folder in (tmp_path, tmp_path / "unet"):
        after, assumed, *_ = import_folder(folder)
        assert (after.config.schedule, after.config.noise_steps, after.config.prediction) == ("cosine", 300, "v")
        assert len(assumed) == 2 and assumed[0].startswith("clip_sample false")
    assert import_folder(tmp_path, prediction="x0", noise_steps=20).checkpoint.config.prediction == "x0"


def test_every_row_a_class(tmp_path):
    """Three rows, all of them classes: a fourth, of zeros, takes the place of "no class"."""
    before = checkpoint()
    after, assumed, *_ = import_folder(write_foreign(tmp_path, before), null_label="none")
    table = after.parts["average"]["class_embedding.weight"]
    assert after.config.model.classes == 3 and len(table) == 4 and not table[3].any()
    assert np.array_equal(table[:3], before.parts["average"]["class_embedding.weight"])
    assert 'no row for "no class": draw with --guidance 1' in assumed[-1]
    assert import_folder(tmp_path).checkpoint.config.model.classes == 2


def test_null_label_goes_with_classes(tmp_path):
    for folder in (tmp_path / "theirs", tmp_path / "ours"):
        before = checkpoint(CONFIGS["no classes"])
        write_foreign(folder, before) if folder.name == "theirs" else export_folder(before, folder)
        with pytest.raises(ValueError, match=f"{folder}: null_label goes with classes, and this U-Net has none"):
            import_folder(folder, null_label="last")


def test_only_what_was_not_given_is_assumed(tmp_path):
    folder = write_foreign(tmp_path, checkpoint(CONFIGS["no classes"]))
    for given, assumed in (
        ({}, ["no scheduler_config.json: schedule linear, 1000 noise steps, prediction eps, as diffusers' defaults"]),
        ({"prediction": "v"}, ["no scheduler_config.json: schedule linear, 1000 noise steps, as diffusers' defaults"]),
        ({"prediction": "v", "schedule": "cosine", "noise_steps": 10}, []),
    ):
        assert import_folder(folder, **given).assumed == assumed


def test_an_average_of_diffusers_training(tmp_path):
    average = {"decay": 0.9999, "inv_gamma": 1.0, "min_decay": 0.0, "optimization_step": 12, "power": 0.75}
    before = checkpoint()
    folder = write_foreign(tmp_path, before, **average, update_after_step=0, use_ema_warmup=True)
    after, assumed, passed_over, _ = import_folder(folder)
    assert same(after.parts["model"], before.parts["average"]) and len(assumed) == 2
    assert passed_over == [
        "decay 0.9999",
        "min_decay 0.0",
        "optimization_step 12",
        "update_after_step 0",
        "use_ema_warmup true",
        "inv_gamma 1.0",
        "power 0.75",
    ]


def test_half_precision_is_read(tmp_path):
    before = checkpoint()
    folder = write_foreign(tmp_path, before)
    named = safetensors.numpy.load_file(folder / WEIGHTS)
    safetensors.numpy.save_file({name: array.astype(np.float16) for name, array in named.items()}, folder / WEIGHTS)
    found = import_folder(folder).checkpoint.parts["average"]
    assert all(array.dtype == np.float32 for array in found.values())
    expected = before.parts["average"]["conv_in.weight"].astype(np.float16)
    assert np.array_equal(found["conv_in.weight"], expected.astype(np.float32))


def test_bfloat16_is_read(tmp_path):
    before = checkpoint()
    folder = write_foreign(tmp_path, before)
    named = safetensors.numpy.load_file(folder / WEIGHTS)
    named = {name: array.astype(ml_dtypes.bfloat16) for name, array in named.items()}
    safetensors.numpy.save_file(named, folder / WEIGHTS)
    found = import_folder(folder).checkpoint.parts["average"]
    expected = before.parts["average"]["conv_in.weight"].astype(ml_dtypes.bfloat16)
    assert np.array_equal(found["conv_in.weight"], expected.astype(np.float32))


def spoil_weights(change):
    def spoil(folder):
        named = safetensors.numpy.load_file(folder / WEIGHTS)
        change(named)
        safetensors.numpy.save_file(named, folder / WEIGHTS)

    return spoil


def spoil_config(**changes):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json does not exist: not a folder of diffusers'"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_text("[" * 10**5), "config.json is not JSON"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff"), "config.json is not JSON"),
        (
            lambda folder: (folder / "scheduler_config.json").write_text('{"beta_start": "much"}'),
            'scheduler_config.json: beta_start must be a number above 0 and at most 1, got "much"',
        ),
        (
            lambda folder: (folder / "scheduler_config.json").write_text('{"num_train_timesteps": 1e3}'),
            "scheduler_config.json: num_train_timesteps must be one integer, got 1000.0",
        ),
        (
            spoil_config(block_out_channels=[65536, 65536], layers_per_block=20),
            r"config.json: a U-Net of block_out_channels \[65536, 65536\], .* does not fit into memory",
        ),
        (spoil_config(block_out_channels=[8, -16]), "config.json: each of block_out_channels must lie in"),
        (lambda folder: (folder / "config.json").write_text("[]"), "config.json must hold settings by name, got list"),
        (
            lambda folder: (folder / WEIGHTS).rename(folder / WEIGHTS.replace("safetensors", "bin")),
            "model.bin is a pickle, which could run any program, and is not read: convert it to safetensors",
        ),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"nothing"), "is truncated or not a safetensors file"),
        (spoil_weights(lambda named: named.pop("conv_in.bias")), "safetensors: parameter conv_in.bias is missing"),
        (spoil_weights(lambda named: named.update(more=np.ones(2))), "parameter more is not part of this model"),
        (
            spoil_weights(lambda named: named.update({"conv_in.bias": np.ones(3)})),
            r"conv_in.bias must have shape \(8,\)",
        ),
        (
            spoil_weights(lambda named: named["conv_in.bias"].fill(np.nan)),
            "tensor conv_in.bias holds a value that is not finite",
        ),
        (
            spoil_weights(lambda named: named.update({"conv_in.bias": np.ones(8, int)})),
            "tensor conv_in.bias is I64; F64, F32, F16 and BF16 are read",
        ),
    ],
)
def test_a_folder_that_is_damaged(tmp_path, spoil, message):
    folder = write_foreign(tmp_path, checkpoint())
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        import_folder(folder)


def test_a_configuration_that_was_changed_by_hand(tmp_path):
    export_folder(checkpoint(), tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(path.read_text().replace('"norm_eps": 1e-05', '"norm_eps": 1e-06'))
    with pytest.raises(ValueError, match="does not go with .*: norm_eps must be 1e-05, got 1e-06"):
        import_folder(tmp_path / "out")
    with pytest.raises(ValueError, match="null_label is last"):
        path.write_text(path.read_text().replace('"norm_eps": 1e-06', '"norm_eps": 1e-05'))
        import_folder(tmp_path / "out", null_label="none")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, failing):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            export_folder(checkpoint(), tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out") and not list(tmp_path.iterdir())


def test_the_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = checkpoint()
    checkpoints.save(tmp_path / "mine.safetensors", before)
    assert cli.main(["export", "mine.safetensors", "--format", "diffusers", "digits"]) == 0
    assert cli.main(["import", "digits"]) == 0
    out = capsys.readouterr().out
    path = "runs/digits/checkpoints/step-0000000.safetensors"
    assert f"wrote {path}: U-Net (8, 16), 2 classes, schedule cosine, 50 noise steps, prediction v" in out
    assert "starts with a fresh one, at step 0" in out and "assumed" not in out
    assert same(checkpoints.load("runs/digits").parts["model"], before.parts["average"])
    assert (
        cli.main(["sample", "runs/digits", "--count", "1", "--steps", "2", "--backend", "numpy", "--out", "a.png"]) == 0
    )
    assert (
        cli.main(["sample", "mine.safetensors", "--count", "1", "--steps", "2", "--backend", "numpy", "--out", "b.png"])
        == 0
    )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    write_foreign(tmp_path / "theirs", before, decay=0.999, power=0.75)
    assert (
        cli.main(["import", "theirs", "--output", "x.safetensors", "--null-label", "none", "--prediction", "x0"]) == 0
    )
    out = capsys.readouterr().out
    assert "passed over: decay 0.999, power 0.75\n" in out
    draw = terminal.own_command("sample", "x.safetensors", "--guidance", "1")
    assert "assumed: no scheduler_config.json" in out and f"to draw: {draw}" in out
    config = checkpoints.load("x.safetensors").config
    assert (config.prediction, config.data, config.model.classes) == ("x0", "unknown", 3)

    for arguments, message in (
        (["export", "mine.safetensors", "digits"], "digits is there and not empty; choose another folder"),
        (["import", "digits"], "output runs/digits already exists"),
        (["import", "digits", "--output", "mine.safetensors"], "output mine.safetensors already exists"),
        (["import", "digits", "--output", "mine.bin"], "output must end in .safetensors, got mine.bin"),
        (["import", "digits", "--output", "no/mine.safetensors"], "output: the folder no does not exist"),
        (["import", "nowhere"], "nowhere/config.json does not exist: not a folder of diffusers'"),
        (["import", "theirs", "--noise-steps", "10000000"], "noise_steps must lie in [1, 1000000], got 10000000"),
        (["import", "theirs", "--prediction", "score"], "prediction must be one of eps, x0, v, flow, got 'score'"),
        (["export", "nowhere", "out"], "checkpoint nowhere does not exist"),
    ):
        capsys.readouterr()
        assert cli.main(arguments) == cli.BAD_INPUT
        assert capsys.readouterr().err == f"tinydiff: {message}\n"
    for name in ("auto", "fashion", "unknown", ""):
        with pytest.raises(SystemExit):
            cli.main(["import", "theirs", "--output", "y.safetensors", "--data", name])
        assert f"argument --data: invalid choice: {name!r}" in capsys.readouterr().err
    assert cli.main(["import", "theirs", "--output", "y.safetensors", "--data", "strokes"]) == 0
    assert checkpoints.load("y.safetensors").config.data == "strokes"
    assert folders.CONFIGS and not (tmp_path / "runs" / "nowhere").exists()
