"""diffusers' settings and ours: ``config.json`` of a ``UNet2DModel``, ``scheduler_config.json`` of its scheduler.

Every setting of theirs is either translated, or must have the value under which their network computes what ours does,
or is passed over because it only tells how the parameters came about. Anything else is refused by the name of the
setting and its value.

    theirs                          ours
    sample_size                     size
    in_channels, out_channels       image_channels; with positions their waves are in_channels - out_channels more
    block_out_channels              channels
    layers_per_block                blocks
    down_block_types, up_...        attention_levels (the same on the way down and up)
    attention_head_dim              head_width; null is one head of the full width at every level
    num_class_embeds                classes + 1, the last row for "no class"
    norm_num_groups, norm_eps       groups, eps
    resnet_time_scale_shift         film: "scale_shift" or "default"
    downsample_padding              downsample_padding (0 is one row and column after, in both)
    dropout                         dropout, which neither has but in training
    flip_sin_to_cos                 the order of rows of time_embedding.linear_1, see ``weights``
"""

from __future__ import annotations

import numpy as np

from tinydiff.given import (
    MANY,
    one_size,
    public,
    require,
    require_integer,
    require_number,
    require_widths,
    shown,
)
from tinydiff.model.unet import UNetConfig
from tinydiff.noise import schedules

# diffusers 0.42: what a setting is where config.json leaves it out
UNET_DEFAULTS = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,
}
# settings that must have one of these values
UNET_REQUIRED = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (0,),
    "flip_sin_to_cos": (True, False),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_type": ("conv",),
    "upsample_type": ("conv",),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "add_attention": (True,),
    "class_embed_type": (None,),
}
# settings that are one integer, and its range
INTEGERS = {
    "sample_size": (1, MANY),
    "in_channels": (1, MANY),
    "out_channels": (1, MANY),
    "layers_per_block": (1, 1000),
    "norm_num_groups": (1, MANY),
    "downsample_padding": (0, 1),
}
MOST_ROWS = 2**24
# settings of how the parameters came about, which are not part of the network: an average's (EMAModel, and its older
# versions) and those of training itself
PASSED_OVER = (
    "decay",
    "min_decay",
    "optimization_step",
    "update_after_step",
    "use_ema_warmup",
    "inv_gamma",
    "power",
    "collected_params",
    "num_train_timesteps",  # read by a learned time embedding alone
)

SCHEDULER_DEFAULTS = {
    "num_train_timesteps": 1000,
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
    "thresholding": False,
    "clip_sample": True,
}
SCHEDULER_REQUIRED = {"rescale_betas_zero_snr": (False,), "thresholding": (False,), "clip_sample": (True, False)}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
BETA_SCHEDULES = {"cosine": "squaredcos_cap_v2", "scaled_linear": "scaled_linear"}
SAME_BETA = 1e-5  # relative: their tables are float32
MOST_STEPS = 10**6


def from_unet_config(config):
    """The ``config.json`` of a ``UNetConfig``, as a dict.

    Raises ``ValueError`` where heads have the full width at one level and ``head_width`` at another, or as many widths as
    levels.
    """
    widths = attention_widths(config)
    if config.heads:
        head_width, *others = {config.head_width_at(level) for level in attention_levels(config)}
        if others:
            raise ValueError(f"heads {list(config.heads)} are of several widths; UNet2DModel has one attention_head_dim")
    elif min(widths) >= config.head_width:
        head_width = config.head_width
    elif max(widths) <= config.head_width:
        head_width = None
    else:
        raise ValueError(
            f"head_width {config.head_width} makes one head of the full width at some of the levels with attention, "
            f"{widths}, and several at others; diffusers has one attention_head_dim for all"
        )
    return {
        "_class_name": "UNet2DModel",
        **UNET_DEFAULTS,
        "sample_size": config.size,
        "in_channels": config.image_channels + 4 * config.positions,
        "out_channels": config.image_channels,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        **block_types(config, "Attn"),
        "attention_head_dim": head_width,
        "num_class_embeds": config.classes + 1 if config.classes else None,
        "norm_num_groups": config.groups,
        "attn_norm_num_groups": config.groups,  # null would leave the middle without its norm under scale_shift
        "norm_eps": config.eps,
        "resnet_time_scale_shift": "scale_shift" if config.film else "default",
        "downsample_padding": config.downsample_padding,
        "dropout": config.dropout,
    }


