"""Small folders with text encoders, without transformers: random weights, and tokenizers of a handful of words."""

import json

import numpy as np
import safetensors.numpy

from tinydiff import backends
from tinydiff.text.bert import Bert, BertConfig
from tinydiff.text.clip import Clip, ClipConfig

SIZES = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
WORDS = ["a", "red", "blue", "green", "small", "circle", "above", "below", "7", "3", "digit", ",", "."]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'!"


def bert_vocabulary():
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *(f"##{letter}" for letter in LETTERS[:26])]


def write_bert(folder, seed=0, places=12, **changes):
    """The folder, with a tokenizer.json."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(bert_vocabulary())}
    library = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer()
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    library.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=places, **SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    library.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    return _write(folder, "bert", Bert, config._replace(**changes), seed)


def clip_vocabulary():
    """Letters, letters that end a word, and what merges make of them."""
    merges = ["r e", "re d</w>", "b l", "bl u", "blu e</w>", "a b", "o v", "ab ov", "abov e</w>"]
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), *(merge.replace(" ", "") for merge in merges)]
    return {token: i for i, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}, merges


def write_clip(folder, seed=0, places=16, **changes):
    """The folder, with vocab.json and merges.txt."""
    vocabulary, merges = clip_vocabulary()
    config = ClipConfig(vocab_size=len(vocabulary), max_position_embeddings=places, **SIZES)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<|endoftext|>"}))
    return _write(folder, "clip_text_model", Clip, config._replace(**changes), seed)


def _write(folder, name, kind, config, seed):
    model = kind(config, backends.get("numpy"))
    rng = np.random.default_rng(seed)
    named = {}
    for each in model.parameters:
        values = rng.standard_normal(each.shape).astype(np.float32)
        if len(each.shape) == 1:
            values = 0.1 * values + ("norm" in each.name.lower() and each.name.endswith("weight"))
        elif "embedding" not in each.name:
            values = (values / np.sqrt(each.shape[0])).T
        named[each.name] = np.ascontiguousarray(values, np.float32)
    safetensors.numpy.save_file(named, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": name, **config._asdict()}))
    return folder
