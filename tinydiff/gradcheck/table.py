"""What has a backward: one row each, and the cases at which it is checked.

Whatever has a forward and a backward is one row here, and one name: an op in small letters, a layer, block or model by
its class. The command ``tinydiff gradcheck`` and the tests read the same rows.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from tinydiff import ops
from tinydiff.gradcheck.subjects import Case, at_step, dropping, with_parameters
from tinydiff.model import (
    attention_block,
    autoencoder,
    chain,
    embedding,
    layers,
    mlp,
    res_block,
    transformer_block,
    unet,
)
from tinydiff.model.autoencoder import AutoencoderConfig
from tinydiff.model.layers import Dropped
from tinydiff.model.mlp import MLPConfig
from tinydiff.model.transformer_block import Context
from tinydiff.model.unet import UNetConfig

KINDS = ("op", "layer", "block", "model")
UNET_DIRECTIONS = 1  # of each of its gradients, and an autoencoder's: too many elements to move one after another


class Row(NamedTuple):
    """One thing with a backward."""

    name: str
    kind: str  # one of KINDS
    module: ModuleType  # where forward and backward stand
    test: str  # the file of its tests, from the repository's root
    cases: tuple[Case, ...]
    terms: tuple[
        str, ...
    ]  # variables of its backward (or of a function that it calls) that can be dropped, see ``terms``
    holders: tuple[str, ...] = ("backward",)  # the functions in which those variables stand

    @property
    def derivation(self):
        """The file with the derivation and the reference, from the repository's root."""
        return self.module.__name__.replace(".", "/") + ".py"

    @property
    def kernels(self):
        """The files with the kernels; none for what is composed of ops."""
        return (f"csrc/cpu/{self.name}.cpp", f"csrc/cuda/{self.name}.cu") if self.kind == "op" else ()


