"""What the lesson states follows from Python's schedules, and what its modules compute has Python's bits."""

import base64
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.checks import same_bits
from tests.site.hosts import Node
from tinydiff.metrics import classifier
from tinydiff.model.unet import UNet
from tinydiff.noise import predictions, schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.noise.schedules import CLEAN, Schedule
from tinydiff.ops import mse_loss, philox
from tinydiff.ops.corrupt import bytes_to_signed
from tinydiff.pages import PREDICTIONS, build, digits, lesson, lesson_questions, shipped
from tinydiff.program import file
from tinydiff.samplers.ddim import ddim
from tinydiff.samplers.ddpm import ddpm

SEED, LABEL = 11, 4
DRIVER = Path(__file__).parent / "lesson_driver.js"
SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def checkpoint():
    return shipped.load()


@pytest.fixture(scope="module")
def schedule(checkpoint):
    return schedules.get(checkpoint.config.schedule, checkpoint.config.noise_steps)


@pytest.fixture(scope="module")
def data(checkpoint):
    return json.loads(json.dumps(lesson.data(checkpoint)))


@pytest.fixture(scope="module")
def stored(checkpoint):
    return lesson.programs(checkpoint)


def denoiser(backend, label):
    """x, step -> x0_hat of the shipped model; its ``predict`` says what that predicts."""
    checkpoint = shipped.load()
    config, model = checkpoint.config, UNet(checkpoint.config.model, backend)
    model.parameters.load(model.parameters.values, checkpoint.parts[shipped.PART])

    def predict(x, step):
        return model.predict(x, np.full(1, step, np.float32), np.array([label]))

    schedule = schedules.get(config.schedule, config.noise_steps)
    made = predictions.denoiser(predict, schedule, config.prediction, clip=(-1, 1))
    made.predict = predict
    return made


@pytest.fixture(scope="module")
def denoise(baseline):
    """For ``LABEL``."""
    return denoiser(baseline, LABEL)


@pytest.fixture(scope="module")
def folder(stored, tmp_path_factory):
    path = tmp_path_factory.mktemp("lesson") / "programs"
    file.write(path, stored)
    return path


@pytest.fixture
def do(folder, data):
    """Does things with the lesson's model in node, {after it was loaded}."""
    host = Node(driver=DRIVER)
    return lambda *steps: host.do(["load", host.address(folder / file.PROGRAM), data], *steps)[1:]


def normal(purpose, draw, seed=SEED):
    return philox.forward(seed, purpose, np.zeros(1, np.int64), draw, SHAPE, kind="normal")


def real(digit):
    return bytes_to_signed(lesson.real_digits()[digit].reshape(1, *SHAPE))


def test_the_facts_that_lessons_get_wrong(checkpoint):
    facts = lesson.facts(checkpoint)
    assert facts["linear_end"] == "4.04 × 10<sup>−5</sup>" and facts["linear_end_db"] == "−43.9 dB"
    assert facts["unscaled_end"] == "0.13" and facts["hundred_end"] == "0.36" and facts["one_in_e"] == "0.37"
    beta = np.linspace(1e-4, 0.02, 1000)
    assert float(facts["linear_total"]) == round(beta.sum(), 2)
    assert np.prod(1 - beta) == pytest.approx(4.036e-5, rel=1e-3)
    assert math.exp(-beta.sum()) == pytest.approx(4.32e-5, rel=1e-3)
    assert facts["T"] == str(checkpoint.config.noise_steps) and facts["ends"].count("<tr>") == 5
    assert facts["ends"].count("<td>no</td>") == 2


def test_the_tables_are_those_of_the_schedules(data, schedule):
    found = data["schedule"]
    assert (found["name"], found["T"]) == (schedule.name, schedule.T)
    wanted = dict(zip(("x0_coefficient", "x_coefficient", "variance"), schedule.posterior))
    wanted |= {name: getattr(schedule, name) for name in ("signal_rate", "noise_rate", "snr_db")}
    for name, table in wanted.items():
        assert same_bits(np.float32(found[name]), table.astype(np.float32)), name


def test_the_compared_schedules(data):
    stops = data["schedules"]
    unscaled = Schedule("", np.linspace(1e-4, 0.02, 200))
    for name, known in {"linear": schedules.linear(), "cosine": schedules.cosine(), "unscaled": unscaled}.items():
        for stop in (1, 50, 100):
            step = known.T * stop // 100 - 1
            for table in ("signal_rate", "noise_rate", "snr_db"):
                want = getattr(known, table)[step]
                assert stops[name][table][stop - 1] == pytest.approx(want, rel=1e-6), (name, stop)


def test_small_steps_amount_to_the_jump(data, schedule):
    signal, noise = 1.0, 0.0
    for step, keeps, adds in data["chain"]:
        signal, noise = signal * keeps, math.hypot(noise * keeps, adds)
        assert (signal, noise) == pytest.approx(schedule.rates(step), rel=1e-5), step
    assert [step for step, *_ in data["chain"]] == sorted(schedule.grid(lesson.TRIP).astype(int).tolist())


