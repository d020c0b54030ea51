"""Whether two pictures whose hashes met are copies: decided on their thumbnails, 32 x 32 pixels each.

Perceptual hashes put look-alikes together (coins of one currency, letters, the same drawing with another word on it).
What makes a look-alike is that a small place differs completely; what makes a copy is that every place differs a
little, or all over in the same way. So the thumbnails are compared block by block and the worst block decides.

What no pixel tells apart are drawings of few colours that are each other's copy by nature: b and d, p and q, < and >
are mirror images, l and I the same stroke. Such a match needs a witness: the two media have to share a caption. The
same witness lets pictures differ a little more than they may without one. `verdict` gives `SURE`, `WITH_CAPTION` or
`DIFFERENT`; it depends on the two pictures alone, on nothing else in the pool.

The constants were read off 785 Tux Paint stamps and 3,430 copies of 686 of them (JPEG at quality 60, 70% size, cut by
5%, mirrored, marked with a big half-transparent word): all pairs of different stamps or of their copies whose hashes
meet within 8 bits, and all true pairs. They were chosen on the 400 stamps that a crawl of 20,000 rows copies; the
counts here are of all 686. Sums are taken in one order, pair by pair, so that nothing depends on the batch or on the
number of threads.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow as pa

from curation.compiled import compiled
from curation.signals.perceptual_hash import CROP_SIDE, THUMBNAIL_PX

# Shapes: N pairs, Y and X pixels, C colours.

KINDS = ("same", "color", "crop", "mirror")
"""What joins a pair: the whole picture, its colours (where an overlay has changed its lights and shades), one picture
without its border, or the picture mirrored."""
DIFFERENT, WITH_CAPTION, SURE = 0, 1, 2
"""Verdicts: no copies; copies if they share a caption; copies."""

MIN_DETAIL_BITS = 2.0
"""Entropy of a thumbnail's colours (`detail`) below which a match needs a shared caption. The letters and signs that
are each other's copy by nature, and all their versions, are at 1.90 or less (33 false pairs of the same picture, 60 of
the mirrored one, 7 of the cut one); with 2.0 none of the false pairs among all versions is left. Of the stamps 35% are
below: letters, signs, silhouettes."""
MAX_DIFFERENCE = {"same": (12.0, 14.0), "color": (12.0, 13.0), "crop": (10.0, 18.0), "mirror": (7.0, 12.0)}
"""Grey levels up to which the worst block may differ: without, and with a shared caption.

same: of originals and their versions whose hashes meet, by resizing and watermark 100% are at 12 or less, by JPEG
99.9%; different pictures of enough detail begin at 13.9 (two coins), with a shared caption at 14.4 (j and J). color:
the same comparison; different pictures begin at 13.9. crop (blocks of 2
x 2 of 8 x 8 areas, after alignment): 93% of copies are at 10 or less, 98.5% at 18; different ones of enough detail
begin at 10.8 (two shirts, two dreidels), those that share a caption at 29 (x and X). mirror: all copies are at 7 or
less, so what a caption adds is for mirrored copies of versions; stricter, for few pictures are mirrored and many signs
are nearly each other's mirror image. Different ones of enough detail begin at 14.0, those that share a caption at 17.0
(x and X). Seven drawings that their makers mirrored and then wrote on anew (a police car, a tugboat, a school sign,
four dreidels) are no copies by this rule: at 17.7 to 36.3 where the writing is, while dreidels with different letters
begin at 27.9."""

_GRAYS = (0.0, 128.0, 255.0)
_MAX_OPACITY = 0.6
_BLOCKS = 4
_BLOCK_PX = THUMBNAIL_PX // _BLOCKS
_CROP_STEPS = 9
_CROP_PX = 8
_CELL_PX = THUMBNAIL_PX // _CROP_PX
_WEIGHT_UNIT = 1 << 14
"""Weights along one side are kept as multiples of 1/16384."""


def thumbnail_array(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The `thumbnail` column (without nulls) as uint8 (N, 32, 32, 3), without copying where it is one chunk."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        raise ValueError(f"{array.null_count} of {len(array)} thumbnails are null")
    size = THUMBNAIL_PX * THUMBNAIL_PX * 3
    data = array.cast(pa.binary(size)).buffers()[1]
    pixels = np.frombuffer(data if len(array) else b"", np.uint8)
    pixels = pixels[array.offset * size : (array.offset + len(array)) * size]
    return pixels.reshape(len(array), THUMBNAIL_PX, THUMBNAIL_PX, 3)


def verdict(kind: str, thumbnails_a: np.ndarray, thumbnails_b: np.ndarray) -> np.ndarray:
    """uint8 (N): `SURE`, `WITH_CAPTION` or `DIFFERENT` for each pair of thumbnails (uint8, N x 32 x 32 x 3).

    `kind` is one of `KINDS`; for `crop`, `thumbnails_b` are of the pictures that have lost their border.
    """
    alone, with_caption = MAX_DIFFERENCE[kind]
    if kind == "crop":
        difference = crop_difference(thumbnails_a, thumbnails_b, with_caption)
    else:
        left = mirrored(thumbnails_a) if kind == "mirror" else thumbnails_a
        difference = block_difference(left, thumbnails_b, with_caption)
    found = np.where(difference <= with_caption, WITH_CAPTION, DIFFERENT).astype(np.uint8)
    near = np.flatnonzero(difference <= alone)
    rich = (detail(thumbnails_a[near]) >= MIN_DETAIL_BITS) & (detail(thumbnails_b[near]) >= MIN_DETAIL_BITS)
    found[near[rich]] = SURE
    return found


def detail(thumbnails: np.ndarray) -> np.ndarray:
    """float64 (N): entropy in bits (0 to 9) of a thumbnail's colours, three bits of each channel."""
    entropy = np.zeros(len(thumbnails))
    for row, counts in enumerate(_color_counts(np.ascontiguousarray(thumbnails))):
        shares = np.sort(counts[counts > 0]) / (THUMBNAIL_PX * THUMBNAIL_PX)
        entropy[row] = -(shares * np.log2(shares)).sum()
    return np.round(entropy, 6)


