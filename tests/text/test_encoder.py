"""Text encoders read from folders: what they make of texts, and what is said of folders that are none."""

import json

import numpy as np
import pytest
import safetensors.numpy

from tests.checks import COMPILED, assert_close, backend_or_skip
from tests.text.folders import WORDS, write_bert, write_clip
from tinydiff import backends, tensors, text
from tinydiff.text import tokenizer

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'tinydiff[text]'")
TEXTS = ["a red 7 above a small blue circle", "blue", ""]
both = pytest.mark.parametrize("write", [write_bert, write_clip])


def load(folder, backend="auto"):
    return text.load(folder, backends.get(backend, "fp32"))


def test_bert_pads_and_says_so(tmp_path):
    found = load(write_bert(tmp_path)).encode(TEXTS)
    assert found.length.tolist() == [10, 3, 2] and found.tokens.shape == (3, 10, 8)
    alone = load(tmp_path).encode(["blue"])
    assert alone.tokens.shape == (1, 3, 8)
    assert_close(found.tokens[1, :3], alone.tokens[0], 1e-5)


def test_clip_has_always_as_many_tokens(tmp_path):
    found = load(write_clip(tmp_path)).encode(["blue above red", ""])
    assert found.length is None and found.tokens.shape == (2, 16, 8)
    alone = load(tmp_path).encode(["blue"])
    assert_close(found.tokens[0, :2], alone.tokens[0, :2], 1e-5)  # begins alike, and sees nothing of what follows
    assert np.abs(found.tokens[0, 2] - alone.tokens[0, 2]).max() > 1e-3


@both
@pytest.mark.parametrize("name", COMPILED)
def test_every_backend_and_any_number_at_once(tmp_path, monkeypatch, name, write):
    texts = [" ".join(WORDS[i:j]) for i in range(3) for j in range(i, 6)]
    wanted = load(write(tmp_path), "numpy").encode(texts).tokens
    monkeypatch.setattr(text.encoder, "TEXTS_AT_ONCE", 5)
    found = text.load(tmp_path, backend_or_skip(name, "fp32")).encode(texts)
    assert_close(found.tokens, wanted, 1e-5)


@both
def test_a_text_that_is_too_long_is_cut_and_that_is_said(tmp_path, write):
    said, encoder = [], load(write(tmp_path, places=6))
    found = encoder.encode(["blue", "blue red blue red blue red"], say=said.append)
    assert found.tokens.shape[1] == 6 and said == ["1 of 2 texts are longer than 6 tokens and were cut"]
    ids, _ = encoder.words.ids(["blue red blue red blue red"], 6)
    whole, _ = encoder.words.ids(["blue red blue red blue red"], 100)
    assert ids[0] == whole[0][:5] + whole[0][-1:]  # its end too
    encoder.encode(["blue"], say=said.append)
    assert len(said) == 1


