"""Near-duplicates of a whole pool at once: what searches in parts and buckets are compared with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.crowds import MAX_EQUAL, Groups, search_crowds
from curation.minhash import TextPairs, band_keys, choose_bands, meeting
from curation.near_duplicates import DEFAULT_RADIUS, Hashes, NearDuplicates, Thumbnails, entries_of, merged, search
from curation.shingles import WORDS, normal_form, shingle_sets


def near_duplicates(
    hashes: Hashes, thumbnails: Thumbnails, radius: int = DEFAULT_RADIUS, max_equal: int = MAX_EQUAL
) -> NearDuplicates:
    """All near-duplicates among N looks, in the order of their digests; of crowds those that join their groups."""
    entries = entries_of(hashes)
    in_crowd = crowded(hashes.own, max_equal)[entries.row]
    crowd, rest = entries.where(in_crowd), entries.where(~in_crowd)
    groups = Groups(len(hashes.own))
    found = [search_crowds(crowd, other, thumbnails, radius, None, groups) for other in (None, rest)]
    return merged([search(rest, None, thumbnails, radius), *found])


def crowded(own: np.ndarray, max_equal: int) -> np.ndarray:
    """bool (N): whether more than `max_equal` looks share the hash."""
    _, inverse, counts = np.unique(own, return_inverse=True, return_counts=True)
    crowd: np.ndarray = counts[inverse] > max_equal
    return crowd


def near_texts(
    texts: pa.Array, similarity: float = 0.8, recall: float = 0.99, all_pairs: bool = False, words: int = WORDS
) -> TextPairs:
    """Verified pairs of near-duplicate texts: of each normal form the first text is compared, and is a pair of
    similarity 1 with each of the others. `all_pairs`: those within a group, too, that would join nothing new."""
    normal = normal_form(texts)
    same = first_of_equal(normal)
    position = np.arange(len(same))
    rows, copies = np.flatnonzero(same == position), np.flatnonzero((same >= 0) & (same != position))
    sets = shingle_sets(normal.take(pa.array(rows)), words=words)
    found = meeting(sets, band_keys(sets, choose_bands(similarity, recall)), similarity, all_pairs)
    i, j = np.concatenate([same[copies], rows[found.i]]), np.concatenate([copies, rows[found.j]])
    order = np.lexsort((j, i))
    return TextPairs(i[order], j[order], np.concatenate([np.ones(len(copies)), found.similarity])[order])


def first_of_equal(normal: pa.LargeStringArray) -> np.ndarray:
    """int64 (N): for each text the position of the first one of the same normal form; -1 for null."""
    codes = normal.dictionary_encode().indices
    valid = codes.is_valid().to_numpy(zero_copy_only=False)
    numbers = codes.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    first = np.full(len(numbers) + 1, -1, np.int64)
    rows = np.flatnonzero(valid)[::-1]
    first[numbers[rows]] = rows  # the last assignment is that of the first row
    return np.where(valid, first[numbers], -1)
