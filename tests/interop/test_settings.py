import json

import numpy as np
import pytest

from tests.interop.folders import CONFIGS, unet_config
from tinydiff.interop import settings
from tinydiff.model.unet import UNetConfig
from tinydiff.noise import schedules


def to_unet_config(given):
    return settings.to_unet_config(settings.read(given))


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_a_configuration_there_and_back_makes_the_same_network(changes):
    config = unet_config(**changes)
    back = to_unet_config(json.loads(json.dumps(settings.from_unet_config(config))))
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
        to_unet_config(given)


def test_heads_by_their_number():
    config = unet_config(attention_levels=(0, 1), channels=(8, 16), heads=(2, 4))
    assert settings.from_unet_config(config)["attention_head_dim"] == 4
    config = unet_config(attention_levels=(0, 1), channels=(8, 16), heads=(2, 2))
    with pytest.raises(
        ValueError, match=r"heads \[2, 2\] are of several widths; UNet2DModel has one attention_head_dim"
    ):
        settings.from_unet_config(config)


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
        ({"dropout": 1}, r"dropout must be a number in \[0, 1\), got 1"),
        ({"dropout": None}, r"dropout must be a number in \[0, 1\), got null"),
        ({"norm_eps": 0}, "norm_eps must be a number above 0 and at most 1, got 0"),
        ({"num_class_embeds": 1}, r"num_class_embeds must lie in \[2, 16777216\], got 1"),
        ({"attention_head_dim": 6}, r"attention_head_dim must divide the widths with attention, \(16,\), got 6"),
        ({"attention_head_dim": 32}, r"attention_head_dim must divide the widths with attention, \(16,\), got 32"),
        ({"attention_head_dim": [8, 8]}, r"attention_head_dim must be one integer, got \[8, 8\]"),
        ({"layers_per_block": [1, 2]}, r"layers_per_block must be one integer, got \[1, 2\]"),
        ({"block_out_channels": []}, r"block_out_channels must be a list of 1 to 16 widths, got \[\]"),
        ({"down_block_types": ["DownBlock2D"]}, "down_block_types must be 2 of DownBlock2D or AttnDownBlock2D, got"),
        (
            {"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]},
            "down_block_types must be 2 of DownBlock2D or AttnDownBlock2D, got",
        ),
        (
            {"up_block_types": ["UpBlock2D", "UpBlock2D"]},
            "up_block_types must have attention where down_block_types have it",
        ),
        ({"downsample_padding": 2}, r"downsample_padding must lie in \[0, 1\], got 2"),
        ({"norm_num_groups": 5, "attn_norm_num_groups": None}, "groups must divide every width"),
    ],
)
def test_what_our_network_does_not_have_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        to_unet_config({**settings.from_unet_config(unet_config()), **changes})


@pytest.mark.parametrize("schedule", schedules.SCHEDULES)
@pytest.mark.parametrize("T", [1, 7, 50, 1000])
def test_noise_there_and_back(schedule, T):
    for prediction in settings.PREDICTIONS.values():
        given = json.loads(json.dumps(settings.from_noise(schedule, T, prediction)))
        name, steps, kind = settings.to_noise(given)
        assert (steps, kind) == (T, prediction)
        assert np.allclose(schedules.get(name, T).beta, schedules.get(schedule, T).beta, rtol=1e-5)
    # those of a short linear one are cut off at 0.999, and diffusers has none that is our flow
    own = {"linear": T < 20, "scaled_linear": T < 12, "flow": True}
    assert (given["trained_betas"] is not None) == (own.get(schedule, False) and T > 1)


def test_a_prediction_that_their_scheduler_does_not_know():
    with pytest.raises(ValueError, match="diffusers' DDIM scheduler knows the predictions eps, x0, v, not flow"):
        settings.from_noise("flow", 50, "flow")


@pytest.mark.parametrize(
    "given, message",
    [
        ({"beta_schedule": "scaled_linear"}, 'beta_schedule "scaled_linear" with beta_start 0.0001'),
        (
            {"beta_end": 0.03},
            'beta_schedule "linear" with beta_start 0.0001, beta_end 0.03 and 1000 steps is none of linear, cosine, flow,',
        ),
        (
            {"trained_betas": [0.1] * 1000},
            "trained_betas are those of none of linear, cosine, flow, scaled_linear with 1000 steps",
        ),
        ({"prediction_type": "flow"}, 'prediction_type must be "epsilon" or "sample" or "v_prediction", got "flow"'),
        ({"clip_sample": "no"}, 'clip_sample must be true or false, got "no"'),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr must be false, got true"),
        ({"num_train_timesteps": 0}, r"num_train_timesteps must lie in \[1, 1000000\], got 0"),
    ],
)
def test_noise_that_we_do_not_have_is_refused_by_name(given, message):
    with pytest.raises(ValueError, match=message):
        settings.to_noise(given)


# what JSON can hold in the place of anything else; NaN and Infinity are Python's own
VALUES = [None, True, "many", "8", [], ["8"], [[8]], {}, {"8": 8}, -1, 0, 0.5, 1e400, float("nan"), -(10**30), 10**400]


@pytest.mark.parametrize("name", [*settings.UNET_DEFAULTS, *settings.PASSED_OVER, "_class_name", "more"])
def test_any_value_of_a_setting_is_read_or_refused_by_the_name_of_the_setting(name):
    for value in VALUES:
        given = {**settings.from_unet_config(unet_config()), name: value}
        try:
            to_unet_config(given)
        except ValueError as error:
            assert name in str(error) and len(str(error)) < 500, (value, error)


@pytest.mark.parametrize("name", settings.SCHEDULER_DEFAULTS)
def test_any_value_of_a_scheduler_is_read_or_refused_by_the_name_of_the_setting(name):
    for value in [*VALUES, ["0.1"] * 1000, [None], "x" * 10**6]:
        try:
            settings.to_noise({name: value})
        except ValueError as error:
            assert name in str(error) and len(str(error)) < 500, (value, error)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sample_size": 10**9}, r"sample_size must lie in \[1, 65536\], got 1000000000"),
        ({"layers_per_block": 10**9}, r"layers_per_block must lie in \[1, 1000\], got 1000000000"),
        ({"block_out_channels": [8, -16]}, r"each of block_out_channels must lie in \[1, 65536\], got -16"),
        ({"block_out_channels": [8] * 10**5}, "block_out_channels must be a list of 1 to 16 widths, got .*[.][.][.]$"),
        ({"num_class_embeds": 10**12}, r"num_class_embeds must lie in \[2, 16777216\]"),
    ],
)
def test_absurd_numbers_are_refused_before_anything_is_built(changes, message):
    with pytest.raises(ValueError, match=message):
        settings.read({**settings.from_unet_config(unet_config()), **changes})


def test_what_only_training_or_an_average_has_is_passed_over():
    given = settings.from_unet_config(unet_config())
    assert settings.passed_over(given) == []
    average = {"decay": 0.9999, "power": 0.75, "use_ema_warmup": False, "collected_params": None}
    assert to_unet_config(given | average) == to_unet_config(given)
    assert settings.passed_over(given | average) == [
        "decay 0.9999",
        "use_ema_warmup false",
        "power 0.75",
    ]


def test_dropout_is_that_of_training():
    given = settings.from_unet_config(unet_config(dropout=0.1))
    assert given["dropout"] == 0.1 and to_unet_config(given).dropout == 0.1
    assert to_unet_config({name: value for name, value in given.items() if name != "dropout"}).dropout == 0.0
