"""What an evaluation set holds of a pool, against comparing all with all."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation import contamination
from curation.contamination import kind_name, picture_matches, text_matches, vector_matches
from curation.semantic import whole_numbers
from curation.shingles import normal_form, shingle_sets
from curation.signals.perceptual_hash import PerceptualHash
from curation.thumbnail_match import KINDS, thumbnail_array
from pipelines.looks import hashes_of
from tests.curation.signal_rows import drawing


def side(images: list[np.ndarray]) -> tuple[object, object]:
    table = PerceptualHash().compute_images(images)
    hashed = table.filter(table.column("look").is_valid())
    pixels = thumbnail_array(hashed.column("thumbnail"))
    return hashes_of(hashed), lambda rows: pixels[rows]


def matches(pool: list[np.ndarray], items: list[np.ndarray], radius: int = 8) -> list[tuple[int, int, str]]:
    pool_hashes, pool_pixels = side(pool)
    item_hashes, item_pixels = side(items)
    found = picture_matches(pool_hashes, pool_pixels, item_hashes, item_pixels, radius)  # type: ignore[arg-type]
    return [
        (r, i, kind_name(k))
        for r, i, k in zip(found.row.tolist(), found.item.tolist(), found.kind.tolist(), strict=True)
    ]


def test_pictures_in_every_guise() -> None:
    items = [drawing(seed) for seed in range(4)]
    noise = np.random.default_rng(0).integers(-3, 4, items[1].shape)
    pool = [
        drawing(40),
        np.clip(items[1].astype(int) + noise, 0, 255).astype(np.uint8),  # another encoding
        items[2][:, ::-1].copy(),  # mirrored
        items[3][3:-3, 4:-4].copy(),  # without its border
        items[0],
        np.pad(items[0], ((3, 3), (4, 4), (0, 0)), mode="edge"),  # the item is the inner one
        drawing(41),
    ]
    found = {row: (item, kind) for row, item, kind in matches(pool, items)}
    assert {row: item for row, (item, _) in found.items()} == {1: 1, 2: 2, 3: 3, 4: 0, 5: 0}
    assert found[4][1] == f"picture ({KINDS[0]})"
    assert found[2][1] == "picture (mirror)"
    assert [row for row, _, _ in matches(pool, items, radius=0)][-2:] != []
    assert matches([], items) == matches(pool, []) == []


WORDS = st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join)


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, max_size=8), st.lists(WORDS, max_size=8), st.sampled_from([0.3, 0.6, 1.0]))
def test_texts_are_all_found_with_the_likest_item(pool: list[str], items: list[str], jaccard: float) -> None:
    def sets(texts: list[str]) -> list[set[tuple[str, ...]]]:
        words = [text.split() for text in texts]
        return [set(pairwise(w)) or ({(w[0],)} if w else set()) for w in words]

    found = text_matches(
        shingle_sets(normal_form(pa.array(pool, pa.string()))),
        shingle_sets(normal_form(pa.array(items, pa.string()))),
        jaccard,
    )
    expected = []
    for row, x in enumerate(sets(pool)):
        shares = [len(x & y) / len(x | y) if x | y else 0.0 for y in sets(items)]
        if shares and max(shares) >= jaccard:
            expected.append((row, shares.index(max(shares)), max(shares)))
    assert list(zip(found.row.tolist(), found.item.tolist(), found.measure.tolist(), strict=True)) == expected


@pytest.mark.parametrize("tile", [3, 2048])
def test_vectors_are_all_found_with_the_likest_item(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "_TILE", tile)
    rng = np.random.default_rng(1)
    pool, items = rng.normal(size=(20, 4)), rng.normal(size=(9, 4))
    pool[3] = items[5] * 7
    found = vector_matches(pool, items, 0.9)
    x, y = whole_numbers(pool).astype(np.float64), whole_numbers(items).astype(np.float64)
    cosine = (x @ y.T) / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
    rows = np.flatnonzero(cosine.max(axis=1) >= 0.9)
    assert 3 in rows
    assert found.row.tolist() == rows.tolist()
    assert found.item.tolist() == cosine[rows].argmax(axis=1).tolist()
    assert found.measure == pytest.approx(np.minimum(cosine[rows].max(axis=1), 1.0))
    assert len(vector_matches(pool[:0], items, 0.5).row) == 0
