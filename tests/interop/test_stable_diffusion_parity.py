"""Stable Diffusion in diffusers and here: from the same latents the same images, and the same gradients."""

import shutil
import warnings

import numpy as np
import pytest

from tests.checks import assert_close
from tinydiff import backends
from tinydiff.interop import weights
from tinydiff.interop.folder import export_folder, import_folder
from tinydiff.model.transformer_block import Context, Texts
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.noise.guidance import guided
from tinydiff.noise.predictions import denoiser
from tinydiff.samplers import ddim, finish
from tinydiff.train.latents import decoder_of

WHY = "needs torch, diffusers and transformers: pip install 'tinydiff[interop]'"
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason=WHY)
    diffusers = pytest.importorskip("diffusers", reason=WHY)
    pytest.importorskip("transformers", reason=WHY)
    from tests.interop.stable_diffusion import VERSIONS, made
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.slow]  # what other libraries warn of is theirs to mend
PROMPT, NEGATIVE = "a red 7 above a small blue circle", "blue, red"
STEPS, GUIDANCE = 6, 4.0


@pytest.fixture(scope="module", params=VERSIONS)
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("pipelines")
    made(place, request.param).save_pretrained(place / "model")
    return place / "model"


def theirs(folder, dtype=torch.float32):
    """Their pipeline with DDIM for the sampler; in float64 so are its waves and its rates, which otherwise never are."""
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    if dtype == torch.float64:
        pipeline.unet.double()
        embedding, width = backends.get("numpy").timestep_embedding, pipeline.unet.config.block_out_channels[0]

        def waves(step):
            sin_cos = embedding.forward(step.numpy().astype(np.float64), width=width)
            return torch.from_numpy(np.roll(sin_cos, width // 2, axis=1))

        pipeline.unet.time_proj.forward = waves
        alpha_bar = torch.from_numpy(schedules.scaled_linear().alpha_bar)
        pipeline.scheduler.alphas_cumprod, pipeline.scheduler.final_alpha_cumprod = alpha_bar, alpha_bar[0]
    return pipeline


def channels_first(array):
    return torch.from_numpy(np.ascontiguousarray(array.transpose(0, 3, 1, 2)))


def channels_last(tensor):
    return tensor.detach().numpy().transpose(0, 2, 3, 1)


def start(model, count=2):
    return np.random.default_rng(0).standard_normal((count, *model.config.shape)).astype(np.float32)


def model_of(checkpoint, backend, dtype=np.float32):
    model = UNet(checkpoint.config.model, backend, dtype)
    model.parameters.load(model.parameters.values, checkpoint.parts["average"])
    return model


def our_latents(checkpoint, model, tokens, x):
    """What DDIM makes of x, guided from the last of the texts to the first, on Stable Diffusion's steps."""
    backend, config = model.backend, checkpoint.config
    model.texts = Texts(backend.asarray(tokens, x.dtype))
    schedule = schedules.get(config.schedule, config.noise_steps)

    def predict(x, step, labels):
        return model.predict(x, np.full(len(x), step, x.dtype), labels)

    labels = np.zeros(len(x), np.int64)
    denoise = denoiser(guided(predict, labels, model.classes, GUIDANCE, backend), schedule, config.prediction)
    return finish(ddim(denoise, x, schedule.ending_at(0), schedule.grid(STEPS, "leading")))


@pytest.mark.parametrize("name", ["numpy", "cpu"])
def test_the_same_images_of_a_prompt(folder, name):
    if name == "cpu" and not backends.CpuBackend:
        pytest.skip("the extension is not built")
    backend = backends.get(name)
    imported = import_folder(folder, backend=backend)
    checkpoint = imported.checkpoint
    model = model_of(checkpoint, backend)
    tokens = imported.encoder.encode([PROMPT, NEGATIVE], say=lambda _: None).tokens
    x = start(model)
    images = decoder_of(checkpoint.autoencoder, backend)(our_latents(checkpoint, model, tokens, x))
    options = dict(num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=channels_first(x), output_type="np")
    options |= dict(height=checkpoint.image_shape[0], width=checkpoint.image_shape[1])
    wanted = theirs(folder)([PROMPT] * 2, negative_prompt=[NEGATIVE] * 2, **options).images
    assert wanted.std() > 0.05 and images.shape == wanted.shape == (2, 128, 128, 3)
    assert_close((images + 1) / 2, wanted, 3e-5)


def test_the_same_images_of_no_negative_prompt_and_of_one_that_is_cut(folder):
    backend = backends.get("auto", "fp32")
    checkpoint, *_, encoder = import_folder(folder, backend=backend)
    model, prompt, said = model_of(checkpoint, backend), "red " * 40, []
    x = start(model, 1)
    latents = our_latents(checkpoint, model, encoder.encode([prompt, ""], say=said.append).tokens, x)
    assert said == ["1 of 2 texts are longer than 16 tokens and were cut"]
    options = dict(num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent", height=128, width=128)
    wanted = channels_last(theirs(folder)(prompt, latents=channels_first(x), **options).images)
    assert_close(latents, wanted, 2e-5)


def test_the_same_latents_in_float64(folder):
    """There is nothing but round-off between them."""
    backend = backends.get("numpy")
    checkpoint, *_, encoder = import_folder(folder, backend=backend)
    model = model_of(checkpoint, backend, np.float64)
    tokens = encoder.encode([PROMPT, NEGATIVE], say=lambda _: None).tokens.astype(np.float64)
    x = start(model).astype(np.float64)
    given = [torch.from_numpy(np.repeat(tokens[i : i + 1], 2, axis=0)) for i in (0, 1)]
    options = dict(num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent", height=128, width=128)
    pipeline = theirs(folder, torch.float64)
    pipeline.text_encoder.double()  # in whose precision the embeddings are taken to be
    wanted = pipeline(
        prompt_embeds=given[0], negative_prompt_embeds=given[1], latents=channels_first(x), **options
    ).images
    assert wanted.dtype == torch.float64
    assert_close(our_latents(checkpoint, model, tokens, x), channels_last(wanted), 1e-12)


def test_the_same_gradients(folder):
    """Of every parameter and of x, by our backward and by PyTorch's autograd; also of images of another size."""
    backend = backends.get("numpy")
    checkpoint, *_, encoder = import_folder(folder, backend=backend)
    model, network = model_of(checkpoint, backend, np.float64), theirs(folder, torch.float64).unet
    rng = np.random.default_rng(0)
    for size in (8, 16):
        x, dy = rng.standard_normal((2, 2, size, size, 4))
        step, tokens = np.array([3, 900]), rng.standard_normal((2, 7, encoder.width))
        x_t = channels_first(x).requires_grad_()
        network.zero_grad()
        y_t = network(x_t, torch.from_numpy(step), torch.from_numpy(tokens)).sample
        y_t.backward(channels_first(dy))
        y, cache = model.forward(x, step.astype(np.float64), context=Context(tokens))
        dx, _, _ = model.backward(dy, cache)
        assert_close(y, channels_last(y_t), 1e-11)
        assert_close(dx, channels_last(x_t.grad), 1e-10)
        found = {each: parameter.grad.numpy() for each, parameter in network.named_parameters()}
        gradients = weights.from_torch(found, flip_sin_to_cos=True)
        assert gradients.keys() == {each.name for each in model.parameters}
        for each in model.parameters:
            assert_close(each.grad, gradients[each.name], 1e-10)


def test_what_is_written_is_loaded_by_their_pipeline_and_draws_the_same(folder, tmp_path):
    imported = import_folder(folder)
    export_folder(imported.checkpoint, tmp_path / "out", encoder=imported.encoder)
    x = start(model_of(imported.checkpoint, backends.get("numpy")), 1)
    options = dict(num_inference_steps=2, guidance_scale=GUIDANCE, latents=channels_first(x), output_type="np")
    before, after = theirs(folder), theirs(tmp_path / "out")
    assert np.allclose(after.scheduler.betas, before.scheduler.betas, rtol=1e-6)
    before.scheduler = after.scheduler  # whose steps are those of ours
    there, back = (each(PROMPT, height=128, width=128, **options).images for each in (before, after))
    assert_close(back, there, 1e-5)  # convolutions of one pixel are linear layers now
    again = import_folder(tmp_path / "out").checkpoint
    assert again.config == imported.checkpoint.config


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_and_its_variants_are_read(folder, tmp_path, dtype):
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.to(getattr(torch, dtype))
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    pipeline.to(torch.float32).save_pretrained(tmp_path / "float32")
    assert (tmp_path / "half" / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    half, whole = (import_folder(tmp_path / name) for name in ("half", "float32"))
    for name, array in half.checkpoint.parts["model"].items():
        assert array.dtype == np.float32 and np.array_equal(array, whole.checkpoint.parts["model"][name])
    both = [each.encoder.encode([PROMPT], say=lambda _: None).tokens for each in (half, whole)]
    assert np.array_equal(*both)
    both = [each.checkpoint.autoencoder.parts["average"]["decoder.conv_in.weight"] for each in (half, whole)]
    assert np.array_equal(*both)


def test_weights_in_several_files_are_read(folder, tmp_path):
    whole = import_folder(folder).checkpoint
    shutil.copytree(folder, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "unet")
    network = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    network.save_pretrained(tmp_path / "parts" / "unet", max_shard_size="50KB")
    assert len(list((tmp_path / "parts" / "unet").glob("*-of-*.safetensors"))) > 2
    found = import_folder(tmp_path / "parts").checkpoint.parts["model"]
    assert all(np.array_equal(array, found[name]) for name, array in whole.parts["model"].items())
