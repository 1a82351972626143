import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.program.test_captured import RATIO
from tinydiff import backends
from tinydiff.program import plan, runs
from tinydiff.train.presets import PRESETS

spans = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(1, 50)).map(lambda x: (x[0], x[0] + x[1], 64 * x[2])),
    max_size=40,
)


@given(spans)
def test_what_lives_at_one_time_has_places_of_its_own(spans):
    offsets, size = plan.arrange(spans)
    for i, (first, last, bytes) in enumerate(spans):
        assert 0 <= offsets[i] <= size - bytes
        for j in range(i):
            begins, ends, others = spans[j]
            if begins <= last and ends >= first:
                assert offsets[j] + others <= offsets[i] or offsets[i] + bytes <= offsets[j]


@given(spans)
def test_the_lower_bound(spans):
    live = [sum(size for first, last, size in spans if first <= now <= last) for now in range(81)]
    assert plan.lower_bound(spans) == max(live)
    assert plan.arrange(spans)[1] >= max(live)


def test_by_hand():
    assert plan.arrange([]) == ([], 0)
    # the two of 64 take the place of the one of 128 that ends before them
    assert plan.arrange([(0, 1, 128), (1, 3, 64), (2, 3, 64), (2, 3, 64)]) == ([0, 128, 0, 64], 192)
    # by size 576: the one of 192, which is soon over, takes a place that two of 128 need later
    assert plan.arrange([(0, 2, 128), (1, 1, 128), (1, 1, 128), (0, 0, 192), (0, 2, 128)])[1] == 512


@pytest.mark.parametrize("what", ["predict", "sample", "train"])
@pytest.mark.parametrize("preset", ["laptop", "small"])
def test_the_presets_need_hardly_more_than_lives_at_one_time(preset, what):
    options = dict(steps=3, guidance=2.0) if what == "sample" else {}
    program = runs.of_config(PRESETS[preset].config, backends.get("auto"), what, count=4, **options).program
    program.check()
    live = np.zeros(len(program.calls), np.int64)
    for each in program.temporaries:
        live[each.first : each.last + 1] += each.nbytes
    assert program.arena <= RATIO * live.max()
    assert program.arena < 0.5 * sum(each.nbytes for each in program.temporaries)
