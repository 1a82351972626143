"""From texts to the numbers of their tokens, by the library ``tokenizers``.

tokenizer.json               all there is to know
vocab.json and merges.txt    of CLIP, whose rules are then made as transformers' ``CLIPTokenizer`` has them
tokenizer_config.json        what padding is; also in special_tokens_map.json
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinydiff.given import naming, read_json

FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
START, END = "<|startoftext|>", "<|endoftext|>"  # of CLIP
# of CLIP: its special tokens, English endings, words, single digits, all else
PIECES = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
NOTHING = "a folder with a tokenizer"


class Tokenizer(NamedTuple):
    """A tokenizer of the library, and the number of the token that padding is made of."""

    library: Any
    padding: int

    def ids(self, texts, most):
        """The numbers of each text's tokens, with those that begin and end it, at most ``most``; and how many texts were
        cut to that. A text that is cut keeps its end."""
        whole = [len(each.ids) for each in self.library.encode_batch(texts)]
        self.library.enable_truncation(most)
        cut = [each.ids for each in self.library.encode_batch(texts)]
        self.library.no_truncation()
        return cut, sum(length > most for length in whole)


def load(folder):
    """The ``Tokenizer`` of a folder, a ``Path``.

    Raises ``ValueError`` for a folder without one, for files that are damaged, where padding is not known, and where the
    library is not installed.
    """
    try:
        import tokenizers
    except ImportError:
        raise ValueError("a text needs the library tokenizers: pip install 'tinydiff[text]'") from None
    if (path := folder / "tokenizer.json").is_file():
        try:
            library = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library's own kind, which has no name
            raise ValueError(f"{path} is no tokenizer: {error}") from None
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        library = _clip(tokenizers, folder)
    else:
        raise ValueError(f"{folder} has no tokenizer: neither tokenizer.json nor vocab.json and merges.txt")
    library.no_padding()
    library.no_truncation()
    return Tokenizer(library, _padding(folder, library))


def _clip(tokenizers, folder):
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = read_json(folder / "vocab.json", NOTHING)
    with naming(folder / "vocab.json"):
        for token in (START, END):
            if token not in vocabulary:
                raise ValueError(f"there is no {token}, so it is not CLIP's")
    try:
        lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
        end_of_word = dict(continuing_subword_prefix="", end_of_word_suffix="</w>")
        library = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token=END, fuse_unk=False, **end_of_word))
    except Exception as error:
        raise ValueError(f"{folder / 'merges.txt'} does not fit vocab.json: {error}") from None
    spaces = normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    library.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    split = pre_tokenizers.Split(tokenizers.Regex(PIECES), behavior="removed", invert=True)
    library.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    library.decoder = decoders.ByteLevel()
    start, end = ((token, vocabulary[token]) for token in (START, END))
    library.post_processor = processors.RobertaProcessing(end, start, trim_offsets=False, add_prefix_space=False)
    library.add_special_tokens([START, END])
    return library


def _padding(folder, library):
    """The number of the token that padding is made of, by the files beside the tokenizer."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if not (path := folder / name).is_file():
            continue
        token = read_json(path).get("pad_token")
        token = token.get("content") if isinstance(token, dict) else token
        if token is None:
            continue
        number = library.token_to_id(token) if isinstance(token, str) else None
        if number is None:
            raise ValueError(f"{path}: pad_token {token!r} is no token of the tokenizer")
        return number
    for token in (END, "[PAD]"):  # as transformers have it where no file says
        if (number := library.token_to_id(token)) is not None:
            return number
    raise ValueError(f"{folder}: nothing says which token is padding: tokenizer_config.json has no pad_token")
