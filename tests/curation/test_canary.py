"""The known pictures and texts, and what counts as drift."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curation.canary import canary_of, canary_pictures, difference
from curation.signals.clip_score import ClipScore
from curation.signals.image_embedding import ImageEmbedding
from curation.signals.text_embedding import TextEmbedding
from tests.curation.signal_rows import TinyScorer

SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"


def test_the_known_pictures_are_the_same_everywhere_and_differ_from_each_other() -> None:
    pictures = canary_pictures()
    assert {(each.shape, each.dtype) for each in pictures} == {((240, 320, 3), np.dtype(np.uint8))}
    apart = [np.abs(a.astype(int) - b).mean() for i, a in enumerate(pictures) for b in pictures[:i]]
    assert min(apart) > 20
    assert [int(each.mean()) for each in pictures] == [127, 75, 98, 95, 127, 152]


def test_signals_of_pictures_and_of_texts_have_one() -> None:
    fields = {"model": "m", "scorer": SCORER}
    for signal in (ImageEmbedding(**fields), TextEmbedding(**fields)):
        table = canary_of(signal)
        assert table is not None
        assert table.num_rows == 6
        assert table.column(0).null_count == 0
        assert difference(table, table) is None
    assert canary_of(ClipScore()) is None


def vectors(rows: np.ndarray) -> pa.Table:
    flat = pa.array(rows.astype(np.float16).ravel(), pa.float16())
    return pa.table({"v": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])})


def test_rounding_is_no_drift_and_other_weights_are() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 512))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    assert difference(vectors(rows), vectors(rows + rng.normal(size=rows.shape) * 2e-4)) is None
    for worse in (rows[::-1], rows + 0.02, np.where(np.arange(6)[:, None] == 3, -rows, rows), rows * np.nan):
        assert "cosine" in (difference(vectors(rows), vectors(worse)) or "")


@pytest.mark.parametrize(
    ("now", "found"),
    [([1.0, 1000.0], None), ([1.01, 1015.0], None), ([1.0, 1100.0], "x:"), ([None, 1000.0], "null"), ([1.0], "rows")],
)
def test_numbers(now: list[float | None], found: str | None) -> None:
    then = pa.table({"x": pa.array([1.0, 1000.0], pa.float32())})
    said = difference(then, pa.table({"x": pa.array(now, pa.float32())}))
    assert said is None if found is None else found in (said or "")
