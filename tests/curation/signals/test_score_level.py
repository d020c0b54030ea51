"""Levels of a score against sorting all texts by score and uid."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.signals.score_level import ScoreLevel

SCORES = st.one_of(
    st.sampled_from([0.25, 0.5, 0.0, -0.0, -1.0, 1e308, -1e308, 5e-324, None, float("nan"), float("inf")]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0.25, 0.375, width=32),
)


def table(rows: list[tuple[str, float | None]]) -> pa.Table:
    names, scores = [name for name, _ in rows], [score for _, score in rows]
    return pa.table({"text_uid": pa.array(names, pa.string()), "clip_score": pa.array(scores, pa.float64())})


@pytest.mark.family("F03")
@settings(max_examples=120, deadline=None)
@given(st.lists(SCORES, max_size=40), st.integers(2, 9), st.integers(1, 5), st.randoms())
def test_levels_are_of_equal_size_to_one_row_whatever_the_ties_and_parts(
    scores: list[float | None], levels: int, num_parts: int, shuffle: object
) -> None:
    rows = [(f"t{n:03d}", score) for n, score in enumerate(scores)]
    order = list(rows)
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    parts = [table(order[k::num_parts]) for k in range(num_parts)]
    signal = ScoreLevel(levels=levels)
    fit = signal.fit_pool(parts)
    found = dict.fromkeys((name for name, _ in rows), None)
    for part in parts:
        given_levels = signal.apply(part, fit).column("align_level").to_pylist()
        found |= dict(zip(part.column("text_uid").to_pylist(), given_levels, strict=True))
    known = sorted((score + 0.0, name) for name, score in rows if score is not None and np.isfinite(score))
    wanted = {
        name: sum(k * len(known) // levels <= place for k in range(1, levels)) for place, (_, name) in enumerate(known)
    }
    assert found == {name: wanted.get(name) for name, _ in rows}
    sizes = Counter(found[name] for _, name in known)
    assert not known or max(sizes.values()) - min(sizes[k] for k in range(levels)) <= 1


def test_equal_scores_are_parted_by_uid_and_a_later_text_is_placed_among_them() -> None:
    signal = ScoreLevel(levels=2)
    fit = signal.fit_pool([table([(f"t{n}", 0.5) for n in range(4)])])
    assert signal.apply(table([("t1", 0.5), ("t2", 0.5), ("t15", 0.5), ("t0", 0.6)]), fit).to_pydict() == {
        "align_level": [0, 1, 0, 1]
    }


def test_another_name_and_column_and_what_is_no_number() -> None:
    signal = ScoreLevel(column="n", name="length", levels=3)
    rows = pa.table({"text_uid": ["a", "b", "c", None], "n": pa.array([3, 1, 2, 4], pa.int32())})
    assert signal.apply(rows, signal.fit_pool([rows])).to_pydict() == {"length_level": [2, 0, 1, None]}
    assert signal.table_name() == "length_level"
    with pytest.raises(ValueError, match="length_level: the column 'n' holds string, no numbers"):
        signal.fit_pool([pa.table({"text_uid": ["a"], "n": ["0.5"]})])


def test_nothing_known_gives_no_levels() -> None:
    signal = ScoreLevel()
    rows = table([("a", None), ("b", float("inf"))])
    assert signal.apply(rows, signal.fit_pool([rows])).column(0).null_count == 2
