"""The number of ranks changes nothing of a training run: parameters, moments, average and metrics have the same bits."""

import math

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.ranks.threads import ThreadRanks, run
from tests.train import tiny
from tinydiff.data.dataset import Dataset
from tinydiff.ranks import alone
from tinydiff.train import NonFinite, Trainer

MODEL = dict(film=True)  # with attention, as all of tiny's
STEPS = 40


def trainer(parts, ranks=alone(), backend="numpy", precision="fp32", **changes):
    options = dict(model=MODEL, batch=12, label_dropout=0.3, clip=0.5, steps=STEPS) | changes
    config = tiny.trainer(parts=parts, **options).config
    return Trainer(config, tiny.dataset(), backend_or_skip(backend, precision), ranks=ranks)


def left_behind(trainer, steps=STEPS):
    return [trainer.train_step() for _ in range(steps)], tiny.state(trainer)


@pytest.mark.parametrize(
    "backend, precision, steps", [("numpy", "fp32", STEPS), ("cpu", "fp32", STEPS), ("cpu", "bf16", 10)]
)
@pytest.mark.parametrize("parts, sizes", [(4, (2, 4)), (6, (2, 3)), (3, (3,))])
def test_same_bits_on_any_number_of_ranks(backend, precision, steps, parts, sizes):
    expected = left_behind(trainer(parts, alone(), backend, precision), steps)
    for size in sizes:
        made = run(size, lambda ranks: left_behind(trainer(parts, ranks, backend, precision), steps))
        assert all(each == expected for each in made)


def test_same_bits_on_the_emulator():
    expected = left_behind(trainer(2, alone(), "emulator"), 2)
    assert run(2, lambda ranks: left_behind(trainer(2, ranks, "emulator"), 2)) == [expected] * 2


def test_a_run_moves_between_numbers_of_ranks():
    straight = left_behind(trainer(4))

    def go_on(checkpoint, steps):
        def of_rank(ranks):
            one = trainer(4, ranks)
            if checkpoint:
                one.restore(checkpoint)
            return [one.train_step() for _ in range(steps)], one.checkpoint(), tiny.state(one)

        return of_rank

    metrics, checkpoint = [], None
    for size, steps in ((4, 13), (1, 14), (2, 13)):
        made, checkpoint, state = run(size, go_on(checkpoint, steps))[0]
        metrics += made
    assert (metrics, state) == straight


class OneAfterTheOther(ThreadRanks):
    """Adds as a chain, part by part."""

    def sum_tree(self, flat, parts, compute):
        own = {}
        for part in self.share(parts):
            compute(part)
            own[part] = flat.copy()
        rows = {part: row for each in self.gather(own) for part, row in each.items()}
        flat[...] = rows[0]
        for part in range(1, parts):
            flat += rows[part]


class Dropping(ThreadRanks):
    """Forgets the gradients of the last part."""

    def sum_tree(self, flat, parts, compute):
        def computing(part):
            compute(part)
            if part == parts - 1:
                flat[...] = 0

        super().sum_tree(flat, parts, computing)


REGULARISED = dict(model={**MODEL, "dropout": 0.3}, flip=True)


@pytest.mark.parametrize("backend, precision", [("numpy", "fp32"), ("cpu", "fp32"), ("cpu", "bf16")])
def test_same_bits_with_dropout_and_flips(backend, precision):
    expected = left_behind(trainer(4, alone(), backend, precision, **REGULARISED), 5)
    assert run(2, lambda ranks: left_behind(trainer(4, ranks, backend, precision, **REGULARISED), 5)) == [expected] * 2
    assert expected != left_behind(trainer(4, alone(), backend, precision), 5)


@pytest.mark.parametrize("kind", [OneAfterTheOther, Dropping])
def test_another_order_and_a_lost_part_are_seen(kind):
    expected = left_behind(trainer(4), 3)
    for made in run(4, lambda ranks: left_behind(trainer(4, ranks), 3), kind):
        assert made != expected


@pytest.mark.parametrize("changes", [{}, REGULARISED], ids=["plain", "dropout and flips"])
def test_parts_are_the_whole_batch(changes):
    """The loss is the mean of all, and the gradients are those of the whole to within rounding."""
    whole, in_parts = trainer(1, **changes), trainer(4, **changes)
    for each in (whole, in_parts):  # none of whose layers is at its quiet start
        each.parameters.values[...] += 0.05 * np.random.default_rng(0).standard_normal(each.parameters.count)
    one, other = whole.train_step(), in_parts.train_step()
    assert math.isclose(one.loss, other.loss, rel_tol=1e-5)
    assert math.isclose(one.grad_norm, other.grad_norm, rel_tol=1e-4)
    scale = np.abs(whole.parameters.grads).max()
    np.testing.assert_allclose(in_parts.parameters.grads, whole.parameters.grads, atol=1e-4 * scale, rtol=0)


def test_parts_that_do_not_fit():
    with pytest.raises(ValueError, match="batch must be a multiple of parts, 5, got 12"):
        trainer(5)
    with pytest.raises(ValueError, match="parts must be a multiple of the number of ranks, 2, got 3"):
        run(2, lambda ranks: trainer(3, ranks))


@pytest.mark.parametrize("change", [{"seed": 1}, {"model": {**MODEL, "groups": 2}}], ids=["seed", "model"])
def test_another_configuration_on_one_rank(change):
    def made(ranks):
        changed = change if ranks.rank else {}
        config = tiny.trainer(**{"model": MODEL, "parts": 2, **changed}).config
        Trainer(config, tiny.dataset(), backend_or_skip("numpy"), ranks=ranks)

    name = "seed" if "seed" in change else "model.groups"
    with pytest.raises(ValueError, match=f"all ranks must have the same {name}, got .* on rank 1, .* on rank 0"):
        run(2, made)


def test_other_data_on_one_rank():
    def made(ranks):
        images = tiny.dataset()
        data = Dataset(images.name, images.images, images.labels, 2, files_digest=str(ranks.rank))
        Trainer(tiny.trainer(parts=2).config, data, backend_or_skip("numpy"), ranks=ranks)

    with pytest.raises(ValueError, match="all ranks must have the same data set"):
        run(2, made)


def test_what_is_not_finite_is_found_in_its_part():
    def failing(ranks):
        one = trainer(4, ranks)
        one.train_step()
        before, backward = tiny.state(one), one.model.backward

        def overflowing(dy, cache):
            backward(dy, cache)
            if int(one.slot[0]) == 9:  # the first place of the last part
                one.parameters["conv_in.weight"].grad[...] = np.nan

        one.model.backward = overflowing
        with pytest.raises(
            NonFinite,
            match=r"training step 2: .* not finite is the gradient of conv_in.weight, in part 3 of 4 \(rank 1\)",
        ):
            one.train_step()
        assert tiny.state(one) == before and one.step == 1

    run(2, failing)