def mirrored(thumbnails: np.ndarray) -> np.ndarray:
    """The thumbnails of the mirrored pictures."""
    return thumbnails[:, :, ::-1]


def block_difference(thumbnails_a: np.ndarray, thumbnails_b: np.ndarray, limit: float = np.inf) -> np.ndarray:
    """float64 (N): root mean square difference, in grey levels, of the block (of 4 x 4) where it is largest.

    What a watermark explains is not counted: a layer of one grey over one of the two pictures, black, middle grey or
    white, whose opacity (0 to 0.6) may differ from pixel to pixel. The best of the explanations counts. The price: a
    picture with a few thin strokes more (an E for an L) passes for a watermarked one. Beyond `limit` infinity is given,
    which saves work.
    """
    _check(thumbnails_a, thumbnails_b)
    found: np.ndarray = _block_differences(thumbnails_a, thumbnails_b, float(limit))
    return found


def crop_difference(thumbnails_whole: np.ndarray, thumbnails_inner: np.ndarray, limit: float = np.inf) -> np.ndarray:
    """float64 (N): the worst block of 8 x 8 area averages, at the best of 9 x 9 positions of the inner picture.

    Infinity beyond `limit`.
    """
    _check(thumbnails_whole, thumbnails_inner)
    first, weights = _crop_weights()
    found: np.ndarray = _crop_differences(thumbnails_whole, thumbnails_inner, first, weights, float(limit))
    return found


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if len(a) != len(b):
        raise ValueError(f"{len(a)} thumbnails against {len(b)}")


@lru_cache(maxsize=1)
def _crop_weights() -> tuple[np.ndarray, np.ndarray]:
    """Area averages along one side of the thumbnail for each cell of each position of the window.

    The first pixel that counts (int64, 9 * 8) and the weights from it on (int64, 9 * 8, pixels).
    """
    first, rows = [], []
    cells = np.arange(THUMBNAIL_PX + 1)
    for begin in np.linspace(0, 1 - CROP_SIDE, _CROP_STEPS):
        edges = (begin + np.arange(_CROP_PX + 1) * CROP_SIDE / _CROP_PX) * THUMBNAIL_PX
        overlap = np.minimum(edges[1:, None], cells[None, 1:]) - np.maximum(edges[:-1, None], cells[None, :-1])
        for row in np.rint(np.maximum(overlap, 0) / (CROP_SIDE * _CELL_PX) * _WEIGHT_UNIT).astype(np.int64):
            begin_px = min(int(np.flatnonzero(row)[0]), THUMBNAIL_PX - _CELL_PX - 1)
            first.append(begin_px)
            rows.append(row[begin_px : begin_px + _CELL_PX + 1])
    return np.array(first), np.array(rows)


