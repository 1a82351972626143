"""Folders of diffusers' AutoencoderKL, without diffusers; what it makes of them is compared in test_autoencoder_parity.py."""

import json

import numpy as np
import pytest
import safetensors.numpy

from tests.interop.folders import same
from tests.model.checks import randomise
from tests.model.test_autoencoder import SMALL, STABLE_DIFFUSION
from tinydiff import backends
from tinydiff.interop import weights
from tinydiff.interop.autoencoder import export_autoencoder, from_config, import_autoencoder, to_config
from tinydiff.model.autoencoder import Autoencoder, AutoencoderConfig, LatentScale

WEIGHTS = "diffusion_pytorch_model.safetensors"
# every way in which an autoencoder may differ
CONFIGS = {
    "plain": {},
    "quant convolutions": {"quant_conv": True, "post_quant_conv": True, "image_channels": 1},
    "no attention": {"mid_attention": False, "blocks": 2, "channels": (4, 8, 8), "size": 8},
    "one level": {"channels": (4,), "quant_conv": True, "latent_channels": 3},
}
SCALES = {
    "none": None,
    "one": LatentScale((0.0, 0.0), (0.18215, 0.18215)),
    "one and a shift": LatentScale((0.1159, 0.1159), (0.3611, 0.3611)),
    "of each channel": LatentScale((-0.5, 0.25), (2.0, 0.125)),
}
# as it stands in the repositories of Stable Diffusion 1.5, and of a later model
OF_STABLE_DIFFUSION = """{
  "_class_name": "AutoencoderKL",
  "_diffusers_version": "0.6.0",
  "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512],
  "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  "in_channels": 3,
  "latent_channels": 4,
  "layers_per_block": 2,
  "norm_num_groups": 32,
  "out_channels": 3,
  "sample_size": 512,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
}"""
LATER = {
    "force_upcast": True,
    "latent_channels": 16,
    "latents_mean": None,
    "latents_std": None,
    "mid_block_add_attention": True,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_post_quant_conv": False,
    "use_quant_conv": False,
}


def made(changes=(), seed=0):
    """A configuration and random parameters."""
    config = AutoencoderConfig(**{**SMALL, **dict(changes)})
    parameters = Autoencoder(config, backends.get("numpy")).parameters
    randomise(parameters, seed)
    return config, {name: array.copy() for name, array in parameters.to_numpy(parameters.values).items()}


@pytest.mark.parametrize("changes", CONFIGS.values(), ids=CONFIGS)
def test_there_and_back_is_bit_identical(tmp_path, changes):
    config, parameters = made(changes)
    export_autoencoder(config, parameters, tmp_path / "out")
    after = import_autoencoder(tmp_path / "out")
    assert after.config == config and same(after.parameters, parameters)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", WEIGHTS]
    ones, zeros = (1.0,) * config.latent_channels, (0.0,) * config.latent_channels
    assert after.scale == LatentScale(zeros, ones)


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_the_scale_goes_along(tmp_path, scale):
    config, parameters = made()
    export_autoencoder(config, parameters, tmp_path / "out", scale=scale)
    given = json.loads((tmp_path / "out" / "config.json").read_text())
    assert import_autoencoder(tmp_path / "out").scale == (scale or LatentScale((0.0, 0.0), (1.0, 1.0)))
    alike = scale is None or len(set(scale.shift)) == 1
    assert (given["latents_mean"] is None) == (given["latents_std"] is None) == alike
    assert given["scaling_factor"] == (scale.scale[0] if scale and alike else 1.0)
    assert given["shift_factor"] == (0.1159 if scale and scale.shift[0] == 0.1159 else None)


def test_a_scale_of_each_channel_and_a_factor_of_all():
    given = from_config(AutoencoderConfig(**SMALL)) | {"scaling_factor": 0.5}
    given |= {"latents_mean": [1, -2.0], "latents_std": [4, 0.25]}
    assert to_config(given)[1] == LatentScale((1.0, -2.0), (0.125, 2.0))


def test_the_one_of_stable_diffusion():
    config, scale = to_config(json.loads(OF_STABLE_DIFFUSION))
    assert config == STABLE_DIFFUSION and scale == LatentScale((0.0,) * 4, (0.18215,) * 4)
    config, scale = to_config({**json.loads(OF_STABLE_DIFFUSION), **LATER})
    assert not config.quant_conv and not config.post_quant_conv and config.latent_channels == 16
    assert scale == LatentScale((0.1159,) * 16, (0.3611,) * 16)


def test_a_pipelines_vae_is_read(tmp_path):
    config, parameters = made()
    export_autoencoder(config, parameters, tmp_path / "pipeline" / "vae")
    assert import_autoencoder(tmp_path / "pipeline").config == config


