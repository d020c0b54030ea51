"""Near-duplicate pictures: candidates by perceptual hash, each verified on the thumbnails.

Perceptual hashes put look-alikes together (coins of one currency, letters, the same drawing with another word on it).
What makes a look-alike is that a small place differs completely; what makes a copy is that every place differs a
little, or all over in the same way. So the two thumbnails are compared block by block and the worst block decides.

Measured on the Tux Paint stamps that have captions (785 pictures, of which 686 in five more versions each) at radius 8:
found are 100% of copies at 70% size and of mirrored ones, 99.8% by JPEG at quality 60, 96% with a watermark, 93% cut by
5%. Of all pairs in a group 98.6% are true; every false one comes from letters and signs that are one another's mirror
image or the same stroke (b and d, p and q, < and >, l and I), which no pixel tells apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from curation.lsh import BITS, cross_pairs
from curation.signals.perceptual_hash import CROP_SIDE, THUMBNAIL_PX

DEFAULT_RADIUS = 8
"""Bits. Of stamps with a big half-transparent "SAMPLE" across, 96% are within it; JPEG at quality 60, 70% size: all."""
MAX_BLOCK_DIFFERENCE = 12.0
"""Grey levels (root mean square of a block of 8 x 8 thumbnail pixels). 99.9% of copies by JPEG, resizing and
watermark are below; look-alikes (two coins, two dreidels that differ in one letter) begin at 14."""
MAX_MIRROR_DIFFERENCE = 7.0
"""The same for mirrored copies, which reach 6. Stricter, because letters and signs are often nearly each other's
mirror image. Some are so exactly (b and d, < and >): only what is said about them tells those apart."""
MAX_CROP_DIFFERENCE = 10.0
"""Grey levels, blocks of 2 x 2 of 8 x 8 areas after alignment. 94% of copies cut by 5% are below; two shirts that
differ in their collar are at 10.8, a cut dreidel and one with another letter at 10.5."""

_GRAYS = (0.0, 128.0, 255.0)
_MAX_OPACITY = 0.6
_BLOCKS = 4
_CROP_STEPS = 9
_CROP_PX = 8
_MAX_EQUAL = 256
"""Different pictures of one hash up to which all are compared with all."""
_CHUNK = 2048

KINDS = ("same", "crop", "mirror")
"""What joins a pair: the whole picture, one picture without its border, or the picture mirrored."""


class NearDuplicates(NamedTuple):
    """Verified pairs of rows, i < j, sorted, each pair once."""

    i: np.ndarray
    """int64."""
    j: np.ndarray
    """int64."""
    distance: np.ndarray
    """uint8: bits between the two hashes that met."""
    kind: np.ndarray
    """uint8: position in `KINDS`."""


def thumbnail_array(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The `thumbnail` column (without nulls) as uint8 (N, 32, 32, 3), without copying where it is one chunk."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        raise ValueError(f"{array.null_count} of {len(array)} thumbnails are null")
    size = THUMBNAIL_PX * THUMBNAIL_PX * 3
    data = array.buffers()[1]
    pixels = np.frombuffer(data if len(array) else b"", np.uint8)
    pixels = pixels[array.offset * size : (array.offset + len(array)) * size]
    return pixels.reshape(len(array), THUMBNAIL_PX, THUMBNAIL_PX, 3)


def mirrored(thumbnails: np.ndarray) -> np.ndarray:
    """The thumbnails of the mirrored pictures."""
    return thumbnails[:, :, ::-1]


def confirm(
    thumbnails_a: np.ndarray, thumbnails_b: np.ndarray, max_difference: float = MAX_BLOCK_DIFFERENCE
) -> np.ndarray:
    """bool (N): whether the pictures behind two stacks of thumbnails (uint8, N x 32 x 32 x 3) are copies."""
    return block_difference(thumbnails_a, thumbnails_b) <= max_difference


def block_difference(thumbnails_a: np.ndarray, thumbnails_b: np.ndarray) -> np.ndarray:
    """float32 (N): root mean square difference, in grey levels, of the block (of 4 x 4) where it is largest.

    What a watermark explains is not counted: a layer of one grey over one of the two pictures, black, middle grey or
    white, whose opacity (0 to 0.6) may differ from pixel to pixel. The best of the explanations counts. The price: a
    picture with a few thin strokes more (an E for an L) passes for a watermarked one.
    """
    return _in_chunks(_block_difference, thumbnails_a, thumbnails_b)


def _block_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float32), b.astype(np.float32)
    best = np.full(len(a), np.inf, np.float32)
    for below, above in ((a, b), (b, a)):
        change = above - below
        for gray in _GRAYS:
            towards = np.float32(gray) - below
            square = np.maximum((towards * towards).sum(axis=-1), 1.0)
            opacity = np.clip((change * towards).sum(axis=-1) / square, 0.0, _MAX_OPACITY)
            rest = change - opacity[..., None] * towards
            best = np.minimum(best, _worst_block((rest * rest).mean(axis=-1)))
    return best


def _worst_block(squares: np.ndarray) -> np.ndarray:
    side = squares.shape[-1] // _BLOCKS
    blocks = squares.reshape(*squares.shape[:-2], _BLOCKS, side, _BLOCKS, side).mean(axis=(-3, -1))
    worst: np.ndarray = np.sqrt(blocks.max(axis=(-2, -1)))
    return worst


def confirm_crop(thumbnails_whole: np.ndarray, thumbnails_inner: np.ndarray) -> np.ndarray:
    """bool (N): whether the second picture is the first without a border of 5% of its sides, wherever it was cut."""
    return crop_difference(thumbnails_whole, thumbnails_inner) <= MAX_CROP_DIFFERENCE


def crop_difference(thumbnails_whole: np.ndarray, thumbnails_inner: np.ndarray) -> np.ndarray:
    """float32 (N): the worst block of 8 x 8 area averages, at the best of 9 x 9 positions of the inner picture."""
    return _in_chunks(_crop_difference, thumbnails_whole, thumbnails_inner)


@lru_cache(maxsize=1)
def _crop_weights() -> np.ndarray:
    """float32 (9 * 8, 32): area averages along one side of the thumbnail for each position of the window."""
    rows = []
    cells = np.arange(THUMBNAIL_PX + 1)
    for begin in np.linspace(0, 1 - CROP_SIDE, _CROP_STEPS):
        edges = (begin + np.arange(_CROP_PX + 1) * CROP_SIDE / _CROP_PX) * THUMBNAIL_PX
        overlap = np.minimum(edges[1:, None], cells[None, 1:]) - np.maximum(edges[:-1, None], cells[None, :-1])
        rows.append(np.maximum(overlap, 0) / (CROP_SIDE * THUMBNAIL_PX / _CROP_PX))
    return np.concatenate(rows).astype(np.float32)


def _crop_difference(whole: np.ndarray, inner: np.ndarray) -> np.ndarray:
    weights = _crop_weights()
    num, block = len(whole), THUMBNAIL_PX // _CROP_PX
    small = inner.reshape(num, _CROP_PX, block, _CROP_PX, block, 3).mean(axis=(2, 4), dtype=np.float32)
    planes = whole.astype(np.float32).transpose(0, 3, 1, 2)
    windows = (weights @ planes @ weights.T).reshape(num, 3, _CROP_STEPS, _CROP_PX, _CROP_STEPS, _CROP_PX)
    change = windows - small.transpose(0, 3, 1, 2)[:, :, None, :, None, :]
    squares = (change * change).mean(axis=1).transpose(0, 1, 3, 2, 4)  # pair, top, left, row, column
    best: np.ndarray = _worst_block(squares).min(axis=(1, 2))
    return best


def _in_chunks(compare: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} thumbnails against {len(b)}")
    parts = [compare(a[k : k + _CHUNK], b[k : k + _CHUNK]) for k in range(0, len(a), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def near_duplicates(
    phash: np.ndarray,
    phash_mirror: np.ndarray,
    phash_crops: np.ndarray,
    thumbnails: np.ndarray,
    radius: int = DEFAULT_RADIUS,
) -> NearDuplicates:
    """Verified pairs among N pictures whose connected components are the groups of near-duplicates.

    `phash`, `phash_mirror`: uint64 (N); `phash_crops`: uint64 (N, 5); `thumbnails`: uint8 (N, 32, 32, 3); all from
    `PerceptualHash`, without null rows. The order of rows, and how often each is repeated, change no group. Work: one
    digest a row, the search of `curation.lsh`, and a comparison of thumbnails for each candidate pair.
    """
    i, j, firsts = _join_equal(phash, phash_mirror, phash_crops, thumbnails)
    found = [(i, j, np.zeros(len(i), np.uint8), np.zeros(len(i), np.uint8))]
    own, mirror, crops, small = phash[firsts], phash_mirror[firsts], phash_crops[firsts], thumbnails[firsts]
    width = crops.shape[1]
    for kind, name in enumerate(KINDS):
        if name == "mirror":
            candidates = _all_pairs(mirror, own, radius)
        elif name == "crop":
            candidates = _all_pairs(crops.ravel(), own, radius)
        else:
            candidates = _all_pairs(own, own, radius)
        for x, y, distance in candidates:
            x = x // width if name == "crop" else x
            open_pairs = x < y if name != "crop" else x != y
            x, y, distance = x[open_pairs], y[open_pairs], distance[open_pairs]
            if name == "mirror":
                good = confirm(mirrored(small[x]), small[y], MAX_MIRROR_DIFFERENCE)
            else:
                good = (confirm if name == "same" else confirm_crop)(small[x], small[y])
            a, b = firsts[x[good]], firsts[y[good]]
            found.append((np.minimum(a, b), np.maximum(a, b), distance[good], np.full(len(a), kind, np.uint8)))
    i, j, distance, kinds = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((distance, kinds, j, i))
    i, j, distance, kinds = i[order], j[order], distance[order], kinds[order]
    once = np.ones(len(i), bool)
    once[1:] = (i[1:] != i[:-1]) | (j[1:] != j[:-1])
    return NearDuplicates(i[once], j[once], distance[once], kinds[once])


def _join_equal(
    phash: np.ndarray, phash_mirror: np.ndarray, phash_crops: np.ndarray, thumbnails: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links (i, j) of rows that are alike in all columns, to the first of them, and the rows left to compare, rising.

    Alike rows compare alike with every other, so nothing is lost. What then remains of a hash is compared all with all,
    unless there are more than `_MAX_EQUAL`: these are joined, round by round, to the copy of the smallest digest.
    """
    if len(phash) == 0:
        return (np.zeros(0, np.int64),) * 3
    columns = (phash, phash_mirror, phash_crops, thumbnails)
    rows = zip(*(np.ascontiguousarray(column).reshape(len(phash), -1) for column in columns), strict=True)
    digests = np.array(
        [blake2b(b"".join(cell.tobytes() for cell in row), digest_size=16).digest() for row in rows], "S16"
    )
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    alike = np.flatnonzero(first[inverse] != np.arange(len(phash)))
    links_i, links_j = [first[inverse][alike]], [alike]
    _, group, sizes = np.unique(phash[first], return_inverse=True, return_counts=True)
    crowded = sizes[group] > _MAX_EQUAL
    firsts, left = [first[~crowded]], first[crowded]  # `first` follows the order of the digests
    while len(left):
        _, position, inverse = np.unique(phash[left], return_index=True, return_inverse=True)
        center = left[position][inverse]
        same = confirm(thumbnails[center], thumbnails[left])
        linked = same & (center != left)
        links_i.append(np.minimum(center, left)[linked])
        links_j.append(np.maximum(center, left)[linked])
        firsts.append(left[position])
        left = left[~same & (center != left)]
    return np.concatenate(links_i), np.concatenate(links_j), np.sort(np.concatenate(firsts))


