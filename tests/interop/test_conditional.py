"""The settings of the U-Net of Stable Diffusion, and ours."""

import json

import pytest

from tests.interop.folders import unet_config
from tinydiff.interop import conditional
from tinydiff.model.unet import UNetConfig

# what config.json of Stable Diffusion 1.5 and 2.1 says; the rest it leaves out
DOWN = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
UP = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
OF_BOTH = {"_class_name": "UNet2DConditionModel", "act_fn": "silu", "block_out_channels": [320, 640, 1280, 1280]}
OF_BOTH |= {"down_block_types": DOWN, "up_block_types": UP, "flip_sin_to_cos": True, "freq_shift": 0}
OF_BOTH |= {"in_channels": 4, "out_channels": 4, "layers_per_block": 2, "norm_eps": 1e-05, "norm_num_groups": 32}
OF_BOTH |= {"center_input_sample": False, "downsample_padding": 1, "mid_block_scale_factor": 1}
VERSION_1 = OF_BOTH | {
    "_diffusers_version": "0.6.0",
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
    "sample_size": 64,
}
VERSION_2 = OF_BOTH | {"_diffusers_version": "0.10.0.dev0", "attention_head_dim": [5, 10, 20, 20]}
VERSION_2 |= {
    "cross_attention_dim": 1024,
    "sample_size": 96,
    "dual_cross_attention": False,
    "use_linear_projection": True,
}
VERSION_2 |= {"only_cross_attention": False, "num_class_embeds": None, "upcast_attention": True}


def to_unet_config(given):
    return conditional.to_unet_config(conditional.read(given))


def test_versions_1_and_2():
    common = dict(image_channels=4, channels=(320, 640, 1280, 1280), attention_levels=(0, 1, 2), classes=0)
    assert to_unet_config(VERSION_1) == UNetConfig(size=64, context_width=768, heads=(8, 8, 8, 8), **common)
    assert to_unet_config(VERSION_2) == UNetConfig(size=96, context_width=1024, head_width=64, **common)
    assert conditional.passed_over(VERSION_1) == [] and conditional.passed_over(VERSION_2) == ["upcast_attention true"]


@pytest.mark.parametrize("given", [VERSION_1, VERSION_2], ids=["1.x", "2.x"])
def test_there_and_back(given):
    config = to_unet_config(given)
    assert to_unet_config(json.loads(json.dumps(conditional.from_unet_config(config)))) == config


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"addition_embed_type": "text_time"}, 'addition_embed_type must be null, got "text_time"'),  # of SDXL
        ({"addition_time_embed_dim": 256}, "addition_time_embed_dim must be null, got 256"),
        ({"transformer_layers_per_block": [1, 2, 10, 10]}, r"must be the same at all levels, got \[1, 2, 10, 10\]"),
        ({"transformer_layers_per_block": 0}, "transformer_layers_per_block must lie in"),
        ({"only_cross_attention": True}, "only_cross_attention must be false, got true"),
        ({"dual_cross_attention": True}, "dual_cross_attention must be false, got true"),
        ({"class_embed_type": "projection"}, 'class_embed_type must be null, got "projection"'),
        ({"num_class_embeds": 1000}, "num_class_embeds must be null, got 1000"),  # of the upscaler
        ({"time_cond_proj_dim": 256}, "time_cond_proj_dim must be null, got 256"),  # of a distilled one
        ({"in_channels": 9}, "out_channels must be 9, got 4"),  # of inpainting
        ({"encoder_hid_dim": 64}, "encoder_hid_dim must be null, got 64"),
        ({"conv_in_kernel": 5}, "conv_in_kernel must be 3, got 5"),
        ({"num_attention_heads": 8}, "num_attention_heads must be null, got 8"),
        ({"attention_head_dim": [5, 10]}, r"attention_head_dim must be one integer, or 4, got \[5, 10\]"),
        ({"attention_head_dim": 7}, "attention_head_dim, the number of heads, must divide"),
        ({"attention_head_dim": None}, "attention_head_dim must be one integer, got null"),
        ({"cross_attention_dim": [768, 768]}, r"cross_attention_dim must be one integer, got \[768, 768\]"),
        ({"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}, 'mid_block_type must be "UNetMidBlock2DCrossAttn", got'),
        ({"down_block_types": ["AttnDownBlock2D", *DOWN[1:]]}, "must be 4 of DownBlock2D or CrossAttnDownBlock2D, got"),
        ({"up_block_types": UP[::-1]}, "up_block_types must have attention where down_block_types have it"),
        ({"resnet_time_scale_shift": "ada_group"}, 'resnet_time_scale_shift must be "default" or "scale_shift", got'),
        ({"time_embedding_dim": 64}, "time_embedding_dim must be null or 1280, got 64"),
        ({"freq_shift": 1}, "freq_shift must be 0, got 1"),
        ({"more": 1}, "more 1: this setting is not known"),
    ],
)
def test_what_our_network_does_not_have_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        to_unet_config({**VERSION_1, **changes})


def test_classes_beside_texts_cannot_be_expressed():
    with pytest.raises(ValueError, match="classes must be 0 beside texts for diffusers' UNet2DConditionModel, got 2"):
        conditional.from_unet_config(unet_config(context_width=8))


# what JSON can hold in the place of anything else; NaN and Infinity are Python's own
VALUES = [None, True, "many", "8", [], ["8"], [[8]], {}, {"8": 8}, -1, 0, 0.5, 1e400, float("nan"), -(10**30), 10**400]


@pytest.mark.parametrize("name", [*conditional.DEFAULTS, "_class_name", "more"])
def test_any_value_of_a_setting_is_read_or_refused_by_the_name_of_the_setting(name):
    for value in VALUES:
        try:
            to_unet_config({**VERSION_1, name: value})
        except ValueError as error:
            assert name in str(error) and len(str(error)) < 500, (value, error)
