import copy
import pickle
import weakref

import numpy as np
import pytest

from tests.checks import broken, normal
from tests.model.checks import check, randomise
from tinydiff import backends
from tinydiff.gradcheck import GradientMismatch
from tinydiff.model.autoencoder import Autoencoder, AutoencoderConfig, LatentScale
from tinydiff.ops import gaussian_kl, gaussian_sample

SMALL = dict(size=4, image_channels=2, channels=(4, 8), latent_channels=2, groups=2)
STABLE_DIFFUSION = AutoencoderConfig(
    size=512,
    channels=(128, 256, 512, 512),
    blocks=2,
    latent_channels=4,
    groups=32,
    quant_conv=True,
    post_quant_conv=True,
)


def build(dtype=np.float64, seed=0, **changes):
    model = Autoencoder(AutoencoderConfig(**{**SMALL, **changes}), backends.get("numpy"), dtype)
    randomise(model.parameters, seed)
    return model


def inputs_of(model, N=2, seed=0):
    return {"x": normal(seed, N, *model.config.shape), "eps": normal(seed + 1, N, *model.config.latent_shape)}


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": (2, 4), "latent_channels": 1, "mid_attention": False},
        {"channels": (4,), "blocks": 2, "quant_conv": True, "post_quant_conv": True},
    ],
    ids=str,
)
def test_gradient(changes):
    """Every parameter, the image and the noise, each along a random direction."""
    model = build(**changes)
    check(model, model.parameters, inputs_of(model, 1), directions=1)


class Loss:
    """The whole loss of an autoencoder at its inputs: errors of the image, and the weighed divergence of the moments."""

    def __init__(self, model, weight=0.7):
        self.model, self.weight = model, weight

    def forward(self, x, eps):
        y, cache = self.model.forward(x, eps)
        kl, kl_cache = gaussian_kl.forward(cache.moments)
        error = y - x
        return np.array(np.mean(error**2) + self.weight * kl), (error, cache, kl_cache)

    def backward(self, dloss, cache):
        error, cache, kl_cache = cache
        through_kl = gaussian_kl.backward(dloss * self.weight, kl_cache)
        dy = dloss * 2 * error / error.size
        dx, deps = self.model.backward(dy, cache, through_kl)
        return dx - dy, deps


def test_gradient_of_the_whole_loss():
    """The divergence reaches the moments beside the image."""
    model = build(channels=(4,), mid_attention=False)
    check(Loss(model), model.parameters, inputs_of(model), directions=1)


@pytest.mark.parametrize(
    "line, replacement",
    [
        ("dmoments = dmoments + add", "dmoments = dmoments"),
        ("dz = self.decoder.backward(dy, cache.decoder)", "dz = 2 * self.decoder.backward(dy, cache.decoder)"),
    ],
)
def test_a_dropped_term_is_caught(monkeypatch, line, replacement):
    model = build(channels=(4,), mid_attention=False)
    monkeypatch.setattr(Autoencoder, "backward", broken(Autoencoder.backward, line, replacement))
    with pytest.raises(GradientMismatch):
        check(Loss(model), model.parameters, inputs_of(model), directions=1)


def test_padding_of_the_downsampling_is_one_row_and_column_after():
    """The second pixel is then in the first window alone, and else in the second too."""
    model = build()
    down = next(link for link in model.encoder.chain.links if getattr(link, "stride", 1) == 2)
    assert down.padding == (0, 1)
    x = np.zeros((1, 8, 8, 4))
    x[0, 1, 1] = 1
    seen = down.forward(x)[0] - down.forward(np.zeros_like(x))[0]
    assert [list(map(int, axis)) for axis in np.nonzero(np.abs(seen[0]).sum(axis=-1))] == [[0], [0]]


def test_encode_and_decode_are_forward_without_what_a_backward_needs():
    model = build()
    x, eps = inputs_of(model).values()
    moments, _ = model.encoder.forward(x)
    assert np.array_equal(model.encode(x), moments)
    y, cache = model.forward(x, eps)
    assert np.array_equal(cache.moments, moments)
    z, _ = gaussian_sample.forward(moments, eps)
    assert np.array_equal(model.decode(z), y)


def test_backward_lets_go_of_what_the_blocks_kept():
    model = build()
    y, cache = model.forward(*inputs_of(model).values())
    kept = [weakref.ref(each.norm1.x) for each in (*cache.encoder, *cache.decoder) if hasattr(each, "norm1")]
    assert len(kept) == 2 + 2 + 2 + 4 and all(each() is not None for each in kept)
    model.backward(y, cache)
    assert not cache.encoder and not cache.decoder and all(each() is None for each in kept)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_has_parameters_of_its_own(copied):
    model = build()
    x = inputs_of(model)["x"]
    before, other = model.encode(x), copied(model)
    other.parameters.values[...] = 0
    assert np.array_equal(model.encode(x), before) and not other.encode(x).any()