def test_where_too_much_signal_is_left(data, schedule):
    at = data["chain"][lesson.TRIP - 1 - data["early"]][0]
    unscaled = schedules.Schedule("", np.linspace(1e-4, 0.02, 200))
    assert abs(schedule.snr_db[at] - unscaled.snr_db[-1]) < 1


def test_the_digits(data):
    images = lesson.real_digits()
    assert images.shape == (10, 28, 28) and images.dtype == np.uint8
    assert classifier.classify(bytes_to_signed(images[..., None])).tolist() == list(range(10))
    decoded = [np.frombuffer(base64.b64decode(text), np.uint8) for text in data["digits"]]
    assert np.array_equal(np.reshape(decoded, images.shape), images)


def test_weights_are_shared_with_the_page_of_digits_where_it_has_the_same_model(checkpoint):
    shared, own = lesson.make(checkpoint), lesson.make(None)
    assert set(shared[1]) == {lesson.DATA, lesson.PROGRAM} and shared[0]["program"] == lesson.PROGRAM
    assert set(own[1]) == {lesson.DATA, "lesson/program.json", "lesson/weights.safetensors"}
    assert own[0]["program"] == "lesson/program.json"
    weights = digits.programs(checkpoint)[f"{digits.FOLDER}/{file.WEIGHTS}"]
    assert own[1]["lesson/weights.safetensors"] == weights


def test_every_question_has_one_right_answer_and_explains_all(checkpoint):
    questions = lesson_questions.QUESTIONS
    assert len(questions) == 7
    for question in questions:
        assert sum(answer.right for answer in question.answers) == 1 and len(question.answers) >= 3
        assert all(answer.why.strip() for answer in question.answers)
    html = lesson_questions.as_html(lesson.facts(checkpoint))
    assert html.count("data-right") == 7 and not re.search(r"\{\w+\}|\\\(", html)
    assert len({[answer.right for answer in question.answers].index(True) for question in questions}) > 1


def test_noise_is_the_corruptors(do, schedule, baseline):
    corrupt = Corruptor(schedule, "eps", "simple", baseline)
    steps = [0, 57, schedule.T - 1]
    clean = real(LABEL)
    rates = do(*(["rates", step] for step in steps))
    found = do(*(["noise", clean.ravel(), each, {"seed": SEED, "draw": 3}] for each in rates))
    for step, each in zip(steps, found, strict=True):
        want = corrupt(clean, normal("noise", 3), np.array([step]))
        assert same_bits(each["noisy"], want.x.ravel()) and same_bits(each["eps"], want.target.ravel())


def test_one_step_back(do, schedule, denoise, checkpoint):
    """The noisy image is made here, and so are the posterior's terms."""
    step = 120
    a, s = np.float32(schedule.rates(step))
    clean, eps = real(LABEL), normal("noise", 0)
    x = a * clean + s * eps
    entry = schedule.T - 1 - step
    back = dict(x=x.ravel(), label=LABEL, sampler="ddpm", steps=schedule.T, seed=SEED)
    [found, last] = do(["back", {**back, "from": entry}], ["back", {**back, "from": schedule.T - 1}])
    x0_hat, prediction = denoise(x, step), denoise.predict(x, step)
    assert found["step"] == step and same_bits(found["prediction"], prediction.ravel())
    assert same_bits(found["x0Hat"], x0_hat.ravel())
    x0_coefficient, x_coefficient, variance = (table[step] for table in schedule.posterior)
    want = x0_coefficient * x0_hat + x_coefficient * x + math.sqrt(variance) * normal("sampler", entry)
    assert np.abs(found["x"] - want.ravel()).max() < 2e-6
    assert same_bits(last["x"], denoise(x, 0).ravel())  # without noise
    said = dict(prediction=prediction.ravel(), noisy=x.ravel(), clean=clean.ravel(), eps=eps.ravel())
    said["rates"] = [a.item(), s.item()]
    [compared] = do(["compare", said])
    kind = checkpoint.config.prediction
    guessed = predictions.split(kind, prediction, x, a, s)
    assert same_bits(compared["x0_guess"], guessed[0].ravel()) and same_bits(compared["eps_guess"], guessed[1].ravel())
    for each in PREDICTIONS:
        as_said = predictions.convert(kind, each, prediction, x, a, s)
        want, _ = mse_loss.forward(as_said, predictions.join(each, clean, eps, a, s))
        assert compared[f"error_{each}"].item() == pytest.approx(want, rel=1e-5), each
    snr = (a / s) ** 2
    error = {each: compared[f"error_{each}"].item() for each in PREDICTIONS}
    assert error["eps"] == pytest.approx(snr * error["x0"], rel=1e-3)
    assert error["v"] == pytest.approx((snr + 1) * error["x0"], rel=1e-3)