@compiled
def _color_counts(thumbnails: np.ndarray) -> np.ndarray:
    """int64 (N, 512): how many pixels have each colour of three bits a channel."""
    counts = np.zeros((len(thumbnails), 512), np.int64)
    for k in range(len(thumbnails)):
        for y in range(THUMBNAIL_PX):
            for x in range(THUMBNAIL_PX):
                red, green, blue = thumbnails[k, y, x, 0], thumbnails[k, y, x, 1], thumbnails[k, y, x, 2]
                counts[k, (red >> 5) * 64 + (green >> 5) * 8 + (blue >> 5)] += 1
    return counts


@compiled
def _block_differences(a: np.ndarray, b: np.ndarray, limit: float) -> np.ndarray:
    found = np.empty(len(a), np.float64)
    for k in range(len(a)):
        best = np.inf
        for gray in _GRAYS:
            best = min(best, _explained(a[k], b[k], gray, min(best, limit * limit)))
            best = min(best, _explained(b[k], a[k], gray, min(best, limit * limit)))
        found[k] = np.sqrt(best)
    return found


@compiled
def _explained(below: np.ndarray, above: np.ndarray, gray: float, limit: float) -> float:
    """Mean square of the worst block of what a layer of one grey over `below` does not explain; infinity over `limit`.

    The means are over pixels and colours.
    """
    num_values = _BLOCK_PX * _BLOCK_PX * 3
    worst = 0.0
    for block in range(_BLOCKS * _BLOCKS):
        top, left = block // _BLOCKS * _BLOCK_PX, block % _BLOCKS * _BLOCK_PX
        total = 0.0
        for y in range(top, top + _BLOCK_PX):
            for x in range(left, left + _BLOCK_PX):
                along, square = 0.0, 0.0
                for c in range(3):
                    towards = gray - below[y, x, c]
                    along += (float(above[y, x, c]) - below[y, x, c]) * towards
                    square += towards * towards
                opacity = min(max(along / max(square, 1.0), 0.0), _MAX_OPACITY)
                for c in range(3):
                    rest = float(above[y, x, c]) - below[y, x, c] - opacity * (gray - below[y, x, c])
                    total += rest * rest
        worst = max(worst, total / num_values)
        if worst > limit:
            return np.inf
    return worst


@compiled
def _crop_differences(
    whole: np.ndarray, inner: np.ndarray, first: np.ndarray, weights: np.ndarray, limit: float
) -> np.ndarray:
    found = np.empty(len(whole), np.float64)
    num, side = weights.shape
    for k in range(len(whole)):
        by_row = np.zeros((num, THUMBNAIL_PX, 3), np.int64)
        for row in range(num):
            for y in range(side):
                for x in range(THUMBNAIL_PX):
                    for c in range(3):
                        by_row[row, x, c] += weights[row, y] * whole[k, first[row] + y, x, c]
        windows = np.zeros((num, num, 3), np.int64)
        for row in range(num):
            for column in range(num):
                for x in range(side):
                    for c in range(3):
                        windows[row, column, c] += weights[column, x] * by_row[row, first[column] + x, c]
        small = np.zeros((_CROP_PX, _CROP_PX, 3), np.int64)
        for y in range(THUMBNAIL_PX):
            for x in range(THUMBNAIL_PX):
                for c in range(3):
                    small[y // _CELL_PX, x // _CELL_PX, c] += inner[k, y, x, c]
        best = np.inf
        for position in range(_CROP_STEPS * _CROP_STEPS):
            top, left = position // _CROP_STEPS * _CROP_PX, position % _CROP_STEPS * _CROP_PX
            best = min(best, _window_square(windows, small, top, left, min(best, limit * limit)))
        found[k] = np.sqrt(best)
    return found


@compiled
def _window_square(windows: np.ndarray, small: np.ndarray, top: int, left: int, limit: float) -> float:
    """Mean square of the worst of 4 x 4 blocks of the window at one position; infinity over `limit`."""
    side = _CROP_PX // _BLOCKS
    worst = 0.0
    for block in range(_BLOCKS * _BLOCKS):
        total = 0.0
        for cell in range(side * side):
            y, x = block // _BLOCKS * side + cell // side, block % _BLOCKS * side + cell % side
            for c in range(3):
                rest = windows[top + y, left + x, c] / (_WEIGHT_UNIT * _WEIGHT_UNIT) - small[y, x, c] / _CELL_PX**2
                total += rest * rest
        worst = max(worst, total / (side * side * 3))
        if worst > limit:
            return np.inf
    return worst