def test_old_names_of_attention_are_read(tmp_path):
    config, parameters = made()
    export_autoencoder(config, parameters, tmp_path / "out")
    path = tmp_path / "out" / WEIGHTS
    arrays, names = safetensors.numpy.load_file(path), {v: k for k, v in weights.OLD_ATTENTION.items()}
    for new, old in names.items():
        arrays = {name.replace(new, old) if "attentions" in name else name: each for name, each in arrays.items()}
    assert "decoder.mid_block.attentions.0.proj_attn.weight" in arrays
    safetensors.numpy.save_file(arrays, path)
    assert same(import_autoencoder(tmp_path / "out").parameters, parameters)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"_class_name": "AutoencoderTiny"}, '_class_name must be AutoencoderKL, got "AutoencoderTiny"'),
        ({"norm_type": "spatial"}, 'norm_type "spatial": this setting is not known'),
        ({"act_fn": "gelu"}, 'act_fn must be "silu" or "swish", got "gelu"'),
        ({"out_channels": 4}, "out_channels must be 2, got 4"),
        ({"down_block_types": ["AttnDownEncoderBlock2D"] * 2}, "down_block_types must be .*, got .*Attn"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, r"up_block_types must be \[.*, .*\], got \[\"UpDecoderBlock2D\"\]"),
        ({"block_out_channels": []}, r"block_out_channels must be a list of 1 to 16 widths, got \[\]"),
        ({"block_out_channels": [4, 7]}, r"not an autoencoder of this project: groups must divide"),
        ({"latent_channels": 0}, r"latent_channels must lie in \[1, 65536\], got 0"),
        ({"layers_per_block": "2"}, 'layers_per_block must be one integer, got "2"'),
        ({"use_quant_conv": 1}, "use_quant_conv must be true or false, got 1"),
        ({"sample_size": [8, 4]}, r"sample_size must be one integer, got \[8, 4\]"),
        ({"scaling_factor": 0}, "scaling_factor must be a number above 0"),
        ({"scaling_factor": None}, "scaling_factor must be a number above 0 .*, got null"),
        ({"shift_factor": "0.1"}, 'shift_factor must be a number, got "0.1"'),
        ({"latents_mean": [0, 0]}, r"latents_mean must be given with latents_std, got \[0, 0\] and null"),
        ({"latents_mean": [0], "latents_std": [1]}, r"latents_mean must be 2 numbers, one a channel, got \[0\]"),
        ({"latents_mean": [0, 0], "latents_std": [1, 0]}, "each of latents_std must be a number above 0"),
        ({"latents_mean": [0, 0], "latents_std": [1, 1], "shift_factor": 1}, "shift_factor must be null beside"),
    ],
)
def test_what_ours_does_not_have_is_refused_by_name(tmp_path, changes, message):
    config, parameters = made()
    export_autoencoder(config, parameters, tmp_path / "out")
    path = tmp_path / "out" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=message) as refused:
        import_autoencoder(tmp_path / "out")
    assert str(refused.value).startswith(f"{path}: ")


def test_two_sizes_that_are_the_same_are_one():
    assert to_config(from_config(AutoencoderConfig(**SMALL)) | {"sample_size": [8, 8]})[0].size == 8


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    config, parameters = made()
    for name, message in (("missing", "parameter decoder.conv_out.bias is missing"), ("more", "x is not part")):
        some = {**parameters, "x": np.zeros(3, np.float32)} if name == "more" else dict(list(parameters.items())[:-1])
        export_autoencoder(config, some, tmp_path / name)
        with pytest.raises(ValueError, match=message) as refused:
            import_autoencoder(tmp_path / name)
        assert str(refused.value).startswith(str(tmp_path / name / WEIGHTS))
    (tmp_path / "more" / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"more holds no {WEIGHTS}"):
        import_autoencoder(tmp_path / "more")
    with pytest.raises(ValueError, match="config.json does not exist: not a folder of diffusers'"):
        import_autoencoder(tmp_path)


def test_what_diffusers_cannot_express(tmp_path):
    config, parameters = made({"eps": 1e-5})
    with pytest.raises(ValueError, match="eps must be 1e-06, as diffusers' AutoencoderKL has it, got 1e-05"):
        export_autoencoder(config, parameters, tmp_path / "out")
    config, parameters = made()
    with pytest.raises(ValueError, match="scale must be of 2 channels, as the latents are, got 3"):
        export_autoencoder(config, parameters, tmp_path / "out", scale=LatentScale((0.0,) * 3, (1.0,) * 3))
    assert not (tmp_path / "out").exists()
