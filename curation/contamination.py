"""What of a pool an evaluation set holds: pictures, texts and embeddings of one against those of the other, completely.

Nothing here is probabilistic: every picture within the radius, every text of the Jaccard similarity and every vector of
the cosine similarity is found. Each row of the pool is given the item that it is most like.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curation.near_duplicates import Entries, Hashes, Thumbnails, entries_of, search
from curation.semantic import whole_numbers
from curation.set_join import join_across
from curation.shingles import ShingleSets
from curation.thumbnail_match import KINDS

_TILE = 2048


class Matches(NamedTuple):
    """Rows of the pool that the set holds, rising, each once."""

    row: np.ndarray
    """int64."""
    item: np.ndarray
    """int64: the item that it is most like."""
    measure: np.ndarray
    """float64: bits between two hashes, or a similarity from 0 to 1."""
    kind: np.ndarray
    """uint8: of pictures, position in `curation.thumbnail_match.KINDS`; else 0."""


def picture_matches(
    pool: Hashes, pool_thumbnails: Thumbnails, items: Hashes, item_thumbnails: Thumbnails, radius: int
) -> Matches:
    """Pictures of the pool that are near-duplicates of the set's: whole, cut, mirrored or marked, on either side."""
    num_items, none = len(items.own), np.zeros(0, np.int64)
    if num_items == 0 or len(pool.own) == 0:
        return Matches(none, none, np.zeros(0), np.zeros(0, np.uint8))

    def thumbnails(rows: np.ndarray) -> np.ndarray:
        of_pool = rows >= num_items
        found = np.empty((len(rows), *item_thumbnails(np.zeros(1, np.int64)).shape[1:]), np.uint8)
        found[~of_pool] = item_thumbnails(rows[~of_pool])
        found[of_pool] = pool_thumbnails(rows[of_pool] - num_items)
        return found

    of_items, of_pool = entries_of(items), entries_of(pool)
    shifted = Entries(of_pool.role, of_pool.value, of_pool.row + num_items, of_pool.own)
    pairs = search(of_items, shifted, thumbnails, radius)
    return _nearest(pairs.j - num_items, pairs.i, pairs.distance.astype(np.float64), pairs.kind, pairs.distance)


def text_matches(pool: ShingleSets, items: ShingleSets, jaccard: float) -> Matches:
    """Texts of the pool whose shingle sets are alike to one of the set's."""
    row, item, share = join_across(pool, items, jaccard)
    return _nearest(row, item, share, np.zeros(len(row), np.uint8), -share)


def vector_matches(pool_ND: np.ndarray, items_MD: np.ndarray, similarity: float) -> Matches:
    """Vectors of the pool within the cosine similarity of one of the set's (rounded as in `curation.semantic`)."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    items = whole_numbers(items_MD)
    item_length = np.sqrt((items.astype(np.float64) ** 2).sum(axis=1))
    for start in range(0, len(pool_ND), _TILE):
        rows = whole_numbers(pool_ND[start : start + _TILE])
        length = np.sqrt((rows.astype(np.float64) ** 2).sum(axis=1))
        cosine = (rows @ items.T).astype(np.float64) / np.maximum(length[:, None] * item_length, 1.0)
        i, j = np.nonzero(cosine >= similarity)
        found.append((i + start, j, np.minimum(cosine[i, j], 1.0)))
    row, item, near = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return _nearest(row, item, near, np.zeros(len(row), np.uint8), -near)


def _nearest(row: np.ndarray, item: np.ndarray, measure: np.ndarray, kind: np.ndarray, order_by: np.ndarray) -> Matches:
    """Of each row the match that comes first by `order_by`, then by kind and item."""
    order = np.lexsort((item, kind, order_by, row))
    row, item, measure, kind = row[order], item[order], measure[order], kind[order]
    once = np.ones(len(row), bool)
    once[1:] = row[1:] != row[:-1]
    return Matches(row[once], item[once], measure[once], kind[once].astype(np.uint8))


def kind_name(kind: int) -> str:
    """`picture (same)` and the like, as duplicates of media are named."""
    return f"picture ({KINDS[kind]})"
