import inspect

import numpy as np
import pytest

from tinydiff.gradcheck import terms
from tinydiff.gradcheck.check import compared
from tinydiff.gradcheck.table import ROWS

TERMS = [(row, term) for row in ROWS.values() for term in row.terms]


@pytest.mark.parametrize("row, term", TERMS, ids=[f"{row.name}-{term}" for row, term in TERMS])
def test_a_term_left_out_is_caught(row, term):
    assert terms.lines(row, term)
    twin = terms.without(row, term)
    wrong = (not error.error <= limit for case in row.cases for _, error, limit in compared(case, twin))
    assert any(wrong)


def test_what_is_composed_of_several_parts_has_terms():
    assert all(row.terms for row in ROWS.values() if row.kind != "layer")


def test_the_module_itself_stays_as_it_is():
    row = ROWS["group_norm"]
    before = inspect.getsource(row.module), row.module.backward
    assert terms.without(row, "through_mean") is not row.module
    assert (inspect.getsource(row.module), row.module.backward) == before
    assert all(np.all(error.error <= limit) for _, error, limit in compared(row.cases[0], row.module))


def test_an_unknown_term_names_those_there_are():
    with pytest.raises(
        ValueError, match="break: linear has no term 'through_mean' in its backward; its terms are dx, dw, db"
    ):
        terms.without(ROWS["linear"], "through_mean")
    with pytest.raises(ValueError, match="it has none: break the op that it calls"):
        terms.without(ROWS["Linear"], "dx")


def test_a_term_of_the_table_that_no_code_has_is_an_error():
    row = ROWS["linear"]._replace(terms=("dz",))
    with pytest.raises(LookupError, match="linear: no statement gives dz its value"):
        terms.without(row, "dz")
