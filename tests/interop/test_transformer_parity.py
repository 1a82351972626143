"""A U-Net that looks at a text, and its transformer blocks, in diffusers under PyTorch: outputs and every gradient."""

import warnings

import numpy as np
import pytest

from tests.checks import assert_as_good, assert_close, normal
from tests.model.checks import make
from tinydiff import backends
from tinydiff.interop import weights
from tinydiff.model.transformer_block import Context, Transformer, TransformerBlock
from tinydiff.model.unet import UNet, UNetConfig

WHY = "needs torch and diffusers: pip install 'tinydiff[interop]'"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason=WHY)
    diffusers = pytest.importorskip("diffusers", reason=WHY)
    from diffusers.models.attention import BasicTransformerBlock
    from diffusers.models.transformers.transformer_2d import Transformer2DModel
pytestmark = pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs to mend
TIMES = 8
LENGTH = np.array([7, 3])


def as_torch(array, dtype=torch.float64):
    return torch.from_numpy(np.array(array)).to(dtype)


def channels_first(array):
    return array.transpose(0, 3, 1, 2)


def mask(length, M):
    """Whether each token is there, as diffusers takes it."""
    return torch.from_numpy(np.arange(M) < length[:, None])


def load(parameters, module, prefix):
    """Our parameters with the values of theirs, and the names of ours without the prefix."""
    named = {name: each.detach().numpy() for name, each in module.named_parameters()}
    ours = weights.from_torch(named, flip_sin_to_cos=False)
    parameters.load(parameters.values, {f"{prefix}.{name}": each for name, each in ours.items()})


def compare_gradients(parameters, module, prefix):
    named = {f"{prefix}.{name}": each.grad.numpy() for name, each in module.named_parameters()}
    theirs = weights.from_torch(named, flip_sin_to_cos=False)
    assert set(theirs) == {each.name for each in parameters}
    for each in parameters:
        assert_close(each.grad, theirs[each.name], 1e-11)


@pytest.mark.parametrize("length", [None, LENGTH])
def test_a_block(length):
    torch.manual_seed(0)
    theirs = BasicTransformerBlock(8, 2, 4, cross_attention_dim=6, activation_fn="geglu").double()
    block, parameters = make(lambda p: TransformerBlock(p, "block", 8, 6, head_width=4))
    load(parameters, theirs, "block")
    x, context, dy = normal(0, 2, 5, 8), normal(1, 2, 7, 6), normal(2, 2, 5, 8)
    x_t, context_t = as_torch(x).requires_grad_(), as_torch(context).requires_grad_()
    where = None if length is None else mask(length, 7)[:, None]
    bias = None if where is None else torch.where(where, 0.0, -1e30).double()
    theirs_y = theirs(x_t, encoder_hidden_states=context_t, encoder_attention_mask=bias)
    theirs_y.backward(as_torch(dy))
    y, cache = block.forward(x, context, length)
    dx, dcontext, _ = block.backward(dy, cache)
    assert_close(y, theirs_y.detach().numpy(), 1e-11)
    assert_close(dx, x_t.grad.numpy(), 1e-11)
    assert_close(dcontext, context_t.grad.numpy(), 1e-11)
    compare_gradients(parameters, theirs, "block")


@pytest.mark.parametrize("linear", [True, False], ids=["linear", "convolutions"])
def test_pixels_as_tokens(linear):
    """Whether their projections are linear layers or 1x1 convolutions."""
    torch.manual_seed(0)
    options = dict(in_channels=8, num_layers=2, norm_num_groups=2, cross_attention_dim=6)
    theirs = Transformer2DModel(2, 4, use_linear_projection=linear, **options).double()
    block, parameters = make(lambda p: Transformer(p, "block", 8, 6, head_width=4, depth=2, groups=2))
    load(parameters, theirs, "block")
    x, context, dy = normal(0, 2, 3, 4, 8), normal(1, 2, 7, 6), normal(2, 2, 3, 4, 8)
    x_t, context_t = as_torch(channels_first(x)).requires_grad_(), as_torch(context).requires_grad_()
    theirs_y = theirs(x_t, encoder_hidden_states=context_t).sample
    theirs_y.backward(as_torch(channels_first(dy)))
    y, cache = block.forward(x, context)
    dx, dcontext, _ = block.backward(dy, cache)
    assert_close(channels_first(y), theirs_y.detach().numpy(), 1e-11)
    assert_close(channels_first(dx), x_t.grad.numpy(), 1e-11)
    assert_close(dcontext, context_t.grad.numpy(), 1e-11)
    compare_gradients(parameters, theirs, "block")


