"""The same autoencoder in diffusers under PyTorch: moments, images, the gradient of every parameter."""

import dataclasses
import warnings

import numpy as np
import pytest

from tests.checks import assert_as_good, assert_close
from tests.interop.folders import same
from tests.interop.test_autoencoder import CONFIGS, SCALES, made
from tests.model.checks import randomise
from tests.model.test_autoencoder import STABLE_DIFFUSION
from tinydiff import backends
from tinydiff.interop import weights
from tinydiff.interop.autoencoder import export_autoencoder, import_autoencoder
from tinydiff.model.autoencoder import Autoencoder, AutoencoderConfig

WHY = "needs torch and diffusers: pip install 'tinydiff[interop]'"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason=WHY)
    diffusers = pytest.importorskip("diffusers", reason=WHY)
pytestmark = pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs to mend
TIMES = 8  # Winograd, channels summed in another order: two honest float32 networks differ by a few roundings
KL_WEIGHT = 0.3


def their_network(folder, dtype):
    """The folder loaded by diffusers, ready for gradients."""
    model, said = diffusers.AutoencoderKL.from_pretrained(folder, output_loading_info=True)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.to(dtype).eval()


def their_gradients(model, x, eps, dy):
    """Moments, image, divergence and, of sum(dy y) and the weighed divergence together, every gradient; in our layouts
    and under our names."""
    dtype = next(model.parameters()).dtype
    to_torch = lambda array: torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(dtype)
    to_numpy = lambda tensor: tensor.detach().numpy().transpose(0, 2, 3, 1)
    x, eps = to_torch(x).requires_grad_(), to_torch(eps).requires_grad_()
    posterior = model.encode(x).latent_dist
    y = model.decode(posterior.mean + posterior.std * eps).sample
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    torch.autograd.backward([y, kl], [to_torch(dy), torch.tensor(KL_WEIGHT, dtype=dtype)])
    named = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    found = {"moments": to_numpy(posterior.parameters), "y": to_numpy(y), "kl": kl.detach().numpy()}
    found |= {"dx": to_numpy(x.grad), "deps": to_numpy(eps.grad)}
    return found | weights.from_torch(named, flip_sin_to_cos=False)


def our_gradients(config, parameters, backend, dtype, x, eps, dy):
    """The same of ours."""
    model = Autoencoder(config, backends.get(backend), dtype)
    model.parameters.load(model.parameters.values, parameters)
    y, cache = model.forward(x.astype(dtype), eps.astype(dtype))
    kl, kl_cache = model.backend.gaussian_kl.forward(cache.moments)
    through_kl = model.backend.gaussian_kl.backward(KL_WEIGHT, kl_cache)
    dx, deps = model.backward(dy.astype(dtype), cache, through_kl)
    found = {"moments": cache.moments, "y": y, "kl": np.asarray(kl), "dx": dx, "deps": deps}
    return found | model.parameters.to_numpy(model.parameters.grads)


def problem_of(config, parameters, folder, N=2):
    """A folder, what it was made of, and what goes into the network."""
    export_autoencoder(config, parameters, folder)
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, N, *config.shape)).astype(np.float32)
    return folder, config, parameters, (x, rng.standard_normal((N, *config.latent_shape)).astype(np.float32), dy)


@pytest.fixture(params=[*CONFIGS, "default"], scope="module")
def problem(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "out"
    if request.param != "default":
        return problem_of(*made(CONFIGS[request.param]), folder)
    return problem_of(*random_parameters(AutoencoderConfig(size=16)), folder)


def random_parameters(config):
    parameters = Autoencoder(config, backends.get("numpy")).parameters
    randomise(parameters)
    return config, parameters.to_numpy(parameters.values)


def check_float64(folder, config, parameters, given):
    theirs = their_gradients(their_network(folder, torch.float64), *given)
    ours = our_gradients(config, parameters, "numpy", np.float64, *given)
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert_close(array, theirs[name], 1e-11)


def check_float32(folder, config, parameters, given):
    """Theirs, and our C++ kernels', as near to the float64 truth as our reference in float32 is."""
    truth = our_gradients(config, parameters, "numpy", np.float64, *given)
    rival = our_gradients(config, parameters, "numpy", np.float32, *given)
    found = {"diffusers": their_gradients(their_network(folder, torch.float32), *given)}
    if backends.CpuBackend:
        found["cpu"] = our_gradients(config, parameters, "cpu", np.float32, *given)
    # a gradient that cancels (a key's bias) is as good as the gradients that it is the difference of
    outputs = ("moments", "y", "kl", "dx", "deps")
    scale = max(np.abs(each).max() for name, each in truth.items() if name not in outputs)
    for who, all_found in found.items():
        for name, array in all_found.items():
            entering = 0 if name in outputs else scale
            assert_as_good(array, truth[name], rival[name], times=TIMES, entering=entering, name=f"{who}: {name}")


def test_in_float64_they_are_one_network(problem):
    check_float64(*problem)


def test_in_float32_within_round_off(problem):
    check_float32(*problem)


@pytest.mark.slow
def test_stable_diffusions_too(tmp_path):
    """Of 83.7 million parameters, at images of 64x64."""
    config, parameters = random_parameters(dataclasses.replace(STABLE_DIFFUSION, size=64))
    assert sum(each.size for each in parameters.values()) == 83_653_863
    problem = problem_of(config, parameters, tmp_path / "out", N=1)
    check_float64(*problem)
    check_float32(*problem)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_what_diffusers_saves_is_read_back(tmp_path, scale):
    config, parameters = made()
    export_autoencoder(config, parameters, tmp_path / "out", scale=scale)
    model = their_network(tmp_path / "out", torch.float32)
    model.save_pretrained(tmp_path / "saved")
    before, after = (import_autoencoder(tmp_path / name) for name in ("out", "saved"))
    assert after.config == config and after.scale == before.scale and same(after.parameters, parameters)


def test_their_short_floats_are_read(tmp_path):
    config, parameters = made()
    export_autoencoder(config, parameters, tmp_path / "out")
    their_network(tmp_path / "out", torch.float16).save_pretrained(tmp_path / "short")
    after = import_autoencoder(tmp_path / "short").parameters
    for name, each in parameters.items():
        assert np.array_equal(after[name], each.astype(np.float16).astype(np.float32))
