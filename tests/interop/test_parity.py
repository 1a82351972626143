"""The same network in diffusers under PyTorch: outputs, the gradient of every parameter, a sampled trajectory."""

import warnings

import numpy as np
import pytest
import safetensors.numpy

from tests.checks import assert_as_good, assert_close
from tests.interop.folders import CONFIGS, DROPOUT, POSITIONS, checkpoint, same
from tinydiff import backends
from tinydiff.interop import weights
from tinydiff.interop.folder import POSITIONS as POSITIONS_FILE
from tinydiff.interop.folder import export_folder, import_folder
from tinydiff.model.unet import UNet, position_waves
from tinydiff.noise import schedules
from tinydiff.noise.predictions import denoiser
from tinydiff.samplers import SAMPLERS, finish

WHY = "needs torch and diffusers: pip install 'tinydiff[interop]'"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason=WHY)
    diffusers = pytest.importorskip("diffusers", reason=WHY)
pytestmark = pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs to mend
TIMES = 8  # Winograd, channels summed in another order: two honest float32 networks differ by a few roundings


def their_network(folder, dtype):
    """The folder loaded by diffusers, ready for gradients."""
    model, said = diffusers.UNet2DModel.from_pretrained(folder, output_loading_info=True)
    assert not any(said[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    model = model.to(dtype).eval()
    file, model.waves = folder / POSITIONS_FILE, None
    if file.exists():
        model.waves = torch.from_numpy(safetensors.numpy.load_file(file)["positions"])
        if dtype == torch.float64:  # more digits than the file has
            waves = position_waves(model.config.sample_size, model.waves.shape[1] // 4)
            assert_close(model.waves.numpy(), waves.transpose(0, 3, 1, 2), 1e-7)
            model.waves = torch.from_numpy(waves.transpose(0, 3, 1, 2).copy())
    if dtype == torch.float64:  # diffusers computes the waves in float32 whatever the network is in
        width = model.config.block_out_channels[0]
        embedding = backends.get("numpy").timestep_embedding

        def waves(step):
            sin_cos = embedding.forward(step.numpy().astype(np.float64), width=width)
            return torch.from_numpy(np.roll(sin_cos, width // 2, axis=1))

        model.time_proj.forward = waves
    return model


def their_gradients(model, x, step, labels, dy):
    """y, dx (N, H, W, C) and the gradient of every parameter, in our layouts and under our names.

    A network with more channels in than out is given the waves of the folder, in its own precision, as the last.
    """
    dtype = next(model.parameters()).dtype
    to_torch = lambda array: torch.from_numpy(array.transpose(0, 3, 1, 2).copy()).to(dtype)
    to_numpy = lambda tensor: tensor.detach().numpy().transpose(0, 2, 3, 1)
    x = to_torch(x).requires_grad_()
    labels = None if labels is None else torch.from_numpy(labels)
    beside = [] if model.waves is None else [model.waves.to(dtype).expand(len(x), -1, -1, -1)]
    y = model(torch.cat([x, *beside], dim=1), torch.from_numpy(step), labels).sample
    y.backward(to_torch(dy))
    named = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
    return to_numpy(y), to_numpy(x.grad), weights.from_torch(named, flip_sin_to_cos=True)


def our_gradients(config, parameters, backend, dtype, x, step, labels, dy):
    """The same of ours."""
    model = UNet(config, backends.get(backend), dtype)
    model.parameters.load(model.parameters.values, parameters)
    y, cache = model.forward(x.astype(dtype), step.astype(dtype), labels)
    dx, _, _ = model.backward(dy.astype(dtype), cache)
    return y, dx, model.parameters.to_numpy(model.parameters.grads)


@pytest.fixture(params=CONFIGS | POSITIONS | DROPOUT, scope="module")
def problem(request, tmp_path_factory):
    """A folder, what it was made of, and what goes into the network."""
    made = checkpoint((CONFIGS | POSITIONS | DROPOUT)[request.param])
    folder = tmp_path_factory.mktemp("export") / "out"
    export_folder(made, folder)
    config = made.config.model
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 3, config.size, config.size, config.image_channels)).astype(np.float32)
    labels = np.array([0, 1, config.classes]) if config.classes else None  # the null label among them
    return folder, config, made.parts["average"], (x, np.array([0, 7, 49]), labels, dy)


def flat(y, dx, gradients):
    return {"y": y, "dx": dx, **gradients}


def test_in_float64_they_are_one_network(problem):
    folder, config, parameters, given = problem
    theirs = flat(*their_gradients(their_network(folder, torch.float64), *given))
    ours = flat(*our_gradients(config, parameters, "numpy", np.float64, *given))
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert_close(array, theirs[name], 1e-11)


def test_in_float32_within_round_off(problem):
    """Theirs, and our C++ kernels', as near to the float64 truth as our reference in float32 is."""
    folder, config, parameters, given = problem
    truth = flat(*our_gradients(config, parameters, "numpy", np.float64, *given))
    rival = flat(*our_gradients(config, parameters, "numpy", np.float32, *given))
    found = {"diffusers": flat(*their_gradients(their_network(folder, torch.float32), *given))}
    if backends.CpuBackend:
        found["cpu"] = flat(*our_gradients(config, parameters, "cpu", np.float32, *given))
    # a gradient that cancels (a key's bias) is as good as the gradients that it is the difference of
    scale = max(np.abs(each).max() for name, each in truth.items() if name not in ("y", "dx"))
    for who, outputs in found.items():
        for name, array in outputs.items():
            assert_as_good(array, truth[name], rival[name], times=TIMES, entering=scale, name=f"{who}: {name}")


def test_what_diffusers_saves_is_read_back(problem, tmp_path):
    folder, config, parameters, _ = problem
    if config.positions:
        their_network(folder, torch.float32).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="out_channels must be 9, got 1"):  # whose waves they were is not said
            import_folder(tmp_path)
        return
    their_network(folder, torch.float32).save_pretrained(tmp_path)
    after, assumed, *_ = import_folder(tmp_path)
    assert same(after.parts["average"], parameters)
    assert len(assumed) == (2 if config.classes else 1)


def test_the_average_that_their_training_saves_is_read(problem, tmp_path):
    """The folder unet_ema of diffusers' own training script."""
    folder, config, parameters, _ = problem
    model = their_network(folder, torch.float32)
    average = diffusers.training_utils.EMAModel(model.parameters(), model_cls=type(model), model_config=model.config)
    if config.positions:  # refused: see above
        return
    average.save_pretrained(tmp_path)
    after, _, passed_over, _ = import_folder(tmp_path)
    assert same(after.parts["average"], parameters)
    assert "decay 0.9999" in passed_over and "optimization_step 0" in passed_over and len(passed_over) == 7


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_their_short_floats_are_read(tmp_path, dtype):
    made = checkpoint()
    export_folder(made, tmp_path / "out")
    short = their_network(tmp_path / "out", getattr(torch, dtype))
    short.save_pretrained(tmp_path / dtype)
    short.float().save_pretrained(tmp_path / "float32")
    after, expected = (import_folder(tmp_path / name).checkpoint.parts["model"] for name in (dtype, "float32"))
    assert same(after, expected) and not same(after, made.parts["average"])


@pytest.mark.parametrize("schedule, T", [("cosine", 50), ("linear", 1000), ("linear", 10)])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_their_scheduler_takes_the_steps_that_our_sampler_takes(tmp_path, schedule, T, prediction):
    export_folder(checkpoint(schedule=schedule, noise_steps=T, prediction=prediction), tmp_path / "out")
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path / "out")
    ours = schedules.get(schedule, T)
    assert np.allclose(scheduler.betas.numpy(), ours.beta, rtol=1e-5)
    scheduler.set_timesteps(5)
    run, spacing = SAMPLERS["ddim"]
    grid = ours.grid(5, spacing)
    assert np.array_equal(scheduler.timesteps.numpy(), grid)

    start = np.random.default_rng(0).standard_normal((2, 1, 4, 4))
    predict = lambda x, step: np.sin(x + step / T) if prediction != "x0" else np.sin(x)
    x = torch.from_numpy(start)
    for step in scheduler.timesteps:
        prediction_there = torch.from_numpy(predict(x.numpy(), int(step)))
        # ours takes the noise that goes with the clipped image
        x = scheduler.step(prediction_there, step, x, use_clipped_model_output=True).prev_sample
    mine = finish(run(denoiser(predict, ours, prediction, clip=(-1, 1)), start, ours, grid, noise=None))
    assert_close(mine, x.numpy(), 2e-4)  # their schedule is in float32: its end is 1e-7 away from 1