def test_it_takes_images_of_other_sizes():
    model = build(channels=(4, 8, 8))
    x = normal(0, 1, 12, 20, 2)
    moments = model.encode(x)
    assert moments.shape == (1, 3, 5, 4)
    assert model.decode(moments[..., :2]).shape == x.shape


def test_configurations():
    numpy = backends.get("numpy")
    assert Autoencoder(AutoencoderConfig(), numpy).parameters.count == 2_698_537
    assert AutoencoderConfig().latent_shape == (16, 16, 3)
    assert STABLE_DIFFUSION.latent_shape == (64, 64, 4)


def test_names_are_those_of_diffusers():
    names = {
        each.name for each in build(blocks=2, channels=(4, 8, 8), quant_conv=True, post_quant_conv=True).parameters
    }
    for name in (
        "encoder.conv_in.weight",
        "encoder.down_blocks.0.resnets.1.conv1.weight",
        "encoder.down_blocks.1.resnets.0.conv_shortcut.bias",
        "encoder.down_blocks.1.downsamplers.0.conv.weight",
        "encoder.mid_block.attentions.0.to_out.0.bias",
        "encoder.mid_block.resnets.1.norm2.weight",
        "encoder.conv_norm_out.weight",
        "encoder.conv_out.bias",
        "quant_conv.weight",
        "post_quant_conv.bias",
        "decoder.conv_in.weight",
        "decoder.mid_block.attentions.0.group_norm.weight",
        "decoder.up_blocks.0.resnets.2.conv1.weight",
        "decoder.up_blocks.0.upsamplers.0.conv.bias",
        "decoder.up_blocks.2.resnets.0.conv_shortcut.weight",
        "decoder.conv_norm_out.bias",
        "decoder.conv_out.weight",
    ):
        assert name in names
    assert not any("time_emb_proj" in name or "up_blocks.2.upsamplers" in name for name in names)
    assert not any("quant_conv" in each.name for each in build().parameters)
    assert not any("attentions" in each.name for each in build(mid_attention=False).parameters)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"size": 30, "channels": (4, 8, 8)}, "size must be divisible by 4, as 3 levels halve it 2 times, got 30"),
        ({"groups": 3}, r"groups must divide every width in \(4, 8\), got 3"),
        ({"channels": ()}, "channels must be at least one positive width"),
        ({"blocks": 0}, "blocks must be at least 1, got 0"),
        ({"latent_channels": 0}, "latent_channels must be at least 1, got 0"),
        ({"eps": 0}, "eps must be positive, got 0"),
        ({"quant_conv": 1}, "quant_conv must be true or false, got 1"),
        ({"channels": 8}, "channels must be a list, each an integer, got 8"),
    ],
)
def test_bad_config(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


@pytest.mark.parametrize(
    "shift, scale, message",
    [
        ((), (), r"shift and scale must be one number a channel, got \(\) and \(\)"),
        ((0.0,), (1.0, 2.0), "shift and scale must be one number a channel"),
        ((0.0,), (0.0,), r"scale must be positive and finite, got \(0.0,\)"),
        ((float("nan"),), (1.0,), "shift must be finite"),
        ((0.0,), (float("inf"),), "scale must be positive and finite"),
    ],
)
def test_bad_scale(shift, scale, message):
    with pytest.raises(ValueError, match=message):
        LatentScale(shift, scale)


def test_bad_input():
    model = build()
    x, eps = inputs_of(model, 1).values()
    with pytest.raises(
        ValueError, match=r"encoder: x must have shape \(N, H, W, 2\) with H and W divisible by 2, got \(1, 3, 4, 2\)"
    ):
        model.forward(x[:, :3], eps)
    with pytest.raises(ValueError, match=r"encoder: x must have shape .*, got \(1, 4, 4, 1\)"):
        model.encode(x[..., :1])
    with pytest.raises(ValueError, match=r"decoder: z must have shape \(N, h, w, 2\), got \(1, 2, 2, 1\)"):
        model.decode(eps[..., :1])
    with pytest.raises(
        ValueError, match=r"autoencoder: eps must have shape \(1, 2, 2, 2\), as the latents of x, got \(1, 2, 1, 2\)"
    ):
        model.forward(x, eps[:, :, :1])