def normal(seed, *shape):
    """Standard normals that float32 holds exactly, as float64."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32).astype(np.float64)


def _op(name, *cases, terms, holders=("backward",)):
    return Row(name, "op", ops.OPS[name], f"tests/ops/test_{name}.py", cases, terms, holders)


def _conv2d(size, R, add=None, *, stride=1, padding=0):
    inputs = {"x": normal(0, 2, size, size, 3), "w": normal(1, R, R, 3, 2), "b": normal(2, 2)}
    return Case(inputs | {"add": add}, {"stride": stride, "padding": padding})


def _group_norm(film, silu):
    inputs = {"x": normal(0, 2, 3, 3, 4), "gamma": normal(1, 4), "beta": normal(2, 4)}
    inputs |= {"scale": normal(3, 2, 4) if film else None, "shift": normal(4, 2, 4) if film else None}
    return Case(inputs, {"groups": 2, "silu": silu})


def _attention(L, M, length=None, causal=False):
    inputs = {"q": normal(0, 2, L, 2, 4), "k": normal(1, 2, M, 2, 4), "v": normal(2, 2, M, 2, 4), "length": length}
    return Case(inputs, {"causal": causal})


DROPPED = Dropped(seed=5, number=np.array([3]), slot=None)
DROPPING = {"rate": 0.3, "layer": 2, "seed": 5}

OP_ROWS = (
    _op("linear", Case({"x": normal(0, 2, 3), "w": normal(1, 3, 4), "b": normal(2, 4)}), terms=("dx", "dw", "db")),
    _op(
        "conv2d",
        _conv2d(4, 3, normal(3, 2, 4, 4, 2), padding=1),  # with a residual
        _conv2d(4, 3, normal(3, 2, 1, 1, 2), padding=1),  # with a time shift
        _conv2d(4, 3, stride=2, padding=(0, 1)),
        _conv2d(3, 1),
        terms=("dz", "dcolumns", "dw", "db", "dadd"),
    ),
    _op(
        "group_norm",
        _group_norm(film=True, silu=True),
        _group_norm(film=False, silu=True),
        _group_norm(film=False, silu=False),
        terms=("du", "dscale", "dshift", "dh", "dgamma", "dbeta", "dxhat", "through_mean", "through_var"),
    ),
    _op(
        "layer_norm",
        Case({"x": normal(0, 2, 3, 5), "gamma": normal(1, 5), "beta": normal(2, 5)}),
        terms=("dgamma", "dbeta", "dxhat", "through_mean", "through_var"),
    ),
    _op("silu", Case({"x": normal(0, 2, 3)}), terms=("through_s",), holders=("slope",)),
    _op(
        "gelu",
        *(Case({"x": normal(0, 2, 3)}, {"form": form}) for form in ops.gelu.FORMS),
        terms=("through_P",),
        holders=("slope",),
    ),
    _op("geglu", Case({"x": normal(0, 2, 3, 4)}), terms=("da", "dg")),
    _op(
        "dropout",
        Case({"x": normal(0, 2, 3, 5), "number": np.array([3]), "slot": np.array([7, 2])}, DROPPING),
        Case({"x": normal(0, 2, 150), "number": np.array([3]), "slot": None}, DROPPING),  # more than 16 blocks decide
        terms=("dx",),
    ),
    _op(
        "attention",
        _attention(3, 5, np.array([2, 5])),  # one sample's keys are padded
        _attention(3, 5),
        _attention(4, 4, causal=True),
        terms=("dv", "dp", "row_dot", "ds", "dq", "dk"),
    ),
    _op("upsample2x", Case({"x": normal(0, 2, 2, 3, 2)}), terms=("top", "bottom")),
    _op("concat", Case({"a": normal(0, 2, 2, 2, 1), "b": normal(1, 2, 2, 2, 3)}), terms=("da", "db")),
    _op("class_embedding", Case({"table": normal(0, 3, 4), "labels": np.array([2, 0, 2])}), terms=("dtable",)),
    _op(
        "mse_loss",
        Case({"prediction": normal(0, 2, 3), "target": normal(1, 2, 3), "weight": np.array([0.5, 2.0])}),
        Case({"prediction": normal(0, 2, 3), "target": normal(1, 2, 3), "weight": None}),
        terms=("dprediction", "dweight"),
    ),
    _op(
        "l1_loss",
        Case({"prediction": normal(0, 2, 3), "target": normal(1, 2, 3), "weight": np.array([0.5, 2.0])}),
        Case({"prediction": normal(0, 2, 3), "target": normal(1, 2, 3), "weight": None}),
        terms=("dprediction", "dweight"),
    ),
    _op(
        "gaussian_sample",
        Case({"moments": normal(0, 2, 3, 4), "eps": normal(1, 2, 3, 2)}),
        Case({"moments": 32 * normal(0, 2, 3, 4), "eps": normal(1, 2, 3, 2)}),  # of which some are cut off
        terms=("dmean", "dstd", "deps", "dv", "dlogvar"),
    ),
    _op(
        "gaussian_kl",
        Case({"moments": normal(0, 2, 3, 4)}),
        Case({"moments": np.array([[1, -2, 3, -40], [0.5, 4, 2, -3]])}),  # of which one is cut off
        terms=("dmean", "dv", "dlogvar"),
    ),
)


def _layer(name, inputs, arguments, **options):
    build = with_parameters(
        lambda home, parameters: getattr(home, name)(parameters, name.lower(), *arguments, **options)
    )
    return Row(name, "layer", layers, "tests/model/test_layers.py", (Case(inputs, build=build),), ())


def _upsample2x():
    build = with_parameters(lambda home, parameters: home.Upsample2x(parameters.backend))
    case = Case({"x": normal(0, 2, 2, 3, 2)}, build=build)
    return Row("Upsample2x", "layer", layers, "tests/model/test_layers.py", (case,), ())


def _block(name, module, *cases, terms):
    return Row(name, "block", module, f"tests/model/test_{_stem(module)}.py", cases, terms)


def _model(name, module, *cases, terms):
    return Row(name, "model", module, f"tests/model/test_{_stem(module)}.py", cases, terms)


def _stem(module):
    return module.__name__.rpartition(".")[2]


def _dropout():
    build = dropping(lambda home, backend, _: (home.Dropout(backend, rate=0.3, layer=2), ()), DROPPED)
    return Case({"x": normal(0, 2, 3, 5)}, build=build)


LAYER_ROWS = (
    _layer("Linear", {"x": normal(0, 2, 4, 3)}, (3, 2)),
    _layer("LayerNorm", {"x": normal(0, 2, 3, 5)}, (5,)),
    _layer("Conv2d", {"x": normal(0, 2, 4, 4, 2), "add": normal(1, 2, 1, 1, 3)}, (2, 3, 3), stride=2, padding=1),
    _layer(
        "GroupNorm",
        {"x": normal(0, 2, 3, 3, 4), "scale": normal(1, 2, 4), "shift": normal(2, 2, 4)},
        (4, 2, 1e-5),
        silu=True,
    ),
    Row("Dropout", "layer", layers, "tests/model/test_layers.py", (_dropout(),), ()),
    _layer("ClassEmbedding", {"labels": np.array([2, 0, 2])}, (3, 4)),
    _upsample2x(),
)


def _step_embedding(classes, W=0):
    build = with_parameters(lambda home, parameters: home.StepEmbedding(parameters, 4, 6, classes, W))
    labels, guidance = [0, classes, 1] if classes else None, [0.0, 1.0, 2.5] if W else None
    return Case({}, build=at_step(build, [0.0, 7.0, 90.0], labels, guidance=guidance))


def _res_block(C, O, film, E=3, dropout=0.0):
    def build(home, parameters):
        return home.ResBlock(parameters, "res", C, O, E, groups=2, eps=1e-5, film=film, dropout=dropout, layer=1)

    build = dropping(with_parameters(build), DROPPED)
    time = normal(1, 2, E) if E else None
    return Case({"x": normal(0, 2, 2, 3, C), "time": time}, build=build)


def _attention_block():
    def build(home, parameters):
        return home.AttentionBlock(parameters, "attention", 4, head_width=2, groups=2, eps=1e-5)

    return Case({"x": normal(0, 2, 2, 3, 4)}, build=with_parameters(build))


def _transformer(name, length=None, **options):
    """Of ``Attention``, ``TransformerBlock`` and ``Transformer`` by name, with a context of another width."""
    x = normal(0, 2, 2, 3, 4) if name == "Transformer" else normal(0, 2, 6, 4)
    build = lambda home, parameters: getattr(home, name)(parameters, "block", 4, 3, head_width=2, **options)
    inputs = {"x": x, "context": normal(1, 2, 5, 3), "length": length}
    return Case(inputs, build=with_parameters(build))


def _chain():
    def build(home, parameters):
        conv = layers.Conv2d(parameters, "conv", 2, 4, 3, stride=2, padding=(0, 1))
        norm = layers.GroupNorm(parameters, "norm", 4, 2, 1e-5, silu=True)
        return home.Chain(conv, layers.Upsample2x(parameters.backend), norm)

    return Case({"x": normal(0, 2, 4, 4, 2)}, build=with_parameters(build))


BLOCK_ROWS = (
    _block(
        "StepEmbedding",
        embedding,
        _step_embedding(classes=2),
        _step_embedding(classes=0),
        _step_embedding(classes=2, W=6),
        terms=("dh", "dwaves"),
    ),
    _block(
        "ResBlock",
        res_block,
        _res_block(2, 4, film=False),
        _res_block(2, 4, film=True),
        _res_block(2, 4, film=True, dropout=0.3),
        _res_block(2, 2, film=False),
        _res_block(2, 4, film=False, E=None),
        terms=("dx_shortcut", "dscale", "dshift", "dadd"),
    ),
    _block(
        "AttentionBlock",
        attention_block,
        _attention_block(),
        terms=("through_q", "through_k", "through_v", "through_residual"),
    ),
    _block(
        "Attention",
        transformer_block,
        _transformer("Attention"),
        _transformer("Attention", np.array([2, 5])),
        terms=("through_v", "through_k"),
    ),
    _block(
        "TransformerBlock",
        transformer_block,
        _transformer("TransformerBlock"),
        _transformer("TransformerBlock", np.array([2, 5])),
        terms=("past_feed_forward", "past_cross_attention", "past_self_attention", "through_context"),
    ),
    _block(
        "Transformer",
        transformer_block,
        _transformer("Transformer", depth=1, groups=2),
        _transformer("Transformer", np.array([2, 5]), depth=2, groups=2),
        terms=("through_block", "through_residual"),
    ),
    _block("Chain", chain, _chain(), terms=("dh",)),
)


def _mlp(classes):
    def build(home, backend, dtype):
        model = home.MLP(MLPConfig(width=6, layers=2, classes=classes), backend, dtype)
        return model, model.parameters

    return Case({"x": normal(0, 3, 2)}, build=at_step(build, [0.0, 7.0, 90.0], [0, classes, 1] if classes else None))


def _unet(**changes):
    config = UNetConfig(**{**dict(size=8, channels=(4, 8), blocks=1, groups=2, head_width=4, classes=3), **changes})

    def build(home, backend, dtype):
        model = home.UNet(config, backend, dtype)
        return model, model.parameters

    inputs = {"x": normal(0, 2, 8, 8, config.image_channels)}
    labels = [0, config.classes] if config.classes else None
    context = Context(normal(1, 2, 5, config.context_width), np.array([5, 2])) if config.context_width else None
    guidance = [0.5, 3.0] if config.guidance_width else None
    build = at_step(dropping(build, DROPPED), [7.0, 90.0], labels, context, guidance)
    return Case(inputs, build=build, directions=UNET_DIRECTIONS)


def _autoencoder(name, **changes):
    """An autoencoder, or by its name one half."""
    config = dict(size=8, image_channels=1, channels=(4, 8), latent_channels=2, groups=2)
    config = AutoencoderConfig(**{**config, **changes})
    images, latents = normal(0, 2, *config.shape), normal(1, 2, *config.latent_shape)
    inputs = {"Autoencoder": {"x": images, "eps": latents}, "Encoder": {"x": images}, "Decoder": {"z": latents}}

    def build(home, backend, dtype):
        model = home.Autoencoder(config, backend, dtype)
        return model, model.parameters

    if name != "Autoencoder":
        build = with_parameters(lambda home, parameters: getattr(home, name)(parameters, config))
    float32 = ("x", "eps") if name == "Autoencoder" else ()  # noise and moments are
    return Case(inputs[name], build=build, directions=UNET_DIRECTIONS, float32=float32)


MODEL_ROWS = (
    _model("MLP", mlp, _mlp(classes=2), _mlp(classes=0), terms=("da", "dshift", "dtime", "dembedding")),
    _model(
        "UNet",
        unet,
        _unet(),
        _unet(film=True, classes=0, channels=(4,), positions=1),
        _unet(dropout=0.3),
        _unet(classes=0, context_width=3),
        _unet(guidance_width=6),
        terms=("dskip", "dtime_block", "dtime", "dembedding"),
    ),
    _model("Encoder", autoencoder, _autoencoder("Encoder", quant_conv=True), terms=("dh",)),
    _model("Decoder", autoencoder, _autoencoder("Decoder", post_quant_conv=True), terms=("dh",)),
    _model(
        "Autoencoder",
        autoencoder,
        _autoencoder("Autoencoder"),
        _autoencoder("Autoencoder", mid_attention=False, blocks=2, channels=(4,)),
        terms=("dz", "dmoments", "deps"),
    ),
)

ROWS = {row.name: row for row in (*OP_ROWS, *LAYER_ROWS, *BLOCK_ROWS, *MODEL_ROWS)}
