"""What a folder of Stable Diffusion has beside its U-Net, its autoencoder and its scheduler: what reads the texts.

    text_encoder/     as transformers saves CLIP's text model, or BERT
    tokenizer/        its tokenizer
    model_index.json  which class of which library reads each folder: StableDiffusionPipeline.from_pretrained(DIR)
"""

from __future__ import annotations

from tinydiff import text
from tinydiff.text.clip import Clip
from tinydiff.text.tokenizer import FILES as OF_TOKENIZER

INDEX = "model_index.json"
TEXT_ENCODER, TOKENIZER = "text_encoder", "tokenizer"
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def encoder_of(folder, width, backend):
    """The ``text.Encoder`` of a pipeline's folder, a ``Path``, on a backend of precision "fp32".

    Raises ``ValueError`` where it is missing, is one that cannot be read, or makes tokens of another width than this.
    """
    place = folder / TEXT_ENCODER
    if not place.is_dir():
        raise ValueError(f"{folder} holds no {TEXT_ENCODER}, which its U-Net looks at the texts of")
    tokenizer = folder / TOKENIZER
    encoder = text.load(place, backend, tokenizer_folder=tokenizer if tokenizer.is_dir() else None)
    if encoder.width != width:
        raise ValueError(f"{place} makes tokens of width {encoder.width}, the U-Net looks at {width}")
    return encoder


def files_of(encoder):
    """The files of an encoder in the folders of a pipeline, {name: bytes}."""
    place = lambda name: TOKENIZER if name in OF_TOKENIZER else TEXT_ENCODER
    return {f"{place(name)}/{name}": contents() for name, contents in encoder.files.items()}


def is_stable_diffusion(checkpoint, encoder):
    """Whether a model is one that diffusers' pipeline draws with: of latents, told of texts by CLIP, and of nothing else."""
    return bool(checkpoint.autoencoder and isinstance(encoder.model, Clip) and not checkpoint.config.model.positions)
