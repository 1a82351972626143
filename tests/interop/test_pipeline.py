"""Folders of models that look at texts, Stable Diffusion's among them: there and back, and through the commands."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.interop.folders import of_texts, same, vae
from tests.test_cli import failure
from tests.text.folders import write_bert, write_clip
from tinydiff import backends, cli, tensors, text
from tinydiff.interop.folder import export_folder, import_folder
from tinydiff.interop.settings import attention_levels
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import RunFolder

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'tinydiff[text]'")
WEIGHTS = "diffusion_pytorch_model.safetensors"
DRAW = ["--steps", "2", "--count", "2", "--backend", "numpy"]
CAPTIONS = ["a red circle", "a blue 7", "small green circle above a 3"]


@pytest.fixture(scope="module", autouse=True)
def module_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TINYDIFF_DATA", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return text.load(write_clip(tmp_path_factory.mktemp("encoder") / "clip"), backends.get("numpy"))


@pytest.fixture(scope="module")
def written(clip, tmp_path_factory):
    """A checkpoint, and the folder of Stable Diffusion's kind that it was written as."""
    made = of_texts(clip, vae=vae())
    folder = tmp_path_factory.mktemp("pipeline") / "model"
    export_folder(made, folder, encoder=clip)
    return made, folder


@pytest.fixture
def folder(written, tmp_path):
    """A copy to be spoilt."""
    return shutil.copytree(written[1], tmp_path / "copy")


def save(run, checkpoint, encoder):
    """The folder of a run that has got so far."""
    run.mkdir()
    if checkpoint.autoencoder:
        checkpoints.save(run / checkpoints.AUTOENCODER, checkpoint.autoencoder)
    RunFolder(run).keep_encoder(encoder.files)
    checkpoints.save(run / "step-0000012.safetensors", checkpoint)
    return run


def drawn(place, out, *more):
    assert cli.main(["sample", str(place), *DRAW, *more, "--out", str(out)]) == 0
    with Image.open(out) as picture:
        return np.asarray(picture)


def test_there_and_back(written, clip):
    before, folder = written
    after, assumed, _, encoder = import_folder(folder)
    assert not assumed and same(after.parts["model"], before.parts["average"])
    assert not any(array.any() for array in after.parts["adamw.mean"].values())
    assert encoder.fingerprint == clip.fingerprint == after.config.text
    scale = after.autoencoder.scale
    assert np.allclose(scale.scale, 0.18215) and scale.shift == (0, 0)
    assert dataclasses.replace(after.config, autoencoder=before.config.autoencoder) == before.config
    index = json.loads((folder / "model_index.json").read_text())
    assert {name for name, of in index.items() if isinstance(of, list) and of[0]} == {
        each.name for each in folder.iterdir() if each.is_dir()
    }
    to_draw = import_folder(folder, backend=backends.get("numpy")).checkpoint
    assert set(to_draw.parts) == {"model", "average"} and all(
        isinstance(each, tensors.Lazy) and np.array_equal(each, after.parts["model"][name])
        for name, each in to_draw.parts["average"].items()
    )


@pytest.mark.parametrize(
    "changes",
    [
        dict(heads=(1, 4)),
        dict(heads=(2, 8), attention_levels=(0, 1)),
        dict(head_width=4, attention_levels=(0, 1), transformer_depth=2, film=True),
        dict(head_width=64, downsample_padding=0, dropout=0.1, positions=1),
    ],
    ids=lambda changes: " ".join(changes),
)
def test_every_way_in_which_they_may_differ(clip, tmp_path, changes):
    before = of_texts(clip, **changes)
    export_folder(before, tmp_path / "out", encoder=clip)
    after, assumed, *_ = import_folder(tmp_path / "out")
    assert not assumed and after.config == before.config and same(after.parts["model"], before.parts["average"])
    if "positions" in changes:
        return
    path = tmp_path / "out" / "unet" / WEIGHTS  # of somebody else
    path.write_bytes(tensors.encode(tensors.read(path).named))
    after = import_folder(tmp_path / "out").checkpoint
    ours, theirs = before.config.model, after.config.model
    assert attention_levels(theirs) == attention_levels(ours)
    for level in attention_levels(ours):
        assert theirs.head_width_at(level) == ours.head_width_at(level)
    assert same(after.parts["model"], before.parts["average"])