def _all_pairs(a: np.ndarray, b: np.ndarray, radius: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """All (position in a, position in b, distance) within the radius, equal values included, some at a time."""
    values_a, group_a = np.unique(a, return_inverse=True)
    values_b, group_b = np.unique(b, return_inverse=True)
    members_a, members_b = np.argsort(group_a, kind="stable"), np.argsort(group_b, kind="stable")
    begin_a = np.searchsorted(group_a[members_a], np.arange(len(values_a) + 1))
    begin_b = np.searchsorted(group_b[members_b], np.arange(len(values_b) + 1))
    u, v, distance = cross_pairs(values_a, values_b, radius)
    num_a, num_b = np.diff(begin_a)[u], np.diff(begin_b)[v]
    total = np.concatenate([[0], np.cumsum(num_a * num_b)])
    position = 0
    while position < len(u):
        stop = max(position + 1, int(np.searchsorted(total, total[position] + BITS * _CHUNK, side="right")) - 1)
        part = slice(position, stop)
        sizes = (num_a * num_b)[part]
        pair = np.repeat(np.arange(position, stop), sizes)
        within = np.arange(len(pair)) - np.repeat(total[part] - total[position], sizes)
        x = members_a[begin_a[u[pair]] + within // num_b[pair]]
        y = members_b[begin_b[v[pair]] + within % num_b[pair]]
        yield x, y, distance[pair]
        position = stop