@both
def test_fingerprints_tell_weights_and_tokenizers_apart(tmp_path, write):
    first, again, other = (load(write(tmp_path / name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first.fingerprint == again.fingerprint != other.fingerprint


@both
def test_weights_in_half_precision_and_under_other_names(tmp_path, write):
    wanted = load(write(tmp_path)).encode(["red blue"]).tokens
    path = tmp_path / "model.safetensors"
    named = safetensors.numpy.load_file(path)
    prefix = "bert." if write is write_bert else "text_model."
    named = {f"{prefix}{name}": array for name, array in named.items()}
    for kind, tolerance in (("F16", 2e-3), ("BF16", 2e-2)):
        more = {f"{prefix}embeddings.position_ids": np.arange(16)[None]}
        path.write_bytes(tensors.encode({**named, **more}, types=dict.fromkeys(named, kind)))
        found = load(tmp_path).encode(["red blue"]).tokens
        assert 0 < np.abs(found - wanted).max() < tolerance * 3


@pytest.mark.parametrize("write", [write_bert, write_clip, lambda folder: put_within_a_whole_clip(write_clip(folder))])
def test_the_first_layers_alone(tmp_path, write):
    """What is written of them is a folder of a model that has no more."""
    whole = load(write(tmp_path / "whole"))
    few = text.load(tmp_path / "whole", backends.get("auto", "fp32"), layers=1)
    (tmp_path / "few").mkdir()
    for name, contents in few.files.items():
        (tmp_path / "few" / name).write_bytes(contents())
    again = load(tmp_path / "few")
    assert again.fingerprint == few.fingerprint != whole.fingerprint
    assert json.loads((tmp_path / "few" / "config.json").read_text())["num_hidden_layers"] == 1
    tokens, shallow = whole.encode(TEXTS).tokens, few.encode(TEXTS).tokens
    assert np.array_equal(again.encode(TEXTS).tokens, shallow) and not np.allclose(tokens, shallow)
    assert text.load(tmp_path / "whole", backends.get("auto", "fp32"), layers=2).fingerprint == whole.fingerprint
    with pytest.raises(ValueError, match=r"config.json: text_layers must lie in \[1, 2\], got 3"):
        text.load(tmp_path / "whole", backends.get("auto", "fp32"), layers=3)


def test_the_text_model_within_a_whole_clip(tmp_path):
    wanted = load(write_clip(tmp_path)).encode(["red"]).tokens
    put_within_a_whole_clip(tmp_path)
    assert np.array_equal(load(tmp_path).encode(["red"]).tokens, wanted)


def put_within_a_whole_clip(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "text_config": config}))
    path = folder / "model.safetensors"
    named = {f"text_model.{name}": array for name, array in safetensors.numpy.load_file(path).items()}
    more = {"vision_model.weight": np.ones(3, np.float32), "logit_scale": np.ones(1, np.float32)}
    safetensors.numpy.save_file(named | more | {"text_projection.weight": np.ones((2, 2), np.float32)}, path)
    return folder


def test_a_tokenizer_in_another_folder(tmp_path):
    write_clip(tmp_path / "text_encoder")
    (tmp_path / "tokenizer").mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / "text_encoder" / name).rename(tmp_path / "tokenizer" / name)
    backend = backends.get("auto", "fp32")
    found = text.load(tmp_path / "text_encoder", backend, tokenizer_folder=tmp_path / "tokenizer")
    assert found.encode(["red"]).tokens.shape == (1, 16, 8)
    with pytest.raises(ValueError, match="has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"):
        text.load(tmp_path / "text_encoder", backend)


def changed(name, value):
    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {name: value}))

    return change


def without(name):
    return lambda folder: (folder / name).unlink()


def damaged(name):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def lacking(name):
    def change(folder):
        named = safetensors.numpy.load_file(folder / "model.safetensors")
        del named[name]
        safetensors.numpy.save_file(named, folder / "model.safetensors")

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (without("config.json"), "config.json does not exist: not a folder with a text encoder"),
        (without("model.safetensors"), "holds no model.safetensors$"),
        (without("vocab.json"), "has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt"),
        (damaged("model.safetensors"), "model.safetensors is truncated or not a safetensors file"),
        (damaged("vocab.json"), "vocab.json is not JSON"),
        (changed("model_type", "t5"), 'model_type must be clip_text_model or bert, got "t5"'),
        (changed("hidden_size", 7.5), "hidden_size must be one integer, got 7.5"),
        (changed("num_attention_heads", 3), "num_attention_heads must divide hidden_size 8, got 3"),
        (
            changed("hidden_act", "relu"),
            'hidden_act must be one of gelu, gelu_new, gelu_pytorch_tanh, quick_gelu, got "r',
        ),
        (changed("position_embedding_type", "relative"), 'position_embedding_type must be absolute, got "relative"'),
        (changed("hidden_size", 16), r"parameter .* must have shape \(91, 16\), got \(91, 8\)"),
        (lacking("final_layer_norm.bias"), "model.safetensors: parameter final_layer_norm.bias is missing"),
    ],
)
def test_folders_that_are_none(tmp_path, change, message):
    change(write_clip(tmp_path))
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


def test_padding_that_is_not_known(tmp_path):
    write_bert(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<nothing>"}}))
    with pytest.raises(ValueError, match="pad_token '<nothing>' is no token of the tokenizer"):
        load(tmp_path)


def test_without_the_library(tmp_path, monkeypatch):
    write_bert(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(ValueError, match="a text needs the library tokenizers: pip install 'tinydiff\\[text\\]'"):
        tokenizer.load(tmp_path)
