import numpy as np
import pytest

from tests.checks import COMPILED, backend_or_skip
from tests.train import tiny
from tinydiff import backends
from tinydiff.data import points2d
from tinydiff.generate import generate
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import schedules
from tinydiff.samplers import finish
from tinydiff.train.fit import fit


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_points_are_learned(kind):
    data, schedule = points2d.load("mixture", 2000), schedules.cosine(50)
    model = MLP(MLPConfig(width=32, layers=2, classes=6), backends.get("auto"))
    losses = fit(model, data, schedule, kind, steps=150, batch=128)
    assert losses[-20:].mean() < 0.75 * losses[:5].mean()
    drawn = model.backend.to_numpy(
        finish(generate(model, schedule, kind, np.zeros(100, int), steps=10, clip=(-1.2, 1.2)))
    )
    assert drawn.shape == (100, 2)
    assert np.abs(drawn.mean(axis=0) - points2d.MIXTURE.means[0]).max() < 0.4, "class 0 lies to the right"


def test_the_same_seed_gives_the_same_network():
    data, schedule = tiny.dataset(), schedules.cosine(20)
    model = UNet(UNetConfig(**tiny.MODEL), backends.get("numpy"))
    first = fit(model, data, schedule, "v", steps=3, batch=4)
    values = model.parameters.values.copy()
    assert np.array_equal(fit(model, data, schedule, "v", steps=3, batch=4), first)
    assert np.array_equal(model.parameters.values, values)
    other = fit(model, data, schedule, "v", steps=3, batch=4, only_step=5)
    assert not np.array_equal(other, first)


@pytest.mark.parametrize("backend", COMPILED)
def test_what_ops_read_rounded_is_what_was_learned(backend):
    data, schedule = points2d.load("mixture", 20), schedules.cosine(20)
    model = MLP(MLPConfig(width=8, layers=1, classes=6), backend_or_skip(backend, "bf16"))
    fit(model, data, schedule, "v", steps=2, batch=4)
    parameters = model.parameters
    learned = parameters.values[: parameters.decayed].astype(parameters.rounded.dtype)
    assert np.array_equal(parameters.rounded, learned)
