"""Crowds: hashes that more looks share than are compared all with all.

Recompressions of one popular picture have one perceptual hash or a few. The square of their number is too much to
compare and to store, but it need not be: only groups matter. So of the pairs with a look of a crowd those are left out
whose looks are joined already. Two forests are kept:

- sure: looks joined by pairs that are `SURE`. What is left out adds nothing, so the groups are just those of all pairs.
- likely: looks joined by pairs that are at least `WITH_CAPTION`. Media of one group of this forest that share a caption
  are copies. Elsewhere the two looks of a pair have to share it; within a crowd any of the group may.

So a pair that all with all would join is joined whether or not its hash is a crowd, and one that is not joined becomes
so at most. Hence the laws: more rows never part a group, and groups depend neither on the order in which rows came nor
on how they were cut. (No rule that skips pairs for another reason can have them: what joins two looks in a pool of two
must join them in every pool.)

Cost: 0.05 us for each pair of looks of one crowd, 3 to 50 us for each that is compared. Copies of one picture are
compared about once each; a crowd of pictures that all differ takes the square, which is cut into slices as any bucket.
"""

from __future__ import annotations

import numpy as np

from curation.components import Merged
from curation.near_duplicates import (
    Bucket,
    Entries,
    NearDuplicates,
    Thumbnails,
    joins,
    merged,
    verified,
)
from curation.thumbnail_match import KINDS, MIN_DETAIL_BITS, SURE, detail

MAX_EQUAL = 256
"""Looks of one hash up to which all are compared with all."""


class Groups:
    """What is known of N looks while pairs of crowds are compared."""

    def __init__(self, num: int) -> None:
        self.sure, self.likely = Merged.of(num), Merged.of(num)
        self._is_plain = np.zeros(num, bool)
        """Whether a look is known to have too little detail for a sure pair."""
        self._is_seen = np.zeros(num, bool)

    def open(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """bool (pairs): whether a comparison may join something."""
        may_be_sure = ~(self._is_plain[a] | self._is_plain[b])
        may: np.ndarray = self.likely.apart(a, b) | (may_be_sure & self.sure.apart(a, b))
        return may

    def see(self, rows: np.ndarray, thumbnails: Thumbnails) -> None:
        """Take in how much detail looks have."""
        new = np.unique(rows[~self._is_seen[rows]])
        self._is_plain[new] = detail(thumbnails(new)) < MIN_DETAIL_BITS
        self._is_seen[new] = True

    def join(self, pairs: NearDuplicates) -> NearDuplicates:
        """Take in verified pairs; those that joined anything."""
        sure = np.zeros(len(pairs.i), bool)
        is_sure = pairs.verdict == SURE
        sure[is_sure] = self.sure.join(pairs.i[is_sure], pairs.j[is_sure])
        joined = self.likely.join(pairs.i, pairs.j) | sure
        return NearDuplicates(*(column[joined] for column in pairs))


def search_crowds(
    first: Entries,
    second: Entries | None,
    thumbnails: Thumbnails,
    radius: int,
    bucket: Bucket | None,
    groups: Groups,
) -> NearDuplicates:
    """As `curation.near_duplicates.search`, but for pairs that are joined in `groups`, which grow."""
    found: list[NearDuplicates] = []
    for kind, name in enumerate(KINDS):
        for a, b, distance in joins(first, second, name, radius, bucket):
            if name != "crop":
                a, b = np.minimum(a, b), np.maximum(a, b)
            width = 1
            while len(a):
                still_open = groups.open(a, b)
                a, b, distance = a[still_open], b[still_open], distance[still_open]
                # few for each look at first: what these join, the others need not be compared for
                now = _place_among_equal(b) < width
                groups.see(np.concatenate([a[now], b[now]]), thumbnails)
                found.append(groups.join(verified(a[now], b[now], distance[now], kind, thumbnails)))
                a, b, distance = a[~now], b[~now], distance[~now]
                width *= 2
    return merged(found)


def _place_among_equal(values: np.ndarray) -> np.ndarray:
    """int64 (N): how many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    is_first = np.ones(len(values), bool)
    is_first[1:] = values[order][1:] != values[order][:-1]
    begin = np.maximum.accumulate(np.where(is_first, np.arange(len(values)), 0))
    found = np.empty(len(values), np.int64)
    found[order] = np.arange(len(values)) - begin
    return found
