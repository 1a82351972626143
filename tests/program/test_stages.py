"""A sampler's way in stages is the sampler's way, to the bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checks import same_bits
from tests.train import tiny
from tinydiff import backends
from tinydiff.generate import IMAGE_RANGE, Trajectory
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import predictions, schedules
from tinydiff.program import file, web
from tinydiff.program.stages import MEMORYLESS, MOST_NUMBERS, Stages
from tinydiff.samplers import SAMPLERS

STEPS = range(1, 9)
UNCLIPPED = "x0", None
SCHEDULE = schedules.get("cosine", 50)


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("tinydiff.backends.cpu")
    made = UNet(UNetConfig(**tiny.MODEL), backends.get("cpu"))
    made.parameters.initialise(0)
    made.parameters.values += np.random.default_rng(0).standard_normal(made.parameters.count, np.float32) * 0.02
    return made


@pytest.fixture(scope="module")
def drawing(model, tmp_path_factory):
    """{prediction: (programs of a file, ways)}."""
    from tinydiff.backends.stored import StoredPrograms

    made = {}
    for kind, clip in [*((kind, IMAGE_RANGE) for kind in predictions.KINDS), UNCLIPPED]:
        recordings, ways = web.drawing(model, SCHEDULE, kind, 2, dict.fromkeys(SAMPLERS, STEPS), clip=clip)
        folder = tmp_path_factory.mktemp(kind) / "programs"
        file.write(folder, file.gather(recordings))
        made[kind if clip else UNCLIPPED] = StoredPrograms(folder), ways
    return made


def test_what_a_sampler_goes_back_to_is_no_later_prediction(model, drawing):
    """Where the prediction is x0_hat itself, the array of the one is overwritten by the next."""
    programs, ways = drawing[UNCLIPPED]
    for sampler in SAMPLERS:
        want = Trajectory(model, SCHEDULE, "x0", 2, sampler=sampler, steps=4, clip=None).draw([1, 0], seed=5)
        assert same_bits(draw(programs, ways[sampler][4], [1, 0], 1, 5, 0), want), sampler


def draw(programs, way, labels, guidance, seed, first):
    """As ``tinydiff/site/drawing.js`` does."""
    count = len(labels)
    programs.set("labels", [2] * count if guidance == 0 else labels)
    programs.set("seed", np.array([seed], np.uint64))
    programs.set("sample", first + np.arange(count))
    programs.run("start")
    is_guided = guidance not in (0, 1)
    if is_guided:
        programs.set("guidance", guidance)
    for number, (stage, step, numbers) in enumerate(way):
        programs.set("step", [step] * count)
        programs.run("predict_guided" if is_guided else "predict")
        programs.set("numbers", [*numbers, *[0] * (MOST_NUMBERS - len(numbers))])
        programs.set("draw", [number])
        programs.run(stage)
    return programs.get("x")


@pytest.mark.parametrize("guidance", [0, 1, 2.5])
def test_a_network_that_takes_guidance_is_given_it_and_asked_once(tmp_path, guidance):
    """To the bits of a ``Trajectory``, by a page that guides others itself."""
    stored = pytest.importorskip("tinydiff.backends.stored")
    told = UNet(UNetConfig(**tiny.MODEL, guidance_width=4), backends.get("cpu"))
    told.parameters.values[...] = np.random.default_rng(0).standard_normal(told.parameters.count, np.float32) / 4
    recordings, ways = web.drawing(told, SCHEDULE, "v", 2, {"ddim": [2]})
    file.write(tmp_path / "programs", file.gather(recordings))
    drawn = draw(stored.StoredPrograms(tmp_path / "programs"), ways["ddim"][2], [0, 1], guidance, 5, 0)
    labels = [0, 1] if guidance else [2, 2]
    trajectory = lambda w: Trajectory(told, SCHEDULE, "v", 2, steps=2, guidance=w).draw(labels, seed=5).copy()
    # without guidance a page asks for no label at all, of which any guidance makes the same in a student that is taught
    assert same_bits(drawn, trajectory(guidance or 1)) and not np.array_equal(drawn, trajectory(4))


@settings(max_examples=60)
@given(
    kind=st.sampled_from(predictions.KINDS),
    sampler=st.sampled_from(list(SAMPLERS)),
    steps=st.sampled_from(STEPS),
    guidance=st.sampled_from([0.0, 1.0, 0.5, 3.7]),
    seed=st.integers(0, 2**64 - 1),
)
def test_stages_give_the_bits_of_the_sampler(kind, sampler, steps, guidance, seed, model, drawing):
    options = dict(sampler=sampler, steps=steps, guidance=guidance)
    want = Trajectory(model, SCHEDULE, kind, 2, **options).draw([1, 0], seed=seed, first=3)
    programs, ways = drawing[kind]
    assert same_bits(draw(programs, ways[sampler][steps], [1, 0], guidance, seed, 3), want)


def test_stages_are_few(model, drawing):
    for programs, ways in drawing.values():
        assert len(programs.stored.programs) < 50
        assert all(len(ways[sampler][steps]) in (steps, 2 * steps - 1) for sampler in SAMPLERS for steps in STEPS)


@pytest.mark.parametrize("sampler", MEMORYLESS)
def test_steps_apart_are_the_sampler_and_begin_anywhere(sampler, model, tmp_path):
    from tinydiff.backends.stored import StoredPrograms

    recordings, ways = web.drawing(model, SCHEDULE, "v", 2, {sampler: (6,)}, apart=True)
    file.write(tmp_path / "programs", file.gather(recordings))
    programs, way = StoredPrograms(tmp_path / "programs"), ways[sampler][6]
    states = list(Trajectory(model, SCHEDULE, "v", 2, sampler=sampler, steps=6).states([1, 0], seed=4))
    for first in (0, 3, 5):
        programs.set("labels", [1, 0])
        programs.set("seed", np.array([4], np.uint64))
        programs.set("sample", [0, 1])
        programs.set("x", states[first].x)  # as the one before has left something else
        for number in range(first, 6):
            stage, step, numbers = way[number]
            programs.set("step", [step] * 2)
            programs.run("predict")
            programs.set("numbers", [*numbers, *[0] * (MOST_NUMBERS - len(numbers))])
            programs.set("draw", [number])
            programs.run(stage)
        assert same_bits(programs.get("x"), states[-1].x), first


def test_samplers_that_remember_have_no_steps_apart():
    stages = Stages(backends.get("numpy"), SCHEDULE, "eps", (1, 2), clip=None)
    with pytest.raises(ValueError, match=r"apart are the steps of ddpm and ddim alone, not those of dpm\+\+"):
        stages.way("dpm++", 4, apart=True)


def test_a_dropped_number_is_seen(model, drawing):
    programs, ways = drawing["v"]
    way = ways["ddim"][3]
    want = draw(programs, way, [1, 0], 1, 0, 0).copy()
    stage, step, numbers = way[1]
    for place in range(len(numbers)):
        other = [*numbers[:place], 0.3, *numbers[place + 1 :]]
        assert not same_bits(draw(programs, [way[0], (stage, step, other), way[2]], [1, 0], 1, 0, 0), want)


def test_options_of_a_sampler_go_to_it():
    stages = Stages(backends.get("numpy"), SCHEDULE, "eps", (1, 2), clip=None)
    still, noisy = stages.way("ddim", 4), stages.way("ddim", 4, eta=1.0)
    assert still[0].stage != noisy[0].stage
    calls = stages.recordings[noisy[0].stage].program.calls
    assert [call.op for call in calls].count("philox") == 1
