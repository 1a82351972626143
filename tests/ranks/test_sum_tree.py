"""The sum over parts is one tree, whoever adds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ranks.threads import run
from tinydiff.backends.cores import fair_share
from tinydiff.ranks import alone


def values(parts, n=7):
    """One row a part, of numbers whose sum depends on the order."""
    return (10.0 ** np.random.default_rng(parts).uniform(-4, 4, (parts, n))).astype(np.float32)


def tree(rows):
    """The documented order, written once more."""
    if len(rows) == 1:
        return rows[0]
    half = 1
    while 2 * half < len(rows):
        half *= 2
    return tree(rows[:half]) + tree(rows[half:])


def sum_on(ranks, rows):
    """The sum as a rank has it, and which parts it computed."""
    flat, computed = np.full(rows.shape[1], np.nan, np.float32), []

    def compute(part):
        computed.append(part)
        flat[...] = rows[part]

    ranks.sum_tree(flat, len(rows), compute)
    return flat, computed


def divided():
    """(R, P) with R a divisor of P."""
    return st.integers(1, 8).flatmap(lambda R: st.tuples(st.just(R), st.integers(1, 6).map(lambda each: R * each)))


@given(divided())
def test_every_rank_has_the_same_bits_whatever_their_number(shape):
    R, P = shape
    rows = values(P)
    results = run(R, lambda ranks: sum_on(ranks, rows))
    for flat, _ in results:
        assert flat.tobytes() == tree(rows).tobytes()
    assert [part for _, computed in results for part in computed] == list(range(P))


def test_the_order_is_seen_in_the_bits():
    rows = values(6)
    assert tree(rows).tobytes() != rows.sum(axis=0).tobytes()
    assert tree(rows).tobytes() == ((rows[0] + rows[1]) + (rows[2] + rows[3]) + (rows[4] + rows[5])).tobytes()


@pytest.mark.parametrize("R", [2, 4, 8])
def test_a_power_of_two_of_ranks_exchanges_by_doubling(R):
    def sends(ranks):
        sum_on(ranks, values(2 * R))
        return ranks.sends

    assert run(R, sends) == [R.bit_length() - 1] * R


def test_parts_that_ranks_do_not_divide():
    for ranks in (run(2, lambda ranks: ranks)[0], alone()):
        if ranks.size > 1:
            with pytest.raises(ValueError, match="parts must be a multiple of the number of ranks, 2, got 3"):
                ranks.sum_tree(np.zeros(1, np.float32), 3, lambda part: None)
        else:
            ranks.sum_tree(np.zeros(1, np.float32), 3, lambda part: None)


def test_what_is_shared_out_is_shared_out_whole():
    for count in range(10):
        shares = run(4, lambda ranks: list(ranks.share(count)))
        assert sum(shares, []) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_what_ranks_do_not_agree_on_is_named():
    def differing(ranks):
        with pytest.raises(ValueError, match="all ranks must have the same seed, got 1 on rank 1, 0 on rank 0"):
            ranks.expect_same({"version": 1, "seed": int(ranks.rank == 1)})
        ranks.expect_same({"version": 1})

    run(3, differing)


def test_one_of_a_machine_goes_first():
    order = []
    run(3, lambda ranks: ranks.one_first(lambda: order.append(ranks.rank)))
    assert order[0] == 0 and sorted(order) == [0, 1, 2]


@pytest.mark.parametrize(
    "allowed, shares",
    [
        ([{0, 1}, {0, 1}], [1, 1]),  # both may run anywhere
        ([{0}, {1}], [1, 1]),  # bound by the launcher
        ([{0, 1, 2, 3}, {4, 5, 6, 7}], [4, 4]),
        ([set(range(8))] * 3, [2, 2, 2]),
        ([{0}] * 4, [1, 1, 1, 1]),
        ([{0, 1, 2}, {2}], [2, 1]),
    ],
)
def test_ranks_of_a_machine_share_its_cores(allowed, shares, monkeypatch):
    monkeypatch.setattr("tinydiff.backends.cores.share_of_cores", lambda: None)
    assert [fair_share(allowed, own) for own in range(len(allowed))] == shares


def test_ranks_of_a_container_share_its_time(monkeypatch):
    monkeypatch.setattr("tinydiff.backends.cores.share_of_cores", lambda: 2)
    assert fair_share([set(range(8))] * 2, 0) == 1
