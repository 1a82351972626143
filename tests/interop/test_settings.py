import json

import numpy as np
import pytest

from tests.interop.folders import CONFIGS, unet_config
from tinydiff.interop import settings
from tinydiff.model.unet import UNetConfig
from tinydiff.noise import predictions, schedules


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_there_and_back_makes_the_same_network(changes):
    config = unet_config(**changes)
    back = settings.to_unet_config(json.loads(json.dumps(settings.from_unet_config(config))))
    levels = range(len(config.channels))
    assert [back.has_attention(level) for level in levels] == [config.has_attention(level) for level in levels]
    for width in settings.attention_widths(config):
        assert min(back.head_width, width) == min(config.head_width, width)
    for field in (
        "size",
        "image_channels",
        "channels",
        "blocks",
        "classes",
        "groups",
        "eps",
        "film",
        "downsample_padding",
    ):
        assert getattr(back, field) == getattr(config, field)


def test_the_reference_configuration():
    given = settings.from_unet_config(UNetConfig())
    assert given["down_block_types"] == ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D"]
    assert given["up_block_types"] == ["AttnUpBlock2D", "UpBlock2D", "UpBlock2D"]
    assert (given["num_class_embeds"], given["attention_head_dim"]) == (11, 64)


def test_positions_are_more_channels_in_and_only_the_image_out():
    given = settings.from_unet_config(unet_config(positions=2))
    assert (given["in_channels"], given["out_channels"]) == (9, 1)
    with pytest.raises(ValueError, match="out_channels must be 9, got 1"):  # from anybody else: what are they?
        settings.to_unet_config(given)


def test_heads_that_diffusers_cannot_express():
    config = unet_config(attention_levels=(0, 1), head_width=12, channels=(8, 24))
    with pytest.raises(
        ValueError, match=r"head_width 12 makes one head .* levels with attention, \(8, 24\), and several"
    ):
        settings.from_unet_config(config)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"_class_name": "UNet2DConditionModel"}, '_class_name must be UNet2DModel, got "UNet2DConditionModel"'),
        ({"cross_attention_dim": 768}, "cross_attention_dim 768: this setting is not known"),
        ({"sample_size": None}, "sample_size must be one integer, got null"),
        ({"sample_size": [8, 16]}, r"sample_size must be one integer, got \[8, 16\]"),
        ({"out_channels": 2}, "out_channels must be 1, got 2"),
        ({"center_input_sample": True}, "center_input_sample must be false, got true"),
        ({"time_embedding_type": "fourier"}, 'time_embedding_type must be "positional", got "fourier"'),
        ({"time_embedding_dim": 33}, "time_embedding_dim must be null or 32, got 33"),
        ({"freq_shift": 1}, "freq_shift must be 0, got 1"),
        ({"mid_block_type": None}, 'mid_block_type must be "UNetMidBlock2D", got null'),
        ({"mid_block_scale_factor": 1.5}, "mid_block_scale_factor must be 1, got 1.5"),
        ({"downsample_type": "resnet"}, 'downsample_type must be "conv", got "resnet"'),
        ({"upsample_type": "resnet"}, 'upsample_type must be "conv", got "resnet"'),
        ({"act_fn": "gelu"}, 'act_fn must be "silu" or "swish", got "gelu"'),
        ({"add_attention": False}, "add_attention must be true, got false"),
        ({"class_embed_type": "timestep"}, 'class_embed_type must be null, got "timestep"'),
        (
            {"resnet_time_scale_shift": "spatial"},
            'resnet_time_scale_shift must be "default" or "scale_shift", got "spatial"',
        ),
        (
            {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": None},
            "attn_norm_num_groups must be 4, got null",
        ),
        ({"attn_norm_num_groups": 2}, "attn_norm_num_groups must be null or 4, got 2"),
        ({"norm_num_groups": None}, "norm_num_groups must be one integer, got null"),
        ({"norm_eps": 0}, "norm_eps must be a positive number, got 0"),
        ({"num_class_embeds": 1}, "num_class_embeds must be null or at least 2, got 1"),
        ({"attention_head_dim": 6}, r"attention_head_dim must divide the widths with attention, \(16,\), got 6"),
        ({"attention_head_dim": 32}, r"attention_head_dim must divide the widths with attention, \(16,\), got 32"),
        ({"attention_head_dim": [8, 8]}, r"attention_head_dim must be null or a positive integer, got \[8, 8\]"),
        ({"layers_per_block": [1, 2]}, r"layers_per_block must be one integer, got \[1, 2\]"),
        ({"block_out_channels": []}, r"block_out_channels must be a list of widths, got \[\]"),
        ({"down_block_types": ["DownBlock2D"]}, "down_block_types must be 2 of DownBlock2D or AttnDownBlock2D, got"),
        (
            {"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]},
            "down_block_types must be 2 of DownBlock2D or AttnDownBlock2D, got",
        ),
        (
            {"up_block_types": ["UpBlock2D", "UpBlock2D"]},
            "up_block_types must have attention where down_block_types have it",
        ),
        ({"downsample_padding": 2}, "not a U-Net of this project: downsample_padding must be 0 or 1, got 2"),
        ({"norm_num_groups": 5, "attn_norm_num_groups": None}, "groups must divide every width"),
    ],
)
def test_what_our_network_does_not_have_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        settings.to_unet_config({**settings.from_unet_config(unet_config()), **changes})


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
@pytest.mark.parametrize("T", [1, 7, 50, 1000])
def test_noise_there_and_back(schedule, T):
    for prediction in predictions.KINDS:
        given = json.loads(json.dumps(settings.from_noise(schedule, T, prediction)))
        name, steps, kind = settings.to_noise(given)
        assert (steps, kind) == (T, prediction)
        assert np.allclose(schedules.get(name, T).beta, schedules.get(schedule, T).beta, rtol=1e-5)
    assert (given["trained_betas"] is not None) == (schedule == "linear" and 1 < T < 20)  # cut off at 0.999


@pytest.mark.parametrize(
    "given, message",
    [
        ({"beta_schedule": "scaled_linear"}, 'beta_schedule "scaled_linear" with beta_start 0.0001'),
        (
            {"beta_end": 0.03},
            'beta_schedule "linear" with beta_start 0.0001, beta_end 0.03 and 1000 steps is none of linear, cosine',
        ),
        ({"trained_betas": [0.1] * 1000}, "trained_betas are those of none of linear, cosine with 1000 steps"),
        ({"prediction_type": "flow"}, 'prediction_type must be "epsilon" or "sample" or "v_prediction", got "flow"'),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr must be false, got true"),
        ({"num_train_timesteps": 0}, "num_train_timesteps must be a positive integer, got 0"),
    ],
)
def test_noise_that_we_do_not_have_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        settings.to_noise(given)
