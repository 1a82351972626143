"""Training on captions: what labels and the null label stand for, the same bits however it is done, what is kept."""

import numpy as np
import pytest

from tests.checks import COMPILED, assert_close, backend_or_skip
from tests.text.folders import write_bert, write_clip
from tests.train import tiny
from tinydiff import backends, text
from tinydiff.data.dataset import Captioned
from tinydiff.generate import Trajectory
from tinydiff.model.transformer_block import Context
from tinydiff.model.unet import UNetConfig
from tinydiff.train import TrainConfig, Trainer, texts

pytest.importorskip("tokenizers", reason="needs tokenizers: pip install 'tinydiff[text]'")
pytestmark = pytest.mark.usefixtures("own_cache")
CAPTIONS = ["a red circle", "a blue 7 above a small circle"]


@pytest.fixture(params=[write_bert, write_clip])
def encoder(request, tmp_path):
    return text.load(request.param(tmp_path / "encoder"), backends.get("numpy"))


def texted(encoder, n=40, **options):
    bars = tiny.dataset(n)
    data = Captioned.of("bars", bars.images, [CAPTIONS[label] for label in bars.labels])
    return texts.encode(data, encoder, **{"say": lambda _: None, **options})


def trainer(data, encoder, backend="numpy", **changes):
    model = {**tiny.MODEL, "classes": 0, "context_width": encoder.width, "head_width": 4}
    config = dict(data="bars", batch=8, steps=20, noise_steps=50, learning_rate=2e-3, warmup_steps=5, label_dropout=0.3)
    config = TrainConfig(model=UNetConfig(**model), text=encoder.fingerprint, **{**config, **changes})
    return Trainer(config, data, backends.get(backend))


def test_labels_choose_texts_and_the_null_label_the_empty_one(encoder):
    made = trainer(texted(encoder), encoder)
    model, wanted = made.model, encoder.encode([*CAPTIONS, ""])
    assert model.classes == 2 and made.dataset.labels.max() == 1
    rng = np.random.default_rng(0)
    model.parameters.values[...] = rng.standard_normal(model.parameters.count) / 4
    x, step = rng.standard_normal((3, 8, 8, 1)).astype(np.float32), np.full(3, 7, np.float32)
    labels = np.array([2, 0, 1])  # the null label first
    y, _ = model.forward(x, step, labels)
    assert_close(y, model.predict(x, step, context=Context(*(None if e is None else e[labels] for e in wanted))), 1e-6)
    assert np.abs(model.predict(x, step, np.array([2, 1, 0])) - y)[1:].min(axis=0).max() > 1e-4


def test_it_learns_what_its_captions_say(encoder):
    """Of much noise alone, the right caption tells more than the other one."""
    made = trainer(texted(encoder), encoder, "auto", steps=400, label_dropout=0.0, learning_rate=5e-3)
    for _ in range(400):
        made.train_step()
    signal = made.schedule.alpha_bar[40] ** 0.5
    noise = (1 - signal**2) ** 0.5
    images, labels = made.dataset.images / np.float32(127.5) - 1, made.dataset.labels
    eps = np.random.default_rng(0).standard_normal(images.shape)
    x, target = (signal * images + noise * eps).astype(np.float32), signal * eps - noise * images
    step = np.full(len(x), 40, np.float32)
    errors = [np.mean((made.model.predict(x, step, each) - target) ** 2) for each in (labels, 1 - labels)]
    assert errors[0] < 0.9 * errors[1]


def test_resumed_in_parts_and_captured_it_leaves_the_same_bits(encoder):
    data = texted(encoder)
    whole, resumed = trainer(data, encoder, "auto"), trainer(data, encoder, "auto")
    for _ in range(4):
        whole.train_step()
    for _ in range(2):
        resumed.train_step()
    again = trainer(data, encoder, "auto")
    again.restore(resumed.checkpoint())
    for _ in range(2):
        again.train_step()
    assert tiny.state(again) == tiny.state(whole)
    config = TrainConfig(**{**whole.config.to_dict(), "model": whole.config.model})
    bare = Trainer(config, data, whole.backend, captured=False)
    for _ in range(4):
        bare.train_step()
    assert tiny.state(bare) == tiny.state(whole)


def test_drawing_by_prompts(encoder):
    made = trainer(texted(encoder), encoder)
    made.train_step()
    model = made.averaged_model
    model.parameters.values[...] = np.random.default_rng(0).standard_normal(model.parameters.count) / 4

    def draw(prompts, guidance=2.0):
        model.texts = texts.on_backend(encoder.encode([*prompts, texts.NULL]), made.backend)
        options = dict(steps=3, guidance=guidance, clip=None)
        return (
            Trajectory(model, made.schedule, "v", len(prompts), **options).draw(np.arange(len(prompts)), seed=3).copy()
        )

    both = draw(CAPTIONS)
    assert_close(draw(CAPTIONS[:1]), both[:1], 1e-4)
    assert np.abs(draw([CAPTIONS[1]] * 2)[0] - both[0]).max() > 1e-3
    assert_close(draw([""], guidance=3.0), draw([""], guidance=1.0), 1e-4)  # what guidance leads away from


def test_texts_are_encoded_once(encoder, monkeypatch):
    first = texted(encoder)
    monkeypatch.setattr(encoder, "tokens", None)
    again = texted(encoder)
    assert np.array_equal(first.context.tokens, again.context.tokens)
    assert first.context.tokens.shape[0] == 3 and not first.context.tokens.flags.writeable
    with pytest.raises(TypeError):
        texted(encoder, cache=False)
    monkeypatch.setattr(encoder, "fingerprint", "another")
    with pytest.raises(TypeError):
        texted(encoder)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name, fits", [("numpy", False), *((name, True) for name in ("numpy", *COMPILED))])
def test_an_image_with_several_texts_is_kept_once_and_learned_from_as_if_it_were_copied(
    tmp_path, monkeypatch, name, fits, parts
):
    encoder = text.load(write_bert(tmp_path), backends.get("numpy"))
    bars, image_of = tiny.dataset(12), np.arange(12).repeat(np.arange(12) % 3 + 1)
    said = [CAPTIONS[i % 2] for i in range(len(image_of))]
    copied = Captioned.of("bars", bars.images[image_of], said)
    once = Captioned.of("bars", bars.images, said, image_of=image_of)
    assert once.identity == copied.identity and len(once) == len(copied) == 24
    backend, found = backend_or_skip(name), []
    if not fits:
        monkeypatch.setattr(type(backend), "has_room_for", lambda self, nbytes: False)
    for data in (copied, once):
        made = trainer(texts.encode(data, encoder, say=lambda _: None), encoder, name, parts=parts)
        found.append(([made.train_step() for _ in range(3)], tiny.state(made)))
    assert found[0] == found[1]
