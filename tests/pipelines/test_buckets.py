"""Rows in ranges of a number come back whole and in order."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import buckets
from pipelines.buckets import Buckets, even_bounds


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=6),
    st.lists(st.integers(0, 31), max_size=5, unique=True),
    st.sampled_from([1, 5, 1000]),
)
def test_rows_come_back_by_rising_numbers(pieces: list[list[int]], bounds: list[int], pending: int) -> None:
    rows = [(number, f"row {n}") for n, number in enumerate(number for piece in pieces for number in piece)]
    cuts = sorted(bounds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_PENDING_ROWS", pending)
        with Buckets(None, np.array(cuts, np.int64)) as gathered:
            start = 0
            for piece in pieces:
                names = [name for _, name in rows[start : start + len(piece)]]
                table = pa.table({"number": pa.array(piece, pa.int32()), "name": pa.array(names, pa.string())})
                gathered.add(np.array(piece, np.int32), table)
                start += len(piece)
            found = [list(map(tuple, map(dict.values, table.to_pylist()))) for table in gathered.tables()]
    expected = [[row for row in rows if sum(cut <= row[0] for cut in cuts) == place] for place in range(len(cuts) + 1)]
    assert found == [bucket for bucket in expected if bucket]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    with Buckets(tmp_path / "spill", np.array([2])) as gathered:
        gathered.add(np.array([1, 2]), pa.table({"a": [1, 2]}))
        assert next(gathered.tables()).to_pydict() == {"a": [1]}
    assert list((tmp_path / "spill").iterdir()) == []


@pytest.mark.parametrize(
    "numbers", [[], [3], [0, 0, 0, 0, 9], list(range(1000)), [random.Random(n).randrange(99) ** 2 for n in range(5000)]]
)
def test_bounds_are_even_as_far_as_numbers_allow(numbers: list[int]) -> None:
    rows = max(1, len(numbers) // 10)
    bounds = even_bounds(np.array(numbers, np.int32), rows, most=8)
    assert len(bounds) < 8
    assert sorted(set(bounds.tolist())) == bounds.tolist()
    sizes = np.bincount(np.searchsorted(bounds, numbers, side="right"), minlength=1) if numbers else np.zeros(1)
    most_common = max((numbers.count(n) for n in set(numbers)), default=0)
    assert sizes.max() <= 2 * rows + most_common