def read(given):
    """All settings of a ``config.json`` given as a dict, {name: value}, with their defaults where it leaves them out.

    Raises ``ValueError`` naming the first setting that is not known, not of its type, or absurd, and its value.
    """
    found = public(given, "UNet2DModel", {*UNET_DEFAULTS, *PASSED_OVER})
    settings = {**UNET_DEFAULTS, **{name: value for name, value in found.items() if name not in PASSED_OVER}}
    settings["sample_size"] = one_size(settings)
    require(settings, UNET_REQUIRED)
    require_sizes(settings)
    if settings["attention_head_dim"] is not None:
        require_integer("attention_head_dim", settings["attention_head_dim"], 1, MANY)
    if settings["num_class_embeds"] is not None:
        require_integer("num_class_embeds", settings["num_class_embeds"], 2, MOST_ROWS)
    return settings


def require_sizes(settings):
    """Raise ``ValueError`` unless the numbers that both kinds of U-Net have are of their types and in their ranges."""
    for name, (low, high) in INTEGERS.items():
        require_integer(name, settings[name], low, high)
    require_widths(settings["block_out_channels"])
    require_number("norm_eps", settings["norm_eps"], 1)
    dropout = settings["dropout"]
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a number in [0, 1), got {shown(dropout)}")


def passed_over(given, names=PASSED_OVER, defaults=UNET_DEFAULTS):
    """Which settings of a ``config.json`` tell only how the parameters came about, "name value" each."""
    found = {name: given[name] for name in names if name in given}
    return [f"{name} {shown(value)}" for name, value in found.items() if value not in (None, defaults.get(name))]


def to_unet_config(settings, *, null_label="last"):
    """The ``UNetConfig`` of a ``config.json`` that was ``read``.

    null_label  "last": the last row of the class embedding stands for "no class". "none": every row is a class

    Raises ``ValueError`` naming the first setting that our U-Net does not have, and its value.
    """
    channels, head_width = settings["block_out_channels"], settings["attention_head_dim"]
    groups, film = settings["norm_num_groups"], settings["resnet_time_scale_shift"] == "scale_shift"
    allowed = {
        "out_channels": (settings["in_channels"],),
        "time_embedding_dim": (None, 4 * channels[0]),
        "attn_norm_num_groups": (groups,) if film else (None, groups),
    }
    require(settings, allowed)
    rows = settings["num_class_embeds"]
    try:
        config = UNetConfig(
            size=settings["sample_size"],
            image_channels=settings["in_channels"],
            channels=channels,
            blocks=settings["layers_per_block"],
            attention_levels=levels_with_attention(settings, "Attn"),
            head_width=max(channels) if head_width is None else head_width,
            classes=0 if rows is None else rows - (null_label == "last"),
            groups=groups,
            eps=settings["norm_eps"],
            film=film,
            downsample_padding=settings["downsample_padding"],
            dropout=settings["dropout"],
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a U-Net of this project: {error}") from None
    if head_width is not None and any(width % head_width for width in attention_widths(config)):
        widths = attention_widths(config)
        raise ValueError(f"attention_head_dim must divide the widths with attention, {widths}, got {head_width}")
    return config


def attention_widths(config):
    """The widths of a U-Net at which there is attention, the middle among them."""
    return tuple(sorted({config.channels[level] for level in attention_levels(config)}))


def attention_levels(config):
    """The levels of a U-Net, from 0 on, at which there is attention; the last always, as the middle is as wide."""
    levels = range(len(config.channels))
    return [level for level in levels if config.has_attention(level) or level == levels[-1]]


def from_noise(schedule, T, prediction):
    """The ``scheduler_config.json`` of a schedule by name, as a dict: a DDIM scheduler that steps as ours does.

    Raises ``ValueError`` for a prediction that it does not know.
    """
    ours_to_theirs = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    if prediction not in ours_to_theirs:
        raise ValueError(f"diffusers' DDIM scheduler knows the predictions {', '.join(ours_to_theirs)}, not {prediction}")
    beta = schedules.get(schedule, T).beta
    settings = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": T,
        "beta_schedule": BETA_SCHEDULES.get(schedule, "linear"),
        "beta_start": float(beta[0]),
        "beta_end": float(beta[-1]),
        "trained_betas": None,
        "prediction_type": ours_to_theirs[prediction],
        "clip_sample": True,
        "clip_sample_range": 1.0,
        "set_alpha_to_one": True,
        "steps_offset": 0,
        "timestep_spacing": "trailing",
        "thresholding": False,
        "rescale_betas_zero_snr": False,
    }
    if not np.allclose(_betas(settings), beta, rtol=SAME_BETA, atol=0):  # a short linear schedule, cut off at its end
        settings["trained_betas"] = beta.tolist()
    return settings