def test_the_commands(written, clip, tmp_path, monkeypatch, capsys):
    """From a run to a folder, and drawn from the run, from the folder and from what it is imported as: the same images."""
    monkeypatch.chdir(tmp_path)
    run = save(tmp_path / "run", written[0], clip)
    assert cli.main(["export", "run", "out"]) == 0
    assert "StableDiffusionPipeline.from_pretrained loads it: its texts are read by CLIP" in capsys.readouterr().out
    assert cli.main(["import", "out"]) == 0
    said = capsys.readouterr().out
    assert "texts, in tokens of width 8, schedule scaled_linear, 50 noise steps, prediction eps" in said
    assert "tinydiff sample runs/out/checkpoints/step-0000000.safetensors --prompt 'a cat'" in said
    asked = ["--prompt", "a red circle", "--guidance", "4"]
    images = [drawn(place, "x.png", *asked) for place in (run, "out", "runs/out")]
    assert all(np.array_equal(images[0], each) for each in images[1:])
    assert not np.array_equal(drawn("out", "x.png", *asked, "--negative", "a blue 7"), images[0])
    assert not np.array_equal(drawn("out", "x.png", *asked, "--spacing", "leading"), images[0])
    assert not np.array_equal(drawn("out", "x.png", *asked[:2]), images[0])
    larger = drawn("out", "x.png", *asked, "--size", "16")
    assert np.array_equal(larger, drawn(run, "x.png", *asked, "--size", "16"))
    assert np.subtract(larger.shape, images[0].shape).tolist() == [16, 32, 0]  # two of them, each pixel twice
    assert np.array_equal(drawn("out", "x.png", *asked, "--size", "8"), images[0])
    capsys.readouterr()
    drawn("out", "x.png", "--prompt", "red " * 40)
    assert "1 of 2 texts are longer than 16 tokens and were cut" in capsys.readouterr().out


def test_training_goes_on_from_one(folder, tmp_path, monkeypatch, capsys):
    """In the latents of its autoencoder, with the texts of its encoder, at the learning rate that is asked for, and on
    images of another size."""
    monkeypatch.chdir(tmp_path)
    changed("unet/config.json")(folder)
    rng, lines = np.random.default_rng(0), []
    (tmp_path / "pictures").mkdir()
    for i in range(6):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(tmp_path / "pictures" / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": CAPTIONS[i % 3]}))
    (tmp_path / "pictures" / "metadata.jsonl").write_text("\n".join(lines))
    assert cli.main(["import", "copy", "--size", "16"]) == 0
    began = checkpoints.load("runs/copy")
    assert began.image_shape == (16, 16, 3) and began.config.model.shape == (8, 8, 2)
    data = ["--data", "folder", "--data-dir", "pictures", "--no-pictures"]
    train = ["train", "--resume", "runs/copy", *data, "--batch", "2", "--backend", "numpy", "--learning-rate", "1e-4"]
    reason = failure([*train, "--schedule", "cosine"], capsys)
    assert "was trained with schedule scaled_linear, not cosine" in reason
    assert "flip does not go with text" in failure([*train, "--flip", "on"], capsys)
    assert cli.main([*train, "--steps", "4", "--checkpoint-every", "2"]) == 0
    trained = checkpoints.load("runs/copy")
    config = trained.config
    assert trained.step == 4 and (config.steps, config.batch, config.learning_rate) == (4, 2, 1e-4)
    assert (config.text, config.autoencoder) == (began.config.text, began.config.autoencoder)
    assert not same(trained.parts["model"], began.parts["model"])
    assert "was trained with learning_rate 0.0001, not 0.1" in failure([*train[:-1], "0.1"], capsys)
    drawn("runs/copy", "x.png", "--prompt", CAPTIONS[0])
    whole = (tmp_path / "runs/copy/checkpoints/step-0000004.safetensors").read_bytes()
    (tmp_path / "runs/copy/checkpoints/step-0000004.safetensors").unlink()
    assert cli.main(["train", "--resume", "runs/copy", *data, "--backend", "numpy"]) == 0
    assert (tmp_path / "runs/copy/checkpoints/step-0000004.safetensors").read_bytes() == whole


def test_other_models_of_texts(clip, tmp_path, monkeypatch, capsys):
    """Of BERT's texts, and of images themselves: what diffusers has no pipeline for is written all the same."""
    monkeypatch.chdir(tmp_path)
    bert = text.load(write_bert(tmp_path / "bert"), backends.get("numpy"))
    for name, encoder, autoencoder in (("bert", bert, vae()), ("images", clip, None)):
        made = of_texts(encoder, vae=autoencoder)
        save(tmp_path / f"run-{name}", made, encoder)
        assert cli.main(["export", f"run-{name}", f"out-{name}"]) == 0
        assert (
            "the U-Net is given what text_encoder makes of a text as encoder_hidden_states, beside" in capsys.readouterr().out
        )
        assert not (tmp_path / f"out-{name}" / "model_index.json").exists()
        after = import_folder(tmp_path / f"out-{name}")
        assert same(after.checkpoint.parts["model"], made.parts["average"])
        assert after.encoder.fingerprint == encoder.fingerprint and (after.checkpoint.autoencoder is None) == (
            autoencoder is None
        )


def changed(place, **settings):
    def change(folder):
        path = folder / place
        path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
        weights = folder / "unet" / WEIGHTS  # of somebody else
        weights.write_bytes(tensors.encode(tensors.read(weights).named))

    return change


def renamed(place, name):
    return lambda folder: (folder / place).rename((folder / place).with_name(name))


def removed(place):
    return lambda folder: shutil.rmtree(folder / place)


def of_two_precisions(folder):
    for name in ("fp16", "non_ema"):
        shutil.copy(folder / "unet" / WEIGHTS, folder / "unet" / WEIGHTS.replace("model.", f"model.{name}."))
    (folder / "unet" / WEIGHTS).unlink()


def of_files_that_are_not_there(folder):
    (folder / "unet" / WEIGHTS).unlink()
    (folder / "unet" / f"{WEIGHTS}.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.bias": "a.safetensors"}})
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (removed("text_encoder"), "holds no text_encoder, which its U-Net looks at the texts of"),
        (removed("tokenizer"), "text_encoder has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"),
        (removed("vae"), "holds no vae, the autoencoder in whose latents its U-Net works"),
        (
            changed("unet/config.json", cross_attention_dim=12),
            "text_encoder makes tokens of width 8, the U-Net looks at 12",
        ),
        (
            renamed(f"unet/{WEIGHTS}", WEIGHTS.replace("safetensors", "bin")),
            f"unet holds no {WEIGHTS}; diffusion_pytorch_model.bin is a pickle, which could run any program, and is not "
            "read: convert it to safetensors (save_pretrained does)",
        ),
        (
            renamed("text_encoder/model.safetensors", "pytorch_model.bin"),
            "pytorch_model.bin is a pickle, which could run",
        ),
        (
            of_two_precisions,
            "but diffusion_pytorch_model.fp16.safetensors, diffusion_pytorch_model.non_ema.safetensors",
        ),
        (of_files_that_are_not_there, f"unet holds no a.safetensors, which {WEIGHTS}.index.json names"),
        (
            changed("scheduler/scheduler_config.json", beta_end=0.013),
            'beta_schedule "scaled_linear" with beta_start 0.0169',
        ),
    ],
)
def test_folders_that_are_not_whole(folder, tmp_path, capsys, change, message):
    change(folder)
    for command in (["sample", str(folder), "--prompt", "a 3"], ["import", str(folder)]):
        assert message in failure(command, capsys)
    assert not (tmp_path / "runs").exists()


