"""``tinydiff train --text`` and ``tinydiff sample --prompt``, and all that takes a run with texts."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import failure, newest
from tests.text.folders import write_bert
from tinydiff import cli
from tinydiff.data import captions
from tinydiff.train import checkpoint as checkpoints
from tinydiff.train.folder import read_metrics

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'tinydiff[text]'")
pytestmark = pytest.mark.usefixtures("module_cache")
SMALL = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--noise-steps", "5", "--head-width", "4"]
TEXTS = ["a red circle", "a blue 7", "small green circle above a 3"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("data") / "pictures", np.random.default_rng(0)
    folder.mkdir()
    lines = []
    for i in range(9):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", "text": TEXTS[i % 3]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("encoder") / "bert")


@pytest.fixture(scope="module")
def run(pictures, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "text"
    assert cli.main(["train", *on(pictures, encoder), "--steps", "4", "--out", str(out)]) == 0
    return out


def on(pictures, encoder, *more):
    return [*SMALL, "--data", "folder", "--data-dir", str(pictures), "--text", str(encoder), "--flip", "off", *more]


def test_a_run_leaves_its_encoder_and_says_how_to_draw(pictures, encoder, tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.main(["train", *on(pictures, encoder), "--steps", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "9 images, 9 captions" in said and f"tinydiff sample {out} --prompt 'small green circle above a 3'" in said
    assert {path.name for path in (out / "text").iterdir()} == {path.name for path in encoder.iterdir()}
    with Image.open(out / "samples.png") as picture:
        assert picture.height > 3 * 8  # a row a text
    config = checkpoints.load(out).config
    assert config.text and config.model.context_width == 8 and config.model.classes == 0


def test_drawing_by_prompt(run, tmp_path, capsys):
    def drawn(*more):
        out = tmp_path / "out.png"
        arguments = ["--steps", "2", "--count", "2", "--out", str(out), *more]
        assert cli.main(["sample", str(run), *arguments]) == 0
        with Image.open(out) as picture:
            return np.asarray(picture)

    one = drawn("--prompt", "a red circle")
    two = drawn("--prompt", "a red circle", "--prompt", "a blue 7")
    assert two.shape[0] > one.shape[0] and two.shape[1] == one.shape[1]
    assert np.array_equal(drawn("--prompt", "a red circle"), one)
    assert drawn().shape == one.shape  # of no text
    drawn("--prompt", "a red circle", "--negative", "a blue 7", "--guidance", "4")
    drawn("--prompt", "red " * 40)
    assert "1 of 2 texts are longer than 12 tokens and were cut" in capsys.readouterr().out


def test_resumed_it_has_the_same_bits(pictures, encoder, run, tmp_path):
    out, moved = tmp_path / "run", tmp_path / "encoder"
    shutil.copytree(encoder, moved)
    arguments = [*on(pictures, moved), "--steps", "4", "--no-pictures", "--checkpoint-every", "2", "--out", str(out)]
    assert cli.main(["train", *arguments]) == 0
    whole = newest(out).read_bytes()
    shutil.rmtree(moved)  # the run has its own
    newest(out).unlink()
    assert cli.main(["train", "--resume", str(out), "--data-dir", str(pictures), "--no-pictures"]) == 0
    assert newest(out).read_bytes() == whole and len(read_metrics(out / "metrics.jsonl")) == 4


def test_the_first_layers_of_an_encoder_go_with_the_run(pictures, encoder, tmp_path, capsys):
    out, picture = tmp_path / "run", tmp_path / "out.png"
    given = ["--steps", "2", "--no-pictures", "--text-layers", "1", "--out", str(out)]
    assert cli.main(["train", *on(pictures, encoder), *given]) == 0
    assert json.loads((out / "text" / "config.json").read_text())["num_hidden_layers"] == 1
    assert cli.main(["sample", str(out), "--prompt", "a 3", "--steps", "2", "--out", str(picture)]) == 0
    again = ["train", "--resume", str(out), "--data-dir", str(pictures), "--steps", "3", "--no-pictures"]
    assert cli.main(again) == 0
    capsys.readouterr()
    assert "text_layers goes with a new run" in failure([*again, "--text-layers", "1"], capsys)


def test_in_latents_too(pictures, encoder, tmp_path):
    vae, out = tmp_path / "vae", tmp_path / "run"
    arguments = ["--channels", "4,8", "--groups", "2", "--batch", "4", "--data", "folder", "--data-dir", str(pictures)]
    assert cli.main(["train-vae", *arguments, "--steps", "2", "--no-pictures", "--out", str(vae)]) == 0
    more = ["--latent", str(vae), "--steps", "2", "--no-pictures", "--out", str(out)]
    assert cli.main(["train", *on(pictures, encoder), *more]) == 0
    assert cli.main(["sample", str(out), "--prompt", "a 3", "--steps", "2", "--out", str(tmp_path / "out.png")]) == 0


def test_begun_anew_nothing_is_left_of_the_encoder(pictures, encoder, tmp_path):
    out = tmp_path / "run"
    assert cli.main(["train", *on(pictures, encoder), "--steps", "1", "--no-pictures", "--out", str(out)]) == 0
    plain = tmp_path / "plain"
    plain.mkdir()
    for i in range(4):
        Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)).save(plain / f"{i}.png")
    arguments = [*SMALL, "--data", "folder", "--data-dir", str(plain), "--steps", "1", "--no-pictures"]
    assert cli.main(["train", *arguments, "--out", str(out), "--overwrite"]) == 0
    assert not list((out / "text").iterdir())


def test_evaluating(pictures, run, tmp_path, capsys):
    arguments = [
        "--data-dir",
        str(pictures),
        "--samples",
        "8",
        "--steps",
        "2",
        "--json",
        str(tmp_path / "results.json"),
    ]
    assert cli.main(["evaluate", str(run), *arguments]) == 0
    assert "MMD^2" in capsys.readouterr().out
    assert json.loads((tmp_path / "results.json").read_text())["drawn"]["guidance"] == 2.0


def test_evaluating_scenes(encoder, tmp_path, capsys, monkeypatch):
    """Half of the captions that are not trained on have a thing in a colour never seen on it."""
    monkeypatch.setattr(captions.load, "__defaults__", (60,))
    arguments = [*SMALL, "--data", "scenes", "--text", str(encoder), "--steps", "1", "--no-pictures"]
    assert cli.main(["train", *arguments, "--out", str(tmp_path / "run")]) == 0
    written = tmp_path / "results.json"
    assert cli.main(["evaluate", str(tmp_path / "run"), "--samples", "9", "--steps", "2", "--json", str(written)]) == 0
    found = json.loads(written.read_text())["captions"]
    assert found["n"] == 5 and found["new_n"] == 4 and found["test"]["kinds"] > 0.8
    assert found["known"]["places"] is None and found["test"]["places"] == 1  # noise shows no two things to be placed
    said = capsys.readouterr().out
    assert "captions fulfilled" in said and said.count("where both things are there") == 1


@pytest.mark.parametrize("command", ["export", "program"])
def test_other_commands(run, tmp_path, capsys, command):
    if command == "program":
        assert cli.main(["program", str(run), "--totals"]) == 0 and "labels (1,)" in capsys.readouterr().out
        assert cli.main(["info", str(run)]) == 0
        return
    for form in ("onnx", "web"):
        reason = failure(["export", "--format", form, str(run), str(tmp_path / f"out.{form}")], capsys)
        assert "looks at texts: such models are written with --format diffusers alone" in reason


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--data", "strokes"], "text goes with data 'scenes' or 'folder', which have captions, not 'strokes'"),
        (["--flip", "on"], "flip does not go with text: a caption that says left would be wrong of the mirrored image"),
        (["--text", "nowhere"], "config.json does not exist: not a folder with a text encoder"),
        (["--text-layers", "3"], "config.json: text_layers must lie in [1, 2], got 3"),
    ],
)
def test_bad_training(pictures, encoder, tmp_path, capsys, arguments, message):
    given = on(pictures, encoder, *arguments, "--out", str(tmp_path / "run"))
    if "strokes" in arguments:
        given = [*SMALL, "--text", str(encoder), *arguments, "--out", str(tmp_path / "run")]
    assert message in failure(["train", *given], capsys)
    assert not (tmp_path / "run").exists()


def test_a_preset_for_words_needs_an_encoder(tmp_path, capsys):
    out = tmp_path / "run"
    reason = failure(["train", "--text-layers", "1", "--out", str(out)], capsys)
    assert reason == "text_layers goes with text, the folder of the encoder whose layers they are"
    reason = failure(["train", "--preset", "words-laptop", "--out", str(out)], capsys)
    assert reason == "text must be the folder of an encoder: the preset words-laptop is for a model of words"
    assert not out.exists()


def test_bad_drawing(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    assert "label does not go with this model, it looks at texts: --prompt" in failure(
        ["sample", str(run), "--label", "1"], capsys
    )
    reason = failure(["train", "--resume", str(copy), "--text", str(copy / "text")], capsys)
    assert "text goes with a new run: one that goes on has its encoder, if any, in its folder" in reason
    write_bert(copy / "text", seed=1)
    reason = failure(["sample", str(copy), "--prompt", "a 3"], capsys)
    assert "is not the encoder of the texts that" in reason
    shutil.rmtree(copy / "text")
    reason = failure(["sample", str(copy), "--prompt", "a 3"], capsys)
    assert "config.json does not exist: not a folder with a text encoder" in reason


def test_a_prompt_to_a_model_without_texts(pictures, tmp_path, capsys):
    out = tmp_path / "run"
    (tmp_path / "data").mkdir()
    for path in pictures.glob("*.png"):
        shutil.copy(path, tmp_path / "data")
    arguments = [*SMALL, "--data", "folder", "--data-dir", str(tmp_path / "data"), "--steps", "1", "--no-pictures"]
    assert cli.main(["train", *arguments, "--out", str(out)]) == 0
    for name in ("prompt", "negative"):
        reason = failure(["sample", str(out), f"--{name}", "a 3"], capsys)
        assert f"{name} does not go with this model, it was trained without texts" in reason


def test_a_student_draws_by_prompt(run, pictures, encoder, tmp_path, capsys):
    """Guided in one evaluation a step."""
    out, picture = tmp_path / "student", tmp_path / "x.png"
    arguments = [
        "distill",
        str(run),
        "--steps",
        "2",
        "--training-steps",
        "2",
        "--batch",
        "4",
        "--data-dir",
        str(pictures),
    ]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    assert {path.name for path in (out / "text").iterdir()} == {path.name for path in encoder.iterdir()}
    assert cli.main(["sample", str(out), "--prompt", "a red circle", "--guidance", "3", "--out", str(picture)]) == 0
    config = checkpoints.load(out).config
    assert config.model.guidance_width and config.text and picture.exists()
    said = failure(["sample", str(out), "--prompt", "a 7", "--negative", "red", "--out", str(picture)], capsys)
    assert said == "negative does not go with a student: it is asked for the prompt alone, and told the guidance"
