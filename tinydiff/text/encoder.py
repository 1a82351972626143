"""A folder with a text encoder, as transformers save it: from texts to tokens that a U-Net looks at.

config.json          which model, and its sizes
model.safetensors    its weights, in any precision
tokenizer.json, ...  see ``tokenizer``; in Stable Diffusion's folders in one of their own
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from tinydiff.given import (
    MANY,
    naming,
    read_json,
    read_weights,
    require_integer,
    require_number,
    shown,
    to_json,
    weight_files,
)
from tinydiff.model.transformer_block import Context
from tinydiff.text import tokenizer
from tinydiff.text.bert import Bert, BertConfig
from tinydiff.text.clip import Clip, ClipConfig
from tinydiff.text.layers import ACTIVATIONS

WHAT = "a folder with a text encoder"
WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, *tokenizer.FILES)  # all that an encoder is read from, where they are there
MODELS = {"clip_text_model": (Clip, ClipConfig), "bert": (Bert, BertConfig)}
EMBEDDINGS = ("embedding.weight", "embeddings.weight")  # how names of tables end, which are as ours
LAYER = re.compile(r"encoder\.layers?\.(\d+)\.")  # how names of what a layer has begin, and its number
TEXTS_AT_ONCE = 32


class Encoder:
    """Texts -> the tokens that a model looks at. ``fingerprint`` tells encoders and tokenizers of other weights apart;
    ``files`` are those of a folder of this encoder, {name: a function that gives the bytes}."""

    def __init__(self, model, words, fingerprint, files=None):
        self.model, self.words, self.fingerprint, self.files = model, words, fingerprint, files or {}
        self.width, self.most = model.config.hidden_size, model.config.max_position_embeddings

    def encode(self, texts, say=print):
        """texts, N of them -> a ``Context``: tokens (N, M, width) float32 and length (N) integers, NumPy's.

        M is the most that one of them has. Of CLIP, which was trained so, all have as many as it has places, padding
        among them, and length is None. A text of more tokens than places is cut, which is said.
        """
        ids, length = self.numbers(texts, say)
        return Context(self.tokens(ids, length), None if self.model.pads_to_the_end else length)

    def numbers(self, texts, say=print):
        """texts, N of them -> the numbers of their tokens (N, M), padded, and length (N), how many there are of each."""
        ids, cut = self.words.ids(list(texts), self.most)
        if cut:
            say(f"{cut} of {len(ids)} texts are longer than {self.most} tokens and were cut")
        length = np.array([len(each) for each in ids])
        padded = np.full((len(ids), self.most if self.model.pads_to_the_end else length.max()), self.words.padding)
        for row, each in zip(padded, ids):
            row[: len(each)] = each
        return padded, length

    def tokens(self, ids, length):
        """What ``numbers`` gives -> tokens (N, M, width) float32, 0 beyond the length of a text that need not be padded.

        Texts of a like length are read together, so that little is computed of padding.
        """
        backend, tokens = self.model.backend, np.zeros((*ids.shape, self.width), np.float32)
        order = np.argsort(length, kind="stable")
        for first in range(0, len(ids), TEXTS_AT_ONCE):
            some = order[first : first + TEXTS_AT_ONCE]
            most = ids.shape[1] if self.model.pads_to_the_end else length[some].max()
            of = backend.asarray(ids[some, :most]), backend.asarray(length[some])
            tokens[some, :most] = backend.to_numpy(self.model.forward(*of))
        if not self.model.pads_to_the_end:
            tokens[np.arange(tokens.shape[1]) >= length[:, None]] = 0
        return tokens


def load(folder, backend, *, layers=None, tokenizer_folder=None):
    """The ``Encoder`` of a folder, on a backend of precision "fp32".

    layers            how many of the model's to go through, from the first; by default all that config.json speaks of.
                      CLIP's norm after the last comes after these, as Stable Diffusion 2.x has it of the last but one
    tokenizer_folder  where the tokenizer's files are, by default the same

    Raises ``ValueError`` naming the file, and the setting or tensor, where one is missing, damaged or of a model that
    there is none of here; and for more layers than there are.
    """
    folder = Path(folder)
    words = Path(tokenizer_folder or folder)
    given = _of_texts(read_json(folder / "config.json", WHAT))
    with naming(folder / "config.json"):
        kind, config = _config(given)
        if layers is not None:
            require_integer("text_layers", layers, 1, config.num_hidden_layers)
            given, config = {**given, "num_hidden_layers": layers}, config._replace(num_hidden_layers=layers)
    library = tokenizer.load(words)
    path, *more = weight_files(folder, WEIGHTS)
    if more:
        raise ValueError(f"{folder} has weights in {1 + len(more)} files; save it in one, {WEIGHTS}")
    model, named = kind(config, backend), _weights(folder, kind)
    beyond = [name for name in named if (of := LAYER.match(name)) and int(of[1]) >= config.num_hidden_layers]
    with naming(path):
        model.parameters.load(model.parameters.values, {name: named[name] for name in named.keys() - beyond})
    digest = hashlib.sha256(path.read_bytes())
    digest.update(library.library.to_str().encode())
    if beyond:
        digest.update(f"{config.num_hidden_layers} layers".encode())
    paths = {name: (words if name in tokenizer.FILES else folder) / name for name in FILES} | {WEIGHTS: path}
    files = {name: each.read_bytes for name, each in paths.items() if each.is_file()}
    if layers is not None:
        files["config.json"] = lambda: to_json(given)
    return Encoder(model, library, digest.hexdigest()[:16], files)


def _of_texts(given):
    """Of what config.json says of a model of texts and images, what it says of that of texts."""
    if given.get("model_type") == "clip" and isinstance(given.get("text_config"), dict):
        return {**given["text_config"], "model_type": "clip_text_model"}
    return given


def _config(given):
    """The class and the sizes of the model that the settings are of."""
    if given.get("model_type") not in MODELS:
        raise ValueError(f"model_type must be {' or '.join(MODELS)}, got {shown(given.get('model_type'))}")
    kind, fields = MODELS[given["model_type"]]
    settings = {**fields._field_defaults, **{name: value for name, value in given.items() if name in fields._fields}}
    for name in fields._fields:
        if name not in settings:
            raise ValueError(f"{name} is missing")
        if name == "hidden_act":
            if settings[name] not in ACTIVATIONS:
                raise ValueError(f"{name} must be one of {', '.join(ACTIVATIONS)}, got {shown(settings[name])}")
        elif name == "layer_norm_eps":
            require_number(name, settings[name], 1)
        else:
            require_integer(name, settings[name], 1, MANY if name != "vocab_size" else 2**24)
    config = fields(**settings)
    if config.hidden_size % config.num_attention_heads:
        heads = config.num_attention_heads
        raise ValueError(f"num_attention_heads must divide hidden_size {config.hidden_size}, got {heads}")
    if given.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError(f"position_embedding_type must be absolute, got {shown(given['position_embedding_type'])}")
    return kind, config


def _weights(folder, kind):
    """{name: array} of a folder, as ours: without what only other uses of the model need."""

    def ours(name):
        for prefix in kind.prefixes:
            name = name.removeprefix(prefix)
        return name

    named = read_weights(folder, WEIGHTS, lambda name: ours(name).startswith(kind.passed_over)).named
    turned = lambda array: array.T if array.ndim == 2 else array
    return {ours(name): each if name.endswith(EMBEDDINGS) else each.then(turned) for name, each in named.items()}
