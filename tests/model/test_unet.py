import weakref

import numpy as np
import pytest

from tests.checks import assert_close, normal
from tests.model.checks import OnlyX, assert_caught, check, randomise
from tinydiff import backends
from tinydiff.gradcheck.subjects import Dropping
from tinydiff.model.layers import Dropped
from tinydiff.model.res_block import ResBlock
from tinydiff.model.transformer_block import Context
from tinydiff.model.unet import UNet, UNetConfig, position_waves


def build(dtype=np.float64, seed=0, **changes):
    config = dict(size=8, channels=(4, 8), blocks=1, groups=2, head_width=4, classes=3)
    model = UNet(UNetConfig(**{**config, **changes}), backends.get("numpy"), dtype)
    randomise(model.parameters, seed)
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"film": True},
        {"classes": 0},
        {"blocks": 2, "attention_levels": (0, 1)},
        {"attention_levels": (), "image_channels": 3},
        {"channels": (4, 4, 8), "downsample_padding": 0},
        {"channels": (4,)},
        {"positions": 2, "image_channels": 2},
        {"heads": (1, 4), "attention_levels": (0, 1)},
    ],
    ids=str,
)
def test_gradient(changes):
    """Every parameter and the image, each along a random direction, which no error is at right angles to by chance."""
    model = build(**changes)
    x = normal(0, 2, 8, 8, model.config.image_channels)
    check(OnlyX(model, x), model.parameters, {"x": x}, directions=1)


