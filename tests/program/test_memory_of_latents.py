"""The memory that is told before the training of an autoencoder, or in its latents, is what that then takes."""

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.program.test_memory import MB_OF_KERNELS, in_arrays
from tests.train import tiny, tiny_vae
from tinydiff import backends
from tinydiff.program import memory
from tinydiff.train.latents import Encoded


def run_of(kind, backend, **changes):
    """A configuration, its data set and its trainer, of a network that is not the smallest."""
    if kind == "autoencoder":
        trainer = tiny_vae.trainer(backend=backend, model=dict(channels=(16, 32)), **changes)
    else:
        shape = (40, 4, 4, 4)
        data = Encoded(tiny.dataset(), np.zeros(shape, np.float32), tiny_vae.trainer().checkpoint())
        trainer = tiny_vae.latent_trainer(data, backend, **changes)
    return trainer.config, trainer.dataset, trainer


@pytest.mark.parametrize("kind", ["autoencoder", "latents"])
@pytest.mark.parametrize("precision", backends.PRECISIONS)
@pytest.mark.parametrize("parts", [1, 4])
def test_on_a_cpu_it_is_the_plan_of_the_program_that_follows(kind, precision, parts):
    backend = backend_or_skip("cpu", precision)
    config, dataset, trainer = run_of(kind, backend, parts=parts)
    need = memory.of_training(config, backend, dataset)
    assert trainer.program.arena < need.step <= trainer.program.arena + MB_OF_KERNELS * 10**6
    assert need.parameters == trainer.parameters.count
    assert (need.pictures > 0) == (kind == "latents" or precision == "bf16")
    assert need.images == dataset.images.nbytes + 8 * 40


def test_more_samples_take_what_was_told_on_numpy_and_the_emulator():
    """The same of both, but for what each op works in."""
    for kind in ("autoencoder", "latents"):
        more = []
        for name in ("numpy", "emulator"):
            backend = backend_or_skip(name)
            told = []
            for batch in (32, 64):  # of fewer what Python itself takes is more
                config, dataset, _ = run_of(kind, backend, batch=batch)
                told.append(in_arrays(memory.of_training(config, backend, dataset)))
            more.append(told[1] - told[0])
        assert min(more) > 0 and 0.5 < more[0] / more[1] < 2