def to_noise(given):
    """The schedule's name, T and the prediction of a ``scheduler_config.json`` given as a dict.

    Raises ``ValueError`` naming the setting that makes it another schedule than those there are, and its value.
    """
    settings = {**SCHEDULER_DEFAULTS, **given}
    require(settings, SCHEDULER_REQUIRED | {"prediction_type": tuple(PREDICTIONS)})
    T, trained = settings["num_train_timesteps"], settings["trained_betas"]
    require_integer("num_train_timesteps", T, 1, MOST_STEPS)
    if trained is not None and not isinstance(trained, list):
        raise ValueError(f"trained_betas must be null or a list of numbers, got {shown(trained)}")
    for beta in trained or ():
        require_number("each of trained_betas", beta, 1)
    if trained is None and settings["beta_schedule"] in ("linear", "scaled_linear"):
        for name in ("beta_start", "beta_end"):
            require_number(name, settings[name], 1)
    beta = _betas(settings)
    for name in schedules.SCHEDULES:
        ours = schedules.get(name, T).beta
        if beta.shape == ours.shape and np.allclose(beta, ours, rtol=SAME_BETA, atol=0):
            return name, T, PREDICTIONS[settings["prediction_type"]]
    if settings["trained_betas"] is not None:
        raise ValueError(f"trained_betas are those of none of {', '.join(schedules.SCHEDULES)} with {T} steps")
    ends = f"beta_start {shown(settings['beta_start'])}, beta_end {shown(settings['beta_end'])}"
    raise ValueError(
        f"beta_schedule {shown(settings['beta_schedule'])} with {ends} and {T} steps is none of "
        f"{', '.join(schedules.SCHEDULES)}"
    )


def _betas(settings):
    """The betas that diffusers' schedulers make of their settings, in float64; none for a schedule we do not have."""
    T = settings["num_train_timesteps"]
    if settings["trained_betas"] is not None:
        return np.asarray(settings["trained_betas"], np.float64)
    if settings["beta_schedule"] == "linear":
        return np.linspace(settings["beta_start"], settings["beta_end"], T)
    if settings["beta_schedule"] == "scaled_linear":
        return np.linspace(settings["beta_start"] ** 0.5, settings["beta_end"] ** 0.5, T) ** 2
    if settings["beta_schedule"] == "squaredcos_cap_v2":
        return schedules.cosine(T).beta  # the same formula
    return np.empty(0)


def levels_with_attention(settings, prefix):
    """The levels with attention, from the types of the blocks, which have this prefix there."""
    levels = len(settings["block_out_channels"])
    found = {}
    for way, name in (("Down", "down_block_types"), ("Up", "up_block_types")):
        types, plain = settings[name], block_type(way)
        allowed = {f"{old}{each}": each != plain for each in (plain, block_type(way, prefix)) for old in ("", "UNetRes")}
        known = isinstance(types, list) and all(isinstance(each, str) and each in allowed for each in types)
        if not known or len(types) != levels:
            raise ValueError(f"{name} must be {levels} of {plain} or {block_type(way, prefix)}, got {shown(types)}")
        found[way] = [allowed[each] for each in types]
    if found["Down"] != found["Up"][::-1]:
        raise ValueError(
            f"up_block_types must have attention where down_block_types have it, got {shown(settings['up_block_types'])}"
        )
    return tuple(level for level, has in enumerate(found["Down"]) if has)


def block_type(way, prefix=""):
    """diffusers' name of the blocks of a level on the way "Down" or "Up"; the prefix is that of attention."""
    return f"{prefix}{way}Block2D"


def block_types(config, prefix):
    """{setting: value} of the types of the blocks of a ``UNetConfig``."""
    prefixes = [prefix if config.has_attention(level) else "" for level in range(len(config.channels))]
    return {
        "down_block_types": [block_type("Down", each) for each in prefixes],
        "up_block_types": [block_type("Up", each) for each in reversed(prefixes)],
    }
