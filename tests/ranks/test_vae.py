"""The number of ranks changes nothing of an autoencoder's run, of the scale of its latents, or of a run in them."""

import pytest

from tests.checks import backend_or_skip
from tests.ranks.threads import run
from tests.train import tiny, tiny_vae
from tinydiff.train import NonFinite
from tinydiff.train.latents import measured_scale


def left_behind(trainer, steps=6):
    return [trainer.train_step() for _ in range(steps)], tiny.state(trainer)


def autoencoder(ranks, backend="numpy", precision="fp32"):
    options = dict(parts=4, kl_weight=0.1, clip=0.5)
    return tiny_vae.trainer(backend=backend_or_skip(backend, precision), ranks=ranks, **options)


@pytest.mark.parametrize("backend, precision", [("numpy", "fp32"), ("cpu", "fp32"), ("cpu", "bf16")])
def test_same_bits_on_any_number_of_ranks(backend, precision):
    def made(ranks):
        trainer = autoencoder(ranks, backend, precision)
        return left_behind(trainer), measured_scale(trainer.codec, trainer.dataset.images, ranks=ranks)

    [expected] = run(1, made)
    for size in (2, 4):
        assert run(size, made) == [expected] * size


def test_the_scale_does_not_depend_on_who_measures_it(monkeypatch):
    monkeypatch.setattr("tinydiff.generate.PIXELS_AT_ONCE", 3 * 64)  # 40 images are 14 batches

    def measured(ranks):
        trainer = tiny_vae.trainer()
        return measured_scale(trainer.codec, trainer.dataset.images, ranks=ranks)

    assert len({*run(1, measured), *run(3, measured)}) == 1


def test_latents_on_any_number_of_ranks():
    data = tiny_vae.encoded(tiny_vae.measured())
    made = lambda ranks: left_behind(tiny_vae.latent_trainer(data, ranks=ranks, parts=4, label_dropout=0.3))
    [expected] = run(1, made)
    for size in (2, 4):
        assert run(size, made) == [expected] * size


def test_another_autoencoder_on_one_rank():
    each = [tiny_vae.encoded(tiny_vae.measured(steps=steps)) for steps in (0, 1)]
    with pytest.raises(ValueError, match="all ranks must have the same autoencoder, got .* on rank 1, .* on rank 0"):
        run(2, lambda ranks: tiny_vae.latent_trainer(each[ranks.rank], ranks=ranks, parts=2))


def test_another_weight_on_one_rank():
    with pytest.raises(ValueError, match="all ranks must have the same kl_weight, got 0.5 on rank 1, 0.1 on rank 0"):
        run(2, lambda ranks: tiny_vae.trainer(ranks=ranks, parts=2, kl_weight=0.5 if ranks.rank else 0.1))


def test_what_is_not_finite_is_found_in_its_part():
    def failing(ranks):
        trainer = autoencoder(ranks)
        trainer.train_step()
        before, backward = tiny.state(trainer), trainer.model.backward

        def overflowing(*arguments, **options):
            backward(*arguments, **options)
            if int(trainer.slot[0]) == 6:  # the first place of the last part
                trainer.parameters["decoder.conv_in.weight"].grad[...] = float("nan")

        trainer.model.backward = overflowing
        with pytest.raises(NonFinite, match=r"gradient of decoder.conv_in.weight, in part 3 of 4 \(rank 1\)"):
            trainer.train_step()
        assert tiny.state(trainer) == before and trainer.step == 1

    run(2, failing)
