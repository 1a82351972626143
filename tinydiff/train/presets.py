"""Ready-made training runs, by machine."""

from __future__ import annotations

from typing import NamedTuple

from tinydiff.model.autoencoder import AutoencoderConfig
from tinydiff.model.unet import UNetConfig
from tinydiff.train.config import TrainConfig
from tinydiff.train.distill_config import DistillConfig
from tinydiff.train.vae_config import VAETrainConfig


class Preset(NamedTuple):
    """A training run and how its samples are drawn at the end."""

    config: TrainConfig
    sampling: dict  # options of ``generate``
    data: str = "auto"  # the name of the data set, unless another is asked for
    words: bool = False  # whether it is one of a model that learns captions


PRESETS = {
    # two CPU cores: clean digits in five minutes. Chosen by measurement, in about that time, by how many digits were
    # recognised at guidance 1 (standard error 0.5 %, from batch 16 on 0.6): most of the width where the image
    # is small, told the step and the class by scale and shift, 95.6 %; channels (24, 48, 96) 94.0, (32, 64, 128) 91.4,
    # both with a shift alone; learning rate halved 94.6, doubled 93.8; linear schedule 93.0, cosine with half the noise
    # 93.3; a step embedding of four times the width 94.3; batch 16 and twice as many steps 94.1; x0 instead of v 95.1;
    # 60 % of the noise steps at sigma 1.4 to 12 95.7, positions 96.1, both 96.4, with batch 64 and half the steps 96.2;
    # from there (of 2,000, standard error 0.4 %) channels (16, 64, 192) for the same time 95.0, beta2 0.99 96.4.
    # How many steps, by 25 DDIM steps at guidance 1, of 2,000 digits, standard error 0.4 %: in float32 (by a classifier
    # of 99.2 % test accuracy) 3,000 steps 97.0 %, 3,200 97.4, 6,400 97.3; of the digits of 3,200 steps 100 DDIM steps
    # made 96.8, eta 1 made 97.6. So 98 % is out of reach of more steps, and what bfloat16 saves is time: in it 2,200
    # steps, of 5 minutes 20, 96.8 % at a FID of 3.4 (by the classifier of ``metrics``), 3,000 steps 96.4 % at 3.0. As it
    # is, at guidance 2, 99.9 % of 1,000
    "laptop": Preset(
        TrainConfig(
            model=UNetConfig(channels=(16, 64, 128), blocks=1, groups=8, film=True, positions=3),
            step_power=2.0,
            label_dropout=0.05,
            batch=32,
            steps=2200,
            learning_rate=1.5e-3,
            warmup_steps=100,
        ),
        dict(sampler="ddim", steps=25, guidance=2.0),
    ),
    # the small configuration of the benchmarks
    "small": Preset(
        TrainConfig(
            model=UNetConfig(channels=(32, 64, 128)),
            batch=64,
            steps=5000,
            learning_rate=5e-4,
            warmup_steps=200,
        ),
        dict(sampler="ddim", steps=50, guidance=2.0),
    ),
    # the 15.7 M U-Net; meant for a GPU
    "paper": Preset(
        TrainConfig(
            model=UNetConfig(channels=(64, 128, 256)),
            batch=128,
            steps=20_000,
            learning_rate=2e-4,
            warmup_steps=500,
        ),
        dict(sampler="ddim", steps=50, guidance=2.0),
    ),
    # CIFAR-10 on two CPU cores, overnight, or as long as --minutes allow: the learning rate does not fall, so any stop
    # is as good. Chosen by measurement: benchmarks/README.md has what each choice gained, and that the FID of 10,000
    # images, of which real ones have 0.7, is 44.8 after half an hour, 10,000 steps, and 23.4 after 33,000; how far a
    # night leads is not known
    "cifar10-laptop": Preset(
        TrainConfig(
            model=UNetConfig(
                size=32, image_channels=3, channels=(32, 64, 128), blocks=1, groups=8, film=True, positions=3
            ),
            label_dropout=0.05,
            flip=True,
            batch=32,
            steps=200_000,
            learning_rate=1e-3,
            warmup_steps=100,
            decay="constant",
            average_decay=0.9999,
        ),
        dict(sampler="dpm++", steps=20, guidance=1.0),
        data="cifar10",
    ),
    # scenes by their captions, on two CPU cores: in the latents of 64x64 pixels that the autoencoder of ``VAE_PRESETS``
    # makes in a quarter of an hour with ``--shapes on --feature-weight 0.1``, half an hour more. Of 500 held-out
    # captions of known pairs, by 20 steps of DPM-Solver++ at guidance 4, with the first three of MiniLM's layers
    # (``--text-layers 3``), 48.2 % are fulfilled, and the right things are there in 74.2 %; places are as by chance.
    # With an autoencoder of 5,000 steps on digits alone, and no error of features, 48.8 and 76.6; besides with every
    # noise step as often 48.6 and 68.2, with all six layers and heads of 64 37.2 and 51.0; by as long a training in
    # 32x32 pixels, attention at levels 1 and 2, 29.0 and 34.0 (benchmarks/README.md)
    "words-laptop": Preset(
        TrainConfig(
            model=UNetConfig(
                channels=(32, 64, 128),
                blocks=1,
                groups=8,
                film=True,
                positions=3,
                attention_levels=(0, 1),
                head_width=16,
            ),
            step_power=2.0,
            label_dropout=0.1,
            batch=32,
            steps=17_000,
            learning_rate=1e-3,
            warmup_steps=100,
        ),
        dict(sampler="dpm++", steps=20, guidance=4.0),
        data="scenes",
        words=True,
    ),
    # CIFAR-10 on a GPU: the network, noise and training of Ho et al., 2020, appendix B, told the class, which reached a
    # FID of 3.17 with 1,000 steps and, in Song et al., "Denoising diffusion implicit models", 2021, 4.16 with 100. It
    # has not been run to the end with this engine
    "cifar10": Preset(
        TrainConfig(
            model=UNetConfig(
                size=32,
                image_channels=3,
                channels=(128, 256, 256, 256),
                attention_levels=(1,),
                head_width=256,
                eps=1e-6,
                downsample_padding=0,
                dropout=0.1,
            ),
            schedule="linear",
            noise_steps=1000,
            prediction="eps",
            flip=True,
            batch=128,
            steps=800_000,
            learning_rate=2e-4,
            warmup_steps=5000,
            decay="constant",
            average_decay=0.9999,
        ),
        dict(sampler="ddim", steps=100, guidance=1.0),
        data="cifar10",
    ),
}