@pytest.mark.parametrize(("sampler", "run"), [("ddim", ddim), ("ddpm", ddpm)])
def test_all_the_way_back_from_the_start_and_from_the_middle(sampler, run, do, schedule, denoise):
    grid, x = schedule.grid(lesson.TRIP), normal("start", 0)
    states = list(run(denoise, x, schedule, grid, noise=lambda i: normal("sampler", i)))
    options = dict(label=LABEL, sampler=sampler, seed=SEED)
    middle, early = states[25], dict(x=np.ones(784, np.float32), **options)
    start, whole, rest, both = do(
        ["start", SEED],
        ["walk", dict(x=x.ravel(), **options)],
        ["walk", {"x": middle.x.ravel(), "from": 25, **options}],
        ["walks", dict(x=x.ravel(), **options), early],
    )
    assert same_bits(start, x.ravel())
    assert len(whole) == lesson.TRIP and len(rest) == lesson.TRIP - 25
    for part, state, following in zip(whole, states, states[1:]):
        assert part["step"] == state.step and same_bits(part["x"], following.x.ravel())
    assert states[-1].step == CLEAN and same_bits(rest[-1]["x"], states[-1].x.ravel())
    assert same_bits(both[0][-1]["x"], states[-1].x.ravel())  # whoever else walks meanwhile


def test_the_judge(do):
    [odds] = do(["judge", real(LABEL).ravel()])
    assert np.argmax(odds) == LABEL and sum(odds) == pytest.approx(1)


def test_images_patterns_and_strokes():
    bytes_ = np.arange(256, dtype=np.uint8)
    names = ["checkerboard", "stripes", "ring", "gradient"]
    found, *patterns, dot, line, nothing = Node(driver=DRIVER).do(
        ["signed", bytes_],
        *(["pattern", name] for name in names),
        ["strokes", [[14, 14], [14, 14]]],
        ["strokes", [[4, 14], [24, 14]]],
        ["strokes"],
    )
    assert same_bits(found, bytes_to_signed(bytes_))
    board, stripes, ring, gradient = (each.reshape(28, 28) for each in patterns)
    assert set(board.ravel()) == {0, 255} and board[0, 0] == 0 == board[7, 7] and board[0, 7] == 255
    assert board.mean() == 127.5
    assert (stripes == stripes[0]).all() and stripes[0, 3] == 0 and stripes[0, 4] == 255
    assert ring[14, 14] == 0 == ring[0, 0] and ring[14, 22] == 255 and np.array_equal(ring, ring.T)
    assert gradient[5, 0] == 0 and gradient[5, 27] == 255 and (np.diff(gradient[5].astype(int)) > 0).all()
    (drawn, is_empty), (across, _) = dot, line
    drawn, across = drawn.reshape(28, 28), across.reshape(28, 28)
    assert not is_empty and drawn[13:15, 13:15].min() > 250 and drawn[13, 12] == drawn[14, 15] > 0 == drawn[14, 11]
    assert (across[13:15, 4:24] == 255).all() and across[:11].max() == 0 == across[17:].max() and across[14, 27] == 0
    assert nothing[1] is True and not nothing[0].any()


def test_progress_is_kept_and_mends_what_is_not_its_own():
    answers = {"q1": {"choice": 1, "right": True}, "q9": {}, "q2": 5}
    done = json.dumps({"tried": ["what", "nonsense"], "answers": answers})
    right = [["answered", f"q{number}", 0, True] for number in range(1, 8)]
    new, restored, damaged, forbidden, complete, forgotten = Node(driver=DRIVER).do(
        ["progress", None, ["tried", "what"], ["tried", "what"], ["answered", "q3", 2, False]],
        ["progress", done],
        ["progress", "{"],
        ["progress", "forbidden", ["tried", "forward"]],
        ["progress", None, *right],
        ["progress", None, *right, ["forget"]],
    )
    assert new["state"] == {"tried": ["what"], "answers": {"q3": {"choice": 2, "right": False}}}
    assert new["heard"] == [0, 0] and json.loads(new["text"]) == new["state"] and new["isKept"]
    assert restored["state"] == {"tried": ["what"], "answers": {"q1": {"choice": 1, "right": True}}}
    assert damaged["state"] == {"tried": [], "answers": {}}
    assert forbidden["triedSections"] == ["forward"] and not forbidden["isKept"]
    assert complete["isComplete"] and complete["rightAnswers"] == 7 and not new["isComplete"]
    assert not forgotten["isComplete"] and json.loads(forgotten["text"]) == {"tried": [], "answers": {}}


def test_numbers_as_one_writes_them():
    [found] = Node(driver=DRIVER).do(["digits", [0, 0.92, 1, 0.0236, 123.4, 401.2, 0.00000123, -0.782, 54321]])
    assert found == ["0", "0.920", "1.00", "0.0236", "123", "401", "1.23 × 10⁻⁶", "−0.782", "5.43 × 10⁴"]


def test_its_size(checkpoint):
    files = build.contents()
    own = {name: len(content) for name, content in files.items() if "lesson" in name}
    data = own.pop(lesson.DATA) + own.pop(lesson.PROGRAM)
    assert data <= 40_000, data
    assert sum(own.values()) <= 102_000, own
