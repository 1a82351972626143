"""Pipelines as diffusers makes them, of Stable Diffusion's architecture with narrow layers and random weights."""

import diffusers
import torch
import transformers

from tests.text.folders import write_clip

PLACES = 16  # tokens of a text
CROSS_DOWN, CROSS_UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
# the settings in which the versions differ: heads by number, projections that are convolutions, eps; heads as wide
# everywhere, linear projections, v; and what neither has, heads of other numbers and other widths
VERSIONS = {
    "1.x": dict(attention_head_dim=2, use_linear_projection=False, act="quick_gelu", predicts="epsilon", pad=None),
    "2.x": dict(
        attention_head_dim=(2, 4, 4, 4),
        use_linear_projection=True,
        upcast_attention=True,
        act="gelu",
        predicts="v_prediction",
        pad="!",
    ),
    "neither": dict(
        attention_head_dim=(1, 4, 2, 8), use_linear_projection=True, act="gelu", predicts="epsilon", pad=None
    ),
}


def randomised(module):
    """A module, none of whose parameters begin as they would: some are 0 or all the same."""
    for each in module.parameters():
        if each.dim() > 1:
            torch.nn.init.normal_(each, std=each[0].numel() ** -0.5)
        else:
            each.data += 0.1 * torch.randn_like(each)
    return module.eval()


def made(folder, version, seed=0, **changes):
    """A ``StableDiffusionPipeline`` of one of ``VERSIONS``, on float32; its tokenizer is made in ``folder``."""
    torch.manual_seed(seed)
    settings = {**VERSIONS[version], **changes}
    act, predicts, pad = (settings.pop(name) for name in ("act", "predicts", "pad"))
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        down_block_types=(CROSS_DOWN, CROSS_DOWN, CROSS_DOWN, "DownBlock2D"),
        up_block_types=("UpBlock2D", CROSS_UP, CROSS_UP, CROSS_UP),
        norm_num_groups=4,
        cross_attention_dim=8,
        **settings,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=4,
        sample_size=512,  # of other images than the U-Net's, as in Stable Diffusion 2.1
    )
    write_clip(folder / "words", places=PLACES)
    for name in ("tokenizer_config.json", "model.safetensors", "config.json"):
        (folder / "words" / name).unlink()
    words = transformers.CLIPTokenizer.from_pretrained(folder / "words")
    words.model_max_length = PLACES
    if pad:
        words.pad_token = pad
    text = transformers.CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=PLACES,
        hidden_act=act,
        eos_token_id=words.eos_token_id,
    )
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        prediction_type=predicts,
    )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=randomised(vae),
        text_encoder=randomised(transformers.CLIPTextModel(text)),
        tokenizer=words,
        unet=randomised(unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
