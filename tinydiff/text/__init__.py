"""Frozen encoders of text: CLIP's text model and BERT, forward only, and their tokenizers; read from a folder as Hugging
Face's transformers save it."""

from tinydiff.text.encoder import Encoder, load

__all__ = ["Encoder", "load"]