class VAEPreset(NamedTuple):
    """A training run of an autoencoder."""

    config: VAETrainConfig
    data: str = "auto"  # the name of the data set, unless another is asked for


VAE_PRESETS = {
    # two CPU cores, 64x64 pixels in colour to 16x16x3 latents in twenty minutes. Chosen by the PSNR of 1,000 held-out
    # scenes (standard error 0.08 dB) after 1,500 steps: learning rate 5e-4 26.0 dB, 1e-3 23.5, 2e-3 20.0; with 1e-3 half
    # the batch and 2,600 steps 20.9. 5,200 steps with 1e-3, of 14 minutes: 29.1; 7,194 with 5e-4, of 20: 34.7
    "laptop": VAEPreset(VAETrainConfig(batch=8, steps=7000, learning_rate=5e-4, warmup_steps=100)),
    # meant for a GPU
    "large": VAEPreset(
        VAETrainConfig(
            model=AutoencoderConfig(channels=(64, 128, 256), blocks=2, groups=32),
            batch=32,
            steps=20_000,
            learning_rate=5e-4,
            warmup_steps=500,
        )
    ),
}


class DistillPreset(NamedTuple):
    """A run that teaches a student; its network and noise are those of the teacher."""

    config: DistillConfig


DISTILL_PRESETS = {
    # two CPU cores: three stages in four minutes. Why students of one and two steps are made consistent: of the MNIST run
    # above, halved to 8 steps in 800 training steps (and told the guidance by waves 20 times as fast), of 1,000 digits at
    # guidance 1 (standard error 0.6 %) and 2 (0.2 %), with their FID: in one step, halved on in 1,000 steps more, 96.9 %
    # at 8.3 and 99.8 % at 17.0, consistent in 600 96.3 % at 8.3 and 99.7 % at 15.9; in two steps, halved on in 700 96.6 %
    # at 7.6 and 99.8 % at 16.0, consistent in the same 600 and noised anew between the two 96.9 % at 6.5 and 99.7 % at
    # 17.4, by DDIM without 94.0 % at 9.7 and 99.0 % at 11.9
    "laptop": DistillPreset(
        DistillConfig(batch=32, steps=1200, learning_rate=1e-3, warmup_steps=30, average_decay=0.99),
    ),
}
