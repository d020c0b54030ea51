"""Near-duplicate pictures: candidates by perceptual hash, each verified on the thumbnails.

What is compared are *looks*: the distinct results of `PerceptualHash`, one for all media that have just the same. Two
looks are candidates of a kind (`KINDS`) where two of their hashes are within the radius: the two whole pictures
(same), their colours (color), an inner window of one and the other (crop), one mirrored and the other (mirror). The
thumbnails of candidates then decide (`curation.thumbnail_match`). All of this depends on the two looks alone. So the
pairs of a pool are the same however it is cut into parts and buckets, and a pool that grows keeps the pairs that it
has: only pairs with a new look are looked for.

The exception are crowds, hashes that very many looks share (`curation.crowds`).

Measured on 785 Tux Paint stamps and 3,430 copies of them at radius 8, captions given: found are 99.9% of copies at 70%
size, 99.9% by JPEG at quality 60, 99.9% mirrored, 99.0% with a watermark, 98.5% cut by 5%; no pair of two stamps. (One
picture in 343 is blank and has no hash.) The 286 other stamps of the table give
the same figures, but they were in sight when thresholds were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from curation.lsh import cross_pairs, first_band, hamming_pairs
from curation.thumbnail_match import DIFFERENT, KINDS, SURE, verdict

DEFAULT_RADIUS = 8
"""Bits. Of stamps with a big half-transparent "SAMPLE" across, 96% are within it by their lights and half of the others
by their colours; JPEG at quality 60, 70% size: all."""
MAX_LIGHTS_APART = 24
"""Bits by which the hashes of the whole pictures may differ where those of the colours meet: an overlay moves them by
up to 20 bits, of unrelated pictures 98% are more than 24 apart."""
_CHUNK_PAIRS = 1 << 18
_CHUNK_THUMBNAILS = 1 << 14
"""Pairs whose thumbnails are held at once: 100 MB for both sides."""

Thumbnails = Callable[[np.ndarray], np.ndarray]
"""The thumbnails (uint8, N x 32 x 32 x 3) of looks, by their rows (int64, N)."""


class Hashes(NamedTuple):
    """The hashes of N looks."""

    own: np.ndarray
    """uint64 (N): `phash`."""
    color: np.ndarray
    """uint64 (N): `phash_color`; anything where there is none."""
    has_color: np.ndarray
    """bool (N)."""
    mirror: np.ndarray
    """uint64 (N): `phash_mirror`."""
    crops: np.ndarray
    """uint64 (N, windows): `phash_crops`."""


ROLES = ("own", "color", "mirror", "crop")
_MEETS = {"same": ("own", "own"), "color": ("color", "color"), "crop": ("crop", "own"), "mirror": ("mirror", "own")}
"""The hashes that meet in a pair of each kind."""


class Entries(NamedTuple):
    """Hashes of looks, each with what it is of and whose it is; what one bucket holds."""

    role: np.ndarray
    """uint8: position in `ROLES`."""
    value: np.ndarray
    """uint64: the hash."""
    row: np.ndarray
    """int64: the look, by a number of the caller's below 2**32, in the order of the digests."""
    own: np.ndarray
    """uint64: the look's own hash."""

    def where(self, chosen: np.ndarray) -> Entries:
        return Entries(*(column[chosen] for column in self))

    def of(self, role: str) -> Entries:
        return self.where(self.role == ROLES.index(role))