@pytest.mark.parametrize(
    "line, replacement",
    [
        (
            "dh, dskip = self.backend.concat.backward(dh, cache.up.pop())",
            "dh, dskip = self.backend.concat.backward(dh, cache.up.pop()); dskip = 0 * dskip",
        ),
        ("dh = dh + dskips.pop()\n            dh, _ = downsample", "dskips.pop()\n            dh, _ = downsample"),
        (
            "dh, dtime_block = self.mid_res_2.backward(dh, mid_res_2)",
            "dh, dtime_block = self.mid_res_2.backward(dh, mid_res_2); dtime_block = 0",
        ),
        ("dembedding = self.backend.silu.backward(dtime, cache.time_silu)", "dembedding = dtime"),
        ("dh = dh + dskips.pop()\n    dx, _", "dx, _"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    model, x = build(), normal(0, 2, 8, 8, 1)
    assert_caught(monkeypatch, OnlyX(model, x), model.parameters, {"x": x}, line, replacement, directions=1)


@pytest.mark.parametrize("slot", [None, np.array([6, 1])], ids=["all", "a part"])
def test_gradient_with_dropout(slot):
    model, x = build(blocks=2, dropout=0.3), normal(0, 2, 8, 8, 1)
    wrapped = OnlyX(model, x)
    wrapped.thing = Dropping(model, Dropped(5, np.array([3]), slot))
    check(wrapped, model.parameters, {"x": x}, directions=1)


def test_every_residual_block_drops_values_of_its_own(monkeypatch):
    layers, init = [], ResBlock.__init__

    def noting(self, *arguments, **options):
        init(self, *arguments, **options)
        layers.append(self.dropout)

    monkeypatch.setattr(ResBlock, "__init__", noting)
    model = build(blocks=2, dropout=0.3)
    assert [each.layer for each in layers] == list(range(4 + 2 + 6)) and {each.rate for each in layers} == {0.3}
    x, step, labels = normal(0, 2, 8, 8, 1), np.array([3.0, 7.0]), np.array([0, 3])
    dropped = Dropped(5, np.array([3]))
    plain, dropping = (model.forward(x, step, labels, each)[0] for each in (None, dropped))
    assert np.array_equal(plain, model.predict(x, step, labels)) and not np.allclose(plain, dropping)
    for each in layers:
        with monkeypatch.context() as patch:
            patch.setattr(each, "rate", 0.0)  # it was told what to drop
            assert not np.allclose(dropping, model.forward(x, step, labels, dropped)[0])


def test_predict_is_forward_without_what_a_backward_needs():
    model, x = build(), normal(0, 2, 8, 8, 1)
    step, labels = np.array([3.0, 7.0]), np.array([0, 3])
    assert np.array_equal(model.predict(x, step, labels), model.forward(x, step, labels)[0])


def test_positions_tell_every_pixel_from_every_other():
    waves = position_waves(8, 3)
    assert waves.shape == (1, 8, 8, 12)
    assert len(np.unique(waves.reshape(64, 12).round(6), axis=0)) == 64
    # an image of one colour looks the same everywhere but at its edges, unless the network is told where
    x, step, labels = np.ones((1, 32, 32, 1)), np.array([3.0]), np.array([0])
    centre = (0, slice(15, 17), slice(15, 17))
    options = dict(size=32, channels=(4,), attention_levels=())
    plain = build(**options).conv_in.forward(x)[0][centre]
    assert np.allclose(plain, plain[0, 0])
    model = build(positions=3, **options)
    seen, _ = model.backend.concat.forward(x, model.positions)
    told = model.conv_in.forward(seen)[0][centre]
    assert not np.allclose(told, told[0, 0], atol=1e-2)
    assert np.isfinite(model.predict(x, step, labels)).all()
    with pytest.raises(ValueError, match=r"unet: x must be of 32x32 pixels, got \(1, 16, 16, 1\)"):
        model.predict(x[:, :16, :16], step, labels)


def test_the_reference_configuration_has_15_7_million_parameters():
    backend = backends.get("numpy")
    assert UNet(UNetConfig(), backend).parameters.count == 15_725_441
    assert UNet(UNetConfig(channels=(32, 64, 128)), backend).parameters.count == 3_940_801


def test_names_are_those_of_diffusers():
    names = {parameter.name for parameter in build(blocks=2, channels=(4, 8, 8)).parameters}
    for name in (
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "class_embedding.weight",
        "down_blocks.0.resnets.1.conv1.weight",
        "down_blocks.1.resnets.0.conv_shortcut.bias",
        "down_blocks.0.downsamplers.0.conv.weight",
        "down_blocks.2.attentions.1.to_out.0.bias",
        "mid_block.attentions.0.group_norm.weight",
        "up_blocks.0.resnets.2.time_emb_proj.weight",
        "up_blocks.0.attentions.0.to_q.weight",
        "up_blocks.1.upsamplers.0.conv.bias",
        "conv_norm_out.weight",
        "conv_out.bias",
    ):
        assert name in names
    assert not any(name.startswith(("down_blocks.2.downsamplers", "up_blocks.2.upsamplers")) for name in names)


def test_a_step_can_be_repeated_and_inputs_stay_as_they_are():
    model, x = build(), normal(0, 2, 8, 8, 1)
    before = x.copy()
    wrapped = OnlyX(model, x)
    once = wrapped.backward(*wrapped.forward(x)).copy(), model.parameters.grads.copy()
    again = wrapped.backward(*wrapped.forward(x)), model.parameters.grads
    assert np.array_equal(once[0], again[0]) and np.array_equal(once[1], again[1])
    assert np.array_equal(x, before)


def test_backward_lets_go_of_what_the_blocks_kept():
    model, x = build(), normal(0, 2, 8, 8, 1)
    wrapped = OnlyX(model, x)
    y, cache = wrapped.forward(x)
    kept = [weakref.ref(block.norm1.x) for block in cache.down if hasattr(block, "norm1")]
    assert len(kept) == 2 and all(each() is not None for each in kept)
    wrapped.backward(y, cache)
    assert not cache.up and not cache.down and all(each() is None for each in kept)


def test_the_label_and_the_step_matter_and_the_null_label_is_one_of_them():
    model, x = build(np.float32), normal(0, 1, 8, 8, 1, dtype=np.float32)

    def predict(step, label):
        return model.forward(x, np.array([step], np.float32), np.array([label]))[0]

    outputs = [predict(1, 0), predict(2, 0), predict(1, 1), predict(1, 3)]
    assert all(not np.allclose(a, b) for i, a in enumerate(outputs) for b in outputs[:i])
    with pytest.raises(ValueError, match=r"labels must lie in \[0, 4\)"):
        predict(1, 4)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": 30, "channels": (4, 8, 8)}, "size must be divisible by 4, as 3 levels halve it 2 times, got 30"),
        ({"groups": 3}, r"groups must divide every width in \(4, 8\), got 3"),
        ({"channels": ()}, "channels must be at least one positive width"),
        ({"channels": (5, 10), "groups": 1}, "channels must begin with an even width, got 5"),
        ({"attention_levels": (2,)}, r"attention_levels must lie in \[-2, 2\)"),
        ({"classes": -1}, "classes must be at least 0"),
        ({"heads": (2,)}, r"heads must be one number a level that divides its width, got \(2,\)"),
        ({"heads": (1, 3)}, r"heads must be one number a level that divides its width, got \(1, 3\)"),
        ({"heads": (0, 2)}, r"heads must be one number a level that divides its width, got \(0, 2\)"),
        ({"positions": -1}, "positions must be at least 0, got -1"),
        ({"blocks": 0}, "blocks must be at least 1"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"dropout must lie in \[0, 1\), got -0.1"),
        ({"dropout": float("nan")}, r"dropout must lie in \[0, 1\), got nan"),
        ({"downsample_padding": 2}, "downsample_padding must be 0 or 1"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_bad_input():
    model, step, labels = build(), np.ones(1), np.zeros(1, int)
    with pytest.raises(
        ValueError, match=r"unet: x must have shape \(N, H, W, 1\) with H and W divisible by 2, got \(1, 7, 8, 1\)"
    ):
        model.forward(np.ones((1, 7, 8, 1)), step, labels)
    with pytest.raises(ValueError, match="labels must be given exactly when the model has classes"):
        model.forward(np.ones((1, 8, 8, 1)), step)


def test_a_text_is_looked_at():
    """At every place with attention, the middle among them, and as far as it goes."""
    model = build(classes=0, context_width=3, attention_levels=(0,))
    places = {each.name.partition(".attn2.")[0] for each in model.parameters if ".attn2." in each.name}
    assert len(places) == 4  # one on the way down, two on the way up
    x, step = normal(0, 2, *model.config.shape), np.array([3.0, 50.0])
    tokens, length = normal(1, 2, 5, 3), np.array([5, 2])
    y, _ = model.forward(x, step, context=Context(tokens, length))
    assert np.array_equal(model.predict(x, step, context=Context(tokens, length)), y)
    tokens[1, 2:] = 9  # padding
    assert_close(model.predict(x, step, context=Context(tokens, length)), y)
    tokens[1, 1] += 1
    after = model.predict(x, step, context=Context(tokens, length))
    assert np.array_equal(after[0], y[0]) and np.abs(after[1] - y[1]).max() > 1e-3


@pytest.mark.parametrize(
    "width, tokens, message",
    [
        (3, None, "unet: context must be of width 3, got None"),
        (0, (2, 5, 3), "unet: context must be None, got one"),
        (3, (2, 5, 4), r"unet: context must have tokens \(2, M, 3\), got \(2, 5, 4\)"),
        (3, (1, 5, 3), r"unet: context must have tokens \(2, M, 3\), got \(1, 5, 3\)"),
    ],
)
def test_a_context_that_does_not_fit(width, tokens, message):
    model = build(np.float32, classes=0, context_width=width)
    context = None if tokens is None else Context(np.zeros(tokens, np.float32))
    with pytest.raises(ValueError, match=message):
        model.forward(np.zeros((2, *model.config.shape), np.float32), np.zeros(2, np.float32), context=context)


def test_heads_by_their_number_are_heads_of_that_width():
    x, step, labels = normal(0, 2, 8, 8, 1), np.array([3.0, 700.0]), np.array([0, 2])
    options = dict(attention_levels=(0, 1), channels=(4, 8))
    of_width = build(head_width=2, **options)
    y = of_width.predict(x, step, labels)
    assert np.array_equal(build(heads=(2, 4), **options).predict(x, step, labels), y)
    assert not np.allclose(build(heads=(2, 2), **options).predict(x, step, labels), y)
    assert build(heads=(3, 4), channels=(4, 8)).config.head_width_at(1) == 2  # of the first level nobody asks


def test_a_model_to_draw_with_has_no_gradients():
    config = UNetConfig(size=8, channels=(4, 8), blocks=1, groups=2, classes=0)
    model = UNet(config, backends.get("numpy"), frozen=True)
    assert model.parameters.grads is None and model.parameters["conv_in.weight"].grad is None
    x = normal(0, 1, 8, 8, 1).astype(np.float32)
    assert model.predict(x, np.zeros(1, np.float32)).shape == (1, 8, 8, 1)