CONFIG = UNetConfig(
    size=8, image_channels=4, channels=(8, 16), blocks=1, groups=4, head_width=4, classes=0, context_width=6
)


def their_unet(dtype):
    torch.manual_seed(0)
    model = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=6,
        attention_head_dim=(2, 4),  # how many heads, in spite of its name
        use_linear_projection=True,
    )
    model = model.to(dtype).eval()
    if dtype == torch.float64:  # diffusers computes the waves in float32 whatever the network is in
        embedding = backends.get("numpy").timestep_embedding

        def waves(step):
            sin_cos = embedding.forward(step.numpy().astype(np.float64), width=8)
            return torch.from_numpy(np.roll(sin_cos, 4, axis=1))

        model.time_proj.forward = waves
    return model


def their_gradients(dtype, x, step, context, dy):
    model = their_unet(dtype)
    x_t = as_torch(channels_first(x), dtype).requires_grad_()
    where = mask(context.length, context.tokens.shape[1])
    y = model(x_t, torch.from_numpy(step), as_torch(context.tokens, dtype), encoder_attention_mask=where).sample
    y.backward(as_torch(channels_first(dy), dtype))
    both = (
        {name: get(each) for name, each in model.named_parameters()}
        for get in (lambda p: p.detach().numpy(), lambda p: p.grad.numpy())
    )
    values, gradients = (weights.from_torch(named, flip_sin_to_cos=True) for named in both)
    last = lambda tensor: tensor.detach().numpy().transpose(0, 2, 3, 1)
    return values, {"y": last(y), "dx": last(x_t.grad), **gradients}


def our_gradients(backend, dtype, parameters, x, step, context, dy):
    model = UNet(CONFIG, backends.get(backend), dtype)
    model.parameters.load(model.parameters.values, parameters)
    context = context._replace(tokens=context.tokens.astype(dtype))
    y, cache = model.forward(x.astype(dtype), step.astype(dtype), context=context)
    dx, _, _ = model.backward(dy.astype(dtype), cache)
    return {"y": y, "dx": dx, **model.parameters.to_numpy(model.parameters.grads)}


def test_a_unet():
    """In float64 they are one network; in float32 theirs and our kernels' are as near to it as our reference."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 2, 8, 8, 4)).astype(np.float32)
    given = x, np.array([3, 900]), Context(rng.standard_normal((2, 7, 6)).astype(np.float32), LENGTH), dy
    parameters, theirs = their_gradients(torch.float64, *given)
    truth = our_gradients("numpy", np.float64, parameters, *given)
    assert set(truth) == set(theirs)
    for name, array in truth.items():
        # of tokens that are padding diffusers takes 10,000 off a score, not all of it
        assert_close(array, theirs[name], 1e-11)

    _, in_float32 = their_gradients(torch.float32, *given)
    rival = our_gradients("numpy", np.float32, parameters, *given)
    found = {"diffusers": in_float32}
    if backends.CpuBackend:
        found["cpu"] = our_gradients("cpu", np.float32, parameters, *given)
    scale = max(np.abs(each).max() for name, each in truth.items() if name not in ("y", "dx"))
    for who, outputs in found.items():
        for name, array in outputs.items():
            assert_as_good(array, truth[name], rival[name], times=TIMES, entering=scale, name=f"{who}: {name}")