class Bucket(NamedTuple):
    """Which pairs of hashes a bucket answers for: those whose first equal band is `band`, its bits falling in `group`.

    Of `num_bands` bands, one more than the radius, at least one is equal; so each pair has just one bucket.
    """

    num_bands: int
    band: int
    num_groups: int
    group: int

    def answers_for(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """bool (N): of pairs of hashes."""
        here = group_of(x, self.num_bands, self.band, self.num_groups) == self.group
        ours: np.ndarray = here & (first_band(x ^ y, self.num_bands) == self.band)
        return ours


def group_of(values: np.ndarray, num_bands: int, band: int, num_groups: int) -> np.ndarray:
    """int64 (N): 0 to num_groups - 1, from the bits of one band."""
    begin, end = 64 * band // num_bands, 64 * (band + 1) // num_bands
    bits = (values >> np.uint64(begin)) & np.uint64((1 << (end - begin)) - 1)
    mixed = (bits * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)
    group: np.ndarray = (mixed % np.uint64(num_groups)).astype(np.int64)
    return group


class NearDuplicates(NamedTuple):
    """Pairs of rows, i < j, sorted, each pair once."""

    i: np.ndarray
    """int64."""
    j: np.ndarray
    """int64."""
    distance: np.ndarray
    """uint8: bits between the two hashes that met."""
    kind: np.ndarray
    """uint8: position in `KINDS`."""
    verdict: np.ndarray
    """uint8: `SURE`, or `WITH_CAPTION` where the two media have to share a caption."""


def entries_of(hashes: Hashes) -> Entries:
    """All hashes of looks 0 to N - 1."""
    rows = np.arange(len(hashes.own))
    colored = np.flatnonzero(hashes.has_color)
    parts = [
        (hashes.own, rows),
        (hashes.color[colored], colored),
        (hashes.mirror, rows),
        (hashes.crops.ravel(), np.repeat(rows, hashes.crops.shape[1])),
    ]
    role = np.concatenate([np.full(len(where), number, np.uint8) for number, (_, where) in enumerate(parts)])
    row = np.concatenate([where for _, where in parts])
    return Entries(role, np.concatenate([values for values, _ in parts]), row, hashes.own[row])


def search(
    first: Entries, second: Entries | None, thumbnails: Thumbnails, radius: int, bucket: Bucket | None = None
) -> NearDuplicates:
    """Verified pairs of looks within `first`, or, with `second`, of one in each.

    The rows of both are numbers that `thumbnails` understands.
    """
    found = merged([])
    for kind, name in enumerate(KINDS):
        a, b, distance = candidates(first, second, name, radius, bucket)
        sure = _numbers(found.i[found.verdict == SURE], found.j[found.verdict == SURE])
        still_open = ~np.isin(_numbers(np.minimum(a, b), np.maximum(a, b)), sure)
        more = verified(a[still_open], b[still_open], distance[still_open], kind, thumbnails)
        found = merged([found, more])
    return found


def candidates(
    first: Entries, second: Entries | None, kind: str, radius: int, bucket: Bucket | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of rows (a, b) of one kind and their distance, each once; a < b, but for crops, where a is the whole."""
    found = list(joins(first, second, kind, radius, bucket))
    none = np.zeros(0, np.int64)
    a, b, distance = (np.concatenate(parts) for parts in zip((none, none, np.zeros(0, np.uint8)), *found, strict=True))
    if kind != "crop":
        a, b = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((distance, b, a))
    a, b, distance = a[order], b[order], distance[order]
    once = np.ones(len(a), bool)
    once[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return a[once], b[once], distance[once]


Joined = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of one side, rows of the other, distance."""


def joins(
    first: Entries, second: Entries | None, kind: str, radius: int, bucket: Bucket | None = None
) -> Iterator[Joined]:
    """Pairs of rows of one kind, some at a time; one may come more than once. Of crops the first is the whole."""
    left, right = _MEETS[kind]
    if second is None:
        one, other = first.of(left), first.of(right)
        made = [_within(one, radius, bucket) if left == right else _between(one, other, radius, bucket)]
    else:
        made = [_between(first.of(left), second.of(right), radius, bucket)]
        if left != right:
            made.append(_between(second.of(left), first.of(right), radius, bucket))
    for some in made:
        for a, b, distance, apart in some:
            keep = (a != b) & (apart <= MAX_LIGHTS_APART) if kind == "color" else a != b
            yield a[keep], b[keep], distance[keep]


Expanded = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Rows of one side, rows of the other, distance, bits between the looks' own hashes."""


def _within(entries: Entries, radius: int, bucket: Bucket | None) -> Iterator[Expanded]:
    """All pairs of two entries."""
    values, begins, members = _by_value(entries)
    pairs = hamming_pairs(values, radius)
    shared = np.flatnonzero(np.diff(begins) > 1)
    u, v = np.concatenate([pairs.i, shared]), np.concatenate([pairs.j, shared])
    distance = np.concatenate([pairs.distance, np.zeros(len(shared), np.uint8)])
    return _expanded((values, begins, members), u, (values, begins, members), v, distance, bucket)


def _between(one: Entries, other: Entries, radius: int, bucket: Bucket | None) -> Iterator[Expanded]:
    """All pairs of an entry of each."""
    grouped_a, grouped_b = _by_value(one), _by_value(other)
    u, v, distance = cross_pairs(grouped_a[0], grouped_b[0], radius)
    return _expanded(grouped_a, u, grouped_b, v, distance, bucket)


Grouped = tuple[np.ndarray, np.ndarray, Entries]


def _by_value(entries: Entries) -> Grouped:
    """The distinct values, where the entries of each begin, and the entries in that order."""
    ordered = entries.where(np.argsort(entries.value, kind="stable"))
    values, begins = np.unique(ordered.value, return_index=True)
    return values, np.append(begins, len(ordered.value)), ordered


def _expanded(
    one: Grouped, u: np.ndarray, other: Grouped, v: np.ndarray, distance: np.ndarray, bucket: Bucket | None
) -> Iterator[Expanded]:
    """For each pair of values (u, v) that the bucket answers for, all pairs of the looks that have them."""
    (values_a, begins_a, entries_a), (values_b, begins_b, entries_b) = one, other
    if bucket is not None:
        ours = bucket.answers_for(values_a[u], values_b[v])
        u, v, distance = u[ours], v[ours], distance[ours]
    num_b = np.diff(begins_b)[v]
    total = np.concatenate([[0], np.cumsum(np.diff(begins_a)[u] * num_b)])
    for begin in range(0, int(total[-1]), _CHUNK_PAIRS):
        number = np.arange(begin, min(begin + _CHUNK_PAIRS, int(total[-1])))
        place = np.searchsorted(total, number, side="right") - 1
        within = number - total[place]
        x, y = begins_a[u[place]] + within // num_b[place], begins_b[v[place]] + within % num_b[place]
        # two entries of one value meet in both orders; of a look with itself there is nothing to say
        keep = (entries_a.row[x] < entries_b.row[y]) if entries_a is entries_b else entries_a.row[x] != entries_b.row[y]
        keep |= (u[place] != v[place]) if entries_a is entries_b else False
        x, y, place = x[keep], y[keep], place[keep]
        apart = np.bitwise_count(entries_a.own[x] ^ entries_b.own[y])
        yield entries_a.row[x], entries_b.row[y], distance[place], apart


def verified(a: np.ndarray, b: np.ndarray, distance: np.ndarray, kind: int, thumbnails: Thumbnails) -> NearDuplicates:
    """The candidates whose thumbnails agree."""
    found = []
    for begin in range(0, len(a), _CHUNK_THUMBNAILS):
        part = slice(begin, begin + _CHUNK_THUMBNAILS)
        rows, place = np.unique(np.concatenate([a[part], b[part]]), return_inverse=True)
        pixels, half = thumbnails(rows), len(a[part])
        decided = verdict(KINDS[kind], pixels[place[:half]], pixels[place[half:]])
        good = decided != DIFFERENT
        x, y = a[part][good], b[part][good]
        kinds = np.full(len(x), kind, np.uint8)
        found.append(NearDuplicates(np.minimum(x, y), np.maximum(x, y), distance[part][good], kinds, decided[good]))
    return merged(found)


def _numbers(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """One number for each pair of rows, which are below 2**32."""
    numbers: np.ndarray = (i.astype(np.uint64) << np.uint64(32)) | j.astype(np.uint64)
    return numbers


def merged(found: list[NearDuplicates]) -> NearDuplicates:
    """One list of pairs: of what joins a pair, the surest, then the first of `KINDS`, then the nearest stays."""
    none = np.zeros(0, np.uint8)
    nothing = NearDuplicates(np.zeros(0, np.int64), np.zeros(0, np.int64), none, none, none)
    i, j, distance, kind, decided = (np.concatenate(parts) for parts in zip(nothing, *found, strict=True))
    order = np.lexsort((distance, kind, -decided.astype(np.int8), j, i))
    i, j = i[order], j[order]
    once = np.ones(len(i), bool)
    once[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
    return NearDuplicates(i[once], j[once], *(column[order][once] for column in (distance, kind, decided)))
