"""A data set with captions, of which a run knows what an encoder makes: the texts that its model looks at.

Every caption is encoded once; labels say which of them an image has, and the null label of ``draw_batch``, beyond the
last, is that of the empty text, so a caption is dropped, and guided by, as a class is.
"""

from __future__ import annotations

import numpy as np

from tinydiff import text
from tinydiff.data import decoded
from tinydiff.model.transformer_block import Context, Texts
from tinydiff.progress import progress_bar
from tinydiff.train.checkpoint import run_folder
from tinydiff.train.folder import TEXT

RULES = 2  # raise it whenever tokens come out otherwise than before: what is kept is encoded again
AT_ONCE = 256  # texts
NULL = ""  # the text of no text


class Texted:
    """A data set as a run with texts sees it: ``of``, a ``Captioned`` or what an autoencoder ``Encoded`` of one, whose all
    else is. ``context`` holds the tokens of its class names, and last those of the empty text; ``encoder_files`` are those of
    what made them, as of an ``Encoder``."""

    def __init__(self, of, context, encoder_files=None):
        self.of, self.context, self.encoder_files = of, context, encoder_files or {}

    def __getattr__(self, name):
        return getattr(self.of, name)

    def __len__(self):
        return len(self.of)

    def texts_on(self, backend):
        """The ``Texts`` on a backend."""
        return on_backend(self.context, backend)


def on_backend(context, backend):
    """A ``Context`` of NumPy's as ``Texts`` of a backend, in its precision."""
    length = None if context.length is None else backend.asarray(context.length, np.int64)
    return Texts(backend.asarray(context.tokens, backend.activations or np.float32), length)


def encoder_of_run(path, checkpoint, backend):
    """The text encoder of a run whose ``checkpoint`` at ``path`` looks at texts, which lies in its folder; on a backend of
    precision "fp32".

    Raises ``ValueError`` where it is missing, damaged or another.
    """
    folder = run_folder(path) / TEXT
    encoder = text.load(folder, backend)
    if encoder.fingerprint != checkpoint.config.text:
        raise ValueError(f"{folder} is not the encoder of the texts that {path} looks at")
    return encoder


def encode(dataset, encoder, *, cache=True, say=print):
    """A data set with captions for its class names, and the tokens that an encoder (``tinydiff.text``) makes of them, as
    ``Texted``.

    They are encoded once: the file that keeps them is found again by the captions' digest, the encoder and what its
    backend's bits depend on. Without ``cache``, or where no file can be written, which is said, into memory.
    """
    ids, length = encoder.numbers([*dataset.class_names, NULL], say)

    def write(out):
        parts = [slice(first, first + AT_ONCE) for first in range(0, len(ids), AT_ONCE)]
        for part in progress_bar(parts, unit="batch", desc="texts: ", leave=False):
            out.write(encoder.tokens(ids[part], length[part]).tobytes())
        return (*ids.shape, encoder.width), []

    place = f"texts-{decoded.name_of(dataset.class_names)}"
    # a fingerprint is of weights and tokenizer alone
    made_by = [encoder.fingerprint, encoder.model.config, encoder.words.padding]
    key = decoded.name_of([RULES, *made_by, encoder.model.backend.identity])
    options = dict(cache=cache, without="texts are encoded into memory, as tokens cannot be kept", say=say)
    tokens = decoded.images_of(write, place, key, **options, dtype=np.float32).images
    return Texted(dataset, Context(tokens, None if encoder.model.pads_to_the_end else length), encoder.files)
