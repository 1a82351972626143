import numpy as np
import pytest

from tests.checks import assert_close
from tests.train import tiny
from tinydiff.generate import batches
from tinydiff.samplers import SAMPLERS, finish


@pytest.fixture(scope="module")
def trained():
    trainer = tiny.trainer(steps=30, learning_rate=5e-3)
    while trainer.step < 30:
        trainer.train_step()
    return trainer


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_depends_on_its_seed_and_index_alone(trained, sampler):
    options = dict(sampler=sampler, steps=5, guidance=1.5, seed=3)
    labels = np.array([0, 1, 1, 0])
    together = finish(trained.sample(labels, **options))
    assert together.shape == (4, 8, 8, 1) and together.dtype == np.float32
    for i in range(4):
        alone = finish(trained.sample(labels[i : i + 1], first=i, **options))
        assert_close(alone[0], together[i], 1e-4)  # matrix products of another size round differently
    assert np.array_equal(together, finish(trained.sample(labels, **options)))
    assert not np.allclose(together, finish(trained.sample(labels, **{**options, "seed": 4})))


def test_guidance_zero_ignores_the_label(trained):
    free = [finish(trained.sample([label], steps=5, guidance=0)) for label in (0, 1, 2)]
    assert np.array_equal(free[0], free[1]) and np.array_equal(free[0], free[2])


def test_guidance_one_is_the_conditional_model(trained):
    """The guided formula at 1 + 1e-6 goes the long way round to the same images."""
    labels = np.array([0, 1])
    exact = finish(trained.sample(labels, steps=5, guidance=1))
    assert_close(finish(trained.sample(labels, steps=5, guidance=1 + 1e-6)), exact, 1e-4)
    assert not np.allclose(exact, finish(trained.sample(labels, steps=5, guidance=3)), atol=1e-3)


def test_a_model_that_takes_guidance_is_told_it_and_asked_once(monkeypatch):
    trainer = tiny.trainer(model={"guidance_width": 4})
    model = trainer.averaged_model
    model.parameters.values[...] = np.random.default_rng(0).standard_normal(model.parameters.count) / 4
    predict, told = model.predict, []

    def noting(x, step, labels, guidance):
        told.append((len(x), *guidance))
        return predict(x, step, labels, guidance=guidance)

    monkeypatch.setattr(model, "predict", noting)
    drawn = [finish(trainer.sample([0, 1], steps=3, guidance=guidance)) for guidance in (0.5, 3.0)]
    assert told == 3 * [(2, 0.5, 0.5)] + 3 * [(2, 3.0, 3.0)] and not np.allclose(*drawn, atol=1e-3)
    with pytest.raises(ValueError, match="guidance must be a finite number of at least 0, got -1"):
        finish(trainer.sample([0, 1], steps=3, guidance=-1))


def test_images_lie_in_the_range_of_the_data(trained):
    for state in trained.sample([0, 1], steps=5, guidance=4):
        assert np.abs(state.x0_hat).max() <= 1


def test_leading_steps_end_with_the_noise_of_step_0(trained):
    """Whatever the sampler is; and a spacing of one's own is gone by every one of them."""
    states = list(trained.sample([0, 1], steps=5, spacing="leading"))
    assert [state.step for state in states] == [41, 31, 21, 11, 1, -1]
    a, s = trained.schedule.rates(0)
    (a_1, s_1), (x, x0_hat) = trained.schedule.rates(1), states[-2][1:]
    assert_close(states[-1].x, a * x0_hat + s * (x - a_1 * x0_hat) / s_1, 1e-6)
    states = list(trained.sample([0, 1], steps=5, sampler="dpm++", spacing="linspace"))
    assert [state.step for state in states] == [49, 37, 24, 12, 0, -1]


@pytest.mark.parametrize(
    "labels, options, message",
    [
        ([3], {}, r"labels must be a list of classes in \[0, 2\] \(2 for any\), got \[3\]"),
        ([], {}, "labels must be a list of classes"),
        ([0], {"sampler": "rk4"}, r"sampler must be one of ddpm, ddim, heun, dpm\+\+, euler, flow-heun, got 'rk4'"),
        ([0], {"steps": 51}, r"steps must be an integer in \[1, 50\], the schedule's noise steps, got 51"),
        ([0], {"steps": 0}, r"steps must be an integer in \[1, 50\]"),
        ([0], {"spacing": "even"}, "spacing must be one of trailing, linspace, karras, leading, got 'even'"),
        ([0], {"guidance": -1}, "guidance must be a finite number of at least 0, got -1"),
        ([0], {"seed": -1}, "seed must be an integer"),
    ],
)
def test_bad_requests(trained, labels, options, message):
    with pytest.raises(ValueError, match=message):
        finish(trained.sample(labels, **options))


def test_a_model_that_overflows_is_said_to(trained):
    weight = trained.averaged_model.parameters["conv_out.weight"].value
    before = weight.copy()
    weight[...] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(ValueError, match="the model's output is not finite"):
        finish(trained.sample([0], steps=5))
    weight[...] = before


@pytest.mark.parametrize(
    "count, shape, at_most, sizes",
    [
        (40, (28, 28, 1), None, [40]),
        (160, (28, 28, 1), None, [80, 80]),
        (40, (28, 28, 1), 32, [20, 20]),
        (16, (8, 8, 1), 7, [4, 4, 4, 4]),
        (13, (8, 8, 1), 7, [7, 6]),
        (0, (8, 8, 1), 7, []),
        (9, (64, 64, 3), 100, [9]),
        (20, (64, 64, 3), 100, [10, 10]),
        (3, (256, 256, 3), 100, [1, 1, 1]),
        (2, (512, 512, 3), None, [1, 1]),
    ],
)
def test_batches(count, shape, at_most, sizes):
    made = batches(count, shape, at_most)
    assert [each.stop - each.start for each in made] == sizes
    assert [i for each in made for i in range(each.start, each.stop)] == list(range(count))
