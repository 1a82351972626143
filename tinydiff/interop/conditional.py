"""``config.json`` of a ``UNet2DConditionModel``, the U-Net of Stable Diffusion, and ours that looks at a text.

Beside what it shares with a ``UNet2DModel`` (``settings``):

    theirs                          ours
    cross_attention_dim             context_width
    down_block_types, up_...        attention_levels: those of CrossAttnDownBlock2D and CrossAttnUpBlock2D
    attention_head_dim              heads, or head_width where that is the same at all levels with attention. In spite of
                                    its name it is how many heads there are, at every level or one number each: in Stable
                                    Diffusion 1.x 8, in 2.x [5, 10, 20, 20], which makes all of them 64 wide
    transformer_layers_per_block    transformer_depth
    use_linear_projection           nothing: a 1x1 convolution is a linear layer on pixels, and ``weights`` reads both

Every other setting must have the value under which their network computes what ours does, or is refused by its name
and value; ``upcast_attention``, about half precision, is passed over.
"""

from __future__ import annotations

from tinydiff.given import MANY, one_size, public, require, require_integer, shown
from tinydiff.interop import settings as unconditional
from tinydiff.interop.settings import attention_levels, block_types, levels_with_attention, require_sizes
from tinydiff.model.unet import UNetConfig

CLASS = "UNet2DConditionModel"
ATTENTION = "CrossAttn"  # what the types of blocks with attention begin with
DOWN, UP = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
# diffusers 0.42: what a setting is where config.json leaves it out
DEFAULTS = {
    "sample_size": None,
    "in_channels": 4,
    "out_channels": 4,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "down_block_types": [DOWN, DOWN, DOWN, "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ["UpBlock2D", UP, UP, UP],
    "only_cross_attention": False,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "dropout": 0.0,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "cross_attention_dim": 1280,
    "transformer_layers_per_block": 1,
    "reverse_transformer_layers_per_block": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "attention_head_dim": 8,
    "num_attention_heads": None,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "addition_time_embed_dim": None,
    "num_class_embeds": None,
    "upcast_attention": False,
    "resnet_time_scale_shift": "default",
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "projection_class_embeddings_input_dim": None,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
    "addition_embed_type_num_heads": 64,
}
# settings that say something of ours, or nothing; the others must be as above, or null
READ = (
    "sample_size",
    "in_channels",
    "out_channels",
    "flip_sin_to_cos",
    "down_block_types",
    "up_block_types",
    "block_out_channels",
    "layers_per_block",
    "downsample_padding",
    "dropout",
    "act_fn",
    "norm_num_groups",
    "norm_eps",
    "cross_attention_dim",
    "transformer_layers_per_block",
    "attention_head_dim",
    "use_linear_projection",
    "upcast_attention",
    "resnet_time_scale_shift",
    "time_embedding_dim",
    "addition_embed_type_num_heads",  # of nothing, where there is no addition_embed_type
)
REQUIRED = {
    **{name: (value,) for name, value in DEFAULTS.items() if name not in READ},
    "flip_sin_to_cos": (True, False),
    "act_fn": ("silu", "swish"),
    "use_linear_projection": (True, False),
    "upcast_attention": (True, False, None),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "mid_block_only_cross_attention": (None, False),
}
MOST_DEEP = 100


def from_unet_config(config):
    """The ``config.json`` of a ``UNetConfig`` with a ``context_width``, as a dict.

    Raises ``ValueError`` for one that has classes too.
    """
    if config.classes:
        raise ValueError(f"classes must be 0 beside texts for diffusers' {CLASS}, got {config.classes}")
    heads = [width // config.head_width_at(level) for level, width in enumerate(config.channels)]
    return {
        "_class_name": CLASS,
        **DEFAULTS,
        "sample_size": config.size,
        "in_channels": config.image_channels + 4 * config.positions,
        "out_channels": config.image_channels,
        "block_out_channels": list(config.channels),
        "layers_per_block": config.blocks,
        **block_types(config, ATTENTION),
        "cross_attention_dim": config.context_width,
        "attention_head_dim": heads,
        "transformer_layers_per_block": config.transformer_depth,
        "use_linear_projection": True,
        "norm_num_groups": config.groups,
        "norm_eps": config.eps,
        "resnet_time_scale_shift": "scale_shift" if config.film else "default",
        "downsample_padding": config.downsample_padding,
        "dropout": config.dropout,
    }


def read(given):
    """All settings of a ``config.json`` given as a dict, {name: value}, with their defaults where it leaves them out.

    Raises ``ValueError`` naming the first setting that is not known, not of its type, absurd, or that our U-Net does not
    have, and its value.
    """
    found = public(given, CLASS, {*DEFAULTS, *unconditional.PASSED_OVER})
    settings = {**DEFAULTS, **{name: value for name, value in found.items() if name in DEFAULTS}}
    settings["sample_size"] = one_size(settings)
    require(settings, REQUIRED)
    require_sizes(settings)
    require_integer("cross_attention_dim", settings["cross_attention_dim"], 1, MANY)
    for name, most in (("attention_head_dim", MANY), ("transformer_layers_per_block", MOST_DEEP)):
        settings[name] = _one_a_level(name, settings, most)
    return settings


def _one_a_level(name, settings, most):
    """A setting that is one integer, or one for each level, as a list."""
    value, levels = settings[name], len(settings["block_out_channels"])
    if isinstance(value, list) and len(value) != levels:
        raise ValueError(f"{name} must be one integer, or {levels}, got {shown(value)}")
    values = value if isinstance(value, list) else [value] * levels
    for each in values:
        require_integer(name, each, 1, most)
    return values


def to_unet_config(settings, **_):
    """The ``UNetConfig`` of a ``config.json`` that was ``read``.

    Raises ``ValueError`` naming the first setting that our U-Net does not have, and its value.
    """
    channels, heads, depths = (
        settings[name] for name in ("block_out_channels", "attention_head_dim", "transformer_layers_per_block")
    )
    depth = depths[-1]  # the middle's
    allowed = {"out_channels": (settings["in_channels"],), "time_embedding_dim": (None, 4 * channels[0])}
    require(settings, allowed)
    fields = dict(
        size=settings["sample_size"],
        image_channels=settings["in_channels"],
        channels=channels,
        blocks=settings["layers_per_block"],
        attention_levels=levels_with_attention(settings, ATTENTION),
        classes=0,
        groups=settings["norm_num_groups"],
        eps=settings["norm_eps"],
        film=settings["resnet_time_scale_shift"] == "scale_shift",
        downsample_padding=settings["downsample_padding"],
        dropout=settings["dropout"],
        context_width=settings["cross_attention_dim"],
        transformer_depth=depth,
    )
    try:
        config = UNetConfig(**fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not a U-Net of this project: {error}") from None
    levels = attention_levels(config)
    if any(depths[level] != depth for level in levels):
        raise ValueError(f"transformer_layers_per_block must be the same at all levels, got {shown(depths)}")
    if any(channels[level] % heads[level] for level in levels):
        raise ValueError(f"attention_head_dim, the number of heads, must divide {shown(channels)}, got {shown(heads)}")
    head_width, *others = {channels[level] // heads[level] for level in levels}
    return UNetConfig(**fields, heads=heads) if others else UNetConfig(**fields, head_width=head_width)


def passed_over(given):
    """As of ``settings``."""
    return unconditional.passed_over(given, (*unconditional.PASSED_OVER, "upcast_attention"), DEFAULTS)