def test_bad_input(written, folder, tmp_path, capsys):
    """One line each."""
    (tmp_path / "model.ckpt").write_bytes(b"a pickle")
    for command in ("sample", "import"):
        reason = failure([command, str(tmp_path / "model.ckpt")], capsys)
        assert "model.ckpt is a pickle, which could run any program, and is not read: convert it to" in reason
    reason = failure(["sample", str(folder), "--label", "1"], capsys)
    assert reason == "label does not go with this model, it looks at texts: --prompt"
    for size in (0, -8, 10):
        reason = failure(["sample", str(folder), "--prompt", "a 3", "--size", str(size)], capsys)
        assert reason == f"size must be a multiple of 4 for this model, got {size}"
        assert failure(["import", str(folder), "--size", str(size)], capsys) == reason
    reason = failure(["sample", str(folder), "--prompt", "a 3", "--spacing", "leading", "--steps", "50"], capsys)
    assert reason == "steps must be fewer than the 50 noise steps with spacing leading, got 50"
    (tmp_path / "run" / "text").mkdir(parents=True)
    reason = failure(["import", str(folder), "--output", str(tmp_path / "run" / "x.safetensors")], capsys)
    assert reason == f"output: {tmp_path / 'run' / 'text'}, where its encoder is to be, already exists"


def test_a_prompt_to_a_folder_without_texts(tmp_path, capsys):
    from tests.interop.folders import checkpoint

    export_folder(checkpoint(), tmp_path / "out")
    reason = failure(["sample", str(tmp_path / "out"), "--prompt", "a 3"], capsys)
    assert reason == "prompt does not go with this model, it was trained without texts"
    assert drawn(tmp_path / "out", tmp_path / "x.png", "--label", "1").any()
