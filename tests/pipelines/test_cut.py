"""Order and counts among very many numbers, against sorting them all."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.cut import cut_at, more_than, narrow

FINITE = st.floats(allow_nan=False, allow_infinity=False)
SINGLE = st.floats(allow_nan=False, allow_infinity=False, width=32)
VALUES = st.lists(st.one_of(st.sampled_from([0.0, -0.0, 0.5, -0.5, 5e-324, 1.7e308]), FINITE, SINGLE), min_size=1)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_the_cut_is_that_of_the_sorted_values(pieces: list[list[float]], data: st.DataObject) -> None:
    whole = sorted((value for piece in pieces for value in piece), reverse=True)
    place = data.draw(st.integers(1, len(whole)))
    value, above, equal = cut_at([narrow(np.array(piece)) for piece in pieces], place)
    assert value == whole[place - 1]
    assert above == sum(each > value for each in whole)
    assert equal == whole.count(value)


def test_values_are_narrow_only_where_nothing_is_lost() -> None:
    assert narrow(np.array([0.5, -3.0])).dtype == np.float32
    for value in (0.1, 1e300, 2.0**-160):
        assert narrow(np.array([0.5, value])).dtype == np.float64


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 6)), max_size=4), st.integers(1, 4))
def test_values_that_stand_too_often(pieces: list[list[int]], at_most: int) -> None:
    counts = Counter(value for piece in pieces for value in piece)
    found, often = more_than([np.array(piece, np.uint64) for piece in pieces], at_most)
    assert found.tolist() == sorted(value for value, num in counts.items() if num > at_most)
    assert often.tolist() == [counts[value] for value in found.tolist()]
