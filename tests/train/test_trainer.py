import dataclasses
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train import tiny
from tinydiff import backends
from tinydiff.data.dataset import Dataset
from tinydiff.samplers import finish
from tinydiff.train import NonFinite, Trainer

REGULARISED = dict(model={"dropout": 0.3}, flip=True)


def train(trainer, steps):
    return [trainer.train_step() for _ in range(steps)]


def test_the_same_job_twice_gives_the_same_numbers():
    one, two = tiny.trainer(), tiny.trainer()
    assert train(one, 5) == train(two, 5)
    assert tiny.state(one) == tiny.state(two)
    other = tiny.trainer(seed=1)
    assert train(other, 5) != train(tiny.trainer(), 5)


@pytest.mark.parametrize("changes", [{}, REGULARISED], ids=["plain", "dropout and flips"])
@settings(max_examples=5)
@given(stop=st.integers(1, 9))
def test_stopped_anywhere_and_resumed_equals_never_stopped(changes, stop):
    straight = tiny.trainer(**changes)
    metrics = train(straight, 10)
    first = tiny.trainer(**changes)
    before = train(first, stop)
    second = tiny.trainer(**changes)
    second.restore(first.checkpoint())
    assert before + train(second, 10 - stop) == metrics
    assert tiny.state(second) == tiny.state(straight)


@pytest.mark.parametrize("model", [{}, {"film": True}], ids=["shift", "film"])
def test_sixty_steps_on_one_fixed_batch_bring_the_loss_well_down(model):
    trainer = tiny.trainer(tiny.dataset(8), model, steps=60, decay="constant", learning_rate=5e-3)
    # the same images with the same noise at the same steps, every time
    number, draw_batch, corrupt = np.array([1]), trainer.backend.draw_batch, trainer.corrupt.draw
    fixed = draw_batch.forward(trainer.labels, number, batch=8, noise_steps=50, classes=2, dropout=0.1, seed=0)
    trainer.backend.draw_batch = types.SimpleNamespace(forward=lambda *_, **__: fixed)
    trainer.corrupt.draw = lambda images, index, step, _, *rest, **options: corrupt(
        images, index, step, number, *rest, **options
    )
    losses = [metrics.loss for metrics in train(trainer, 60)]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
@pytest.mark.parametrize("loss_weight", ["simple", "min_snr"])
def test_every_prediction_and_weight_learns(prediction, loss_weight):
    trainer = tiny.trainer(prediction=prediction, loss_weight=loss_weight, steps=60, learning_rate=5e-3)
    losses = [metrics.loss for metrics in train(trainer, 60)]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_model_without_classes_trains_and_samples():
    trainer = tiny.trainer(model={"classes": 0})
    train(trainer, 2)
    images = finish(trainer.sample([0, 0, 0], steps=5))
    assert images.shape == (3, 8, 8, 1) and np.abs(images).max() <= 1


@pytest.mark.parametrize("changes", [{"model": {"dropout": 0.3}}, {"flip": True}], ids=str)
def test_dropout_and_flips_change_what_is_learned(changes):
    one, other = tiny.trainer(**changes), tiny.trainer()
    assert train(one, 2) != train(other, 2)


def test_what_is_drawn_knows_nothing_of_dropout():
    dropping, plain = tiny.trainer(model={"dropout": 0.5}), tiny.trainer()
    train(dropping, 3)
    plain.restore(dropping.checkpoint())
    one, other = (finish(each.sample([0, 1], steps=4, seed=3)) for each in (dropping, plain))
    assert np.array_equal(one, other)


def test_flips_show_a_network_both_images():
    """Of one image with a bright left half, drawn without noise: as often one way as the other."""
    images = np.zeros((1, 8, 8, 1), np.uint8)
    images[:, :, :4] = 255
    data = Dataset("halves", images, np.zeros(1, int), 1)
    trainer = tiny.trainer(data, {"classes": 0}, batch=64, flip=True)
    trainer.corrupt.table[:, :2] = 1, 0  # x is the image
    trainer.optimizer.prepare(1, 0.0)
    x = trainer.one_part()["x"]
    left, right = (x[:, :, half].mean(axis=(1, 2, 3)) for half in (slice(0, 4), slice(4, 8)))
    assert np.all(np.abs(left - right) == 2) and 16 < np.sum(left > right) < 48


def test_a_batch_may_be_larger_than_the_data_set():
    metrics = tiny.trainer(tiny.dataset(3), batch=8).train_step()
    assert np.isfinite(metrics.loss)


def test_the_average_trails_the_parameters():
    trainer = tiny.trainer(average_decay=0.5)
    start = trainer.average.copy()
    train(trainer, 1)
    decay = 2 / 11  # the warm-up's (1 + n) / (10 + n) at n = 1
    assert np.allclose(trainer.average, start + (1 - decay) * (trainer.parameters.values - start), atol=1e-6)


def test_clipping_limits_the_step_but_reports_the_norm():
    free, clipped = tiny.trainer(clip=1e9), tiny.trainer(clip=1e-3)
    assert free.train_step() == clipped.train_step()  # the metrics are those before the update
    assert np.abs(clipped.optimizer.mean).sum() < 0.01 * np.abs(free.optimizer.mean).sum()


def test_a_gradient_that_is_not_finite_stops_the_run_with_the_state_untouched():
    trainer = tiny.trainer()
    train(trainer, 2)
    trainer.parameters["conv_out.weight"].value[...] = np.nan
    before = tiny.state(trainer)
    with pytest.raises(
        NonFinite, match="training step 3: loss nan, .* the first tensor that is not finite is the prediction"
    ):
        trainer.train_step()
    assert tiny.state(trainer) == before and trainer.step == 2


def test_the_first_bad_gradient_is_named(monkeypatch):
    trainer = tiny.trainer()
    backward = trainer.model.backward

    def overflowing(dy, cache):
        backward(dy, cache)
        trainer.parameters["mid_block.resnets.0.conv1.weight"].grad[0, 0, 0, 0] = np.inf

    monkeypatch.setattr(trainer.model, "backward", overflowing)
    with pytest.raises(NonFinite, match="the gradient of mid_block.resnets.0.conv1.weight"):
        trainer.train_step()


def test_data_that_do_not_fit_the_model():
    with pytest.raises(ValueError, match=r"bars has images of \(8, 8, 1\), the model takes \(16, 16, 1\)"):
        tiny.trainer(model={"size": 16})
    with pytest.raises(ValueError, match="bars has 2 classes, the model 5"):
        tiny.trainer(model={"classes": 5})
    with pytest.raises(ValueError, match="the run is on bars, got the data set mnist"):
        Trainer(tiny.trainer().config, dataclasses.replace(tiny.dataset(), name="mnist"), backends.get("numpy"))


def test_data_that_are_not_finite():
    images = np.zeros((4, 8, 8, 1), np.float32)
    images[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="broken: item 2 holds a value that is not finite"):
        Dataset("broken", images, np.zeros(4, int), 1)
