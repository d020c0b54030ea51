"""A few known pictures and texts: what a signal says of them today must be what it said when its table was begun.

Drift is silent otherwise: another version of a library, another kind of processor, a broken GPU change numbers without
changing any name. Drawn by formula, so that they need no file.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from curation.signal import ColumnSignal, ImageSignal, Signal

TEXTS: tuple[str, ...] = (
    "a photo of a dog",
    "a red circle above a green square",
    "Ein Haus am See, davor ein Boot.",
    "白い犬が草原を走っている",
    "stripes",
    "A long caption that says more than most captions do, so that the tower reads on: two people sit on a bench in a "
    "park in autumn, leaves on the ground, a bicycle leans on a tree, and far behind them one can see the river.",
)
MIN_COSINE = 0.995
"""Of an embedding now and then. bfloat16 against float32 is 0.9998 and more (ViT-B-32); other weights are far below."""
MAX_SCORE_DIFFERENCE = 0.005
"""Of the cosine of any two rows: how far a CLIP score may move."""
MAX_RELATIVE_DIFFERENCE = 0.02
"""Of a number, relative to the larger of it and 1."""


def canary_pictures() -> list[np.ndarray]:
    """Six (240, 320, 3) uint8 pictures: a gradient, stripes, checks, discs, noise with a fixed formula, a frame."""
    y, x = np.mgrid[0:240, 0:320].astype(np.float64)
    discs = ((x % 80 - 40) ** 2 + (y % 80 - 40) ** 2 < 900) * 255.0
    noise = np.modf(np.sin(x * 12.9898 + y * 78.233) * 43758.5453)[0] * 127 + 128
    frame = ((x < 20) | (x > 299) | (y < 20) | (y > 219)) * 200.0
    planes = [
        (x * 255 / 319, y * 255 / 239, 128 + 0 * x),
        ((x // 16 % 2) * 255, (x // 16 % 2) * 80, 60 + 0 * x),
        (((x // 32 + y // 32) % 2) * 255, 40 + 0 * x, ((x // 32 + y // 32 + 1) % 2) * 255),
        (discs, 255 - discs, 30 + 0 * x),
        (noise, noise[::-1], noise[:, ::-1]),
        (255 - frame, 230 - frame / 2, frame),
    ]
    return [np.clip(np.stack(plane, axis=-1), 0, 255).astype(np.uint8) for plane in planes]


def canary_of(signal: Signal) -> pa.Table | None:
    """The signal's columns for the known pictures or texts; None where it takes neither."""
    if isinstance(signal, ImageSignal):
        return signal.compute_images([signal.prepare(image, *image.shape[:2]) for image in canary_pictures()])
    if isinstance(signal, ColumnSignal) and signal.reads() == ("text_clean",):
        return signal.compute(pa.table({"text_clean": pa.array(TEXTS, pa.string())}))
    return None


def difference(then: pa.Table, now: pa.Table) -> str | None:
    """What is not as it was, in words; None where all is well, to the tolerances above."""
    if then.schema.names != now.schema.names or then.num_rows != now.num_rows:
        return f"columns {now.schema.names} of {now.num_rows} rows, then {then.schema.names} of {then.num_rows}"
    for name in then.schema.names:
        old, new = (table.column(name).combine_chunks() for table in (then, now))
        if old.is_valid().to_pylist() != new.is_valid().to_pylist():
            return f"{name}: null in other rows than then"
        kind = new.type
        if pa.types.is_nested(kind) and pa.types.is_nested(kind.value_type):
            found = None  # boxes: their number and area stand in columns of their own
        elif pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            found = _vectors_differ(old, new)
        elif pa.types.is_floating(kind) or pa.types.is_integer(kind):
            found = _numbers_differ(old, new)
        else:
            found = None if old.to_pylist() == new.to_pylist() else "other values than then"
        if found is not None:
            return f"{name}: {found}"
    return None


def _numbers_differ(old: pa.Array, new: pa.Array) -> str | None:
    a, b = (array.drop_null().to_numpy(zero_copy_only=False).astype(np.float64) for array in (old, new))
    apart = np.abs(a - b) / np.maximum(1.0, np.maximum(np.abs(a), np.abs(b)))
    return None if not (apart > MAX_RELATIVE_DIFFERENCE).any() else f"{b.tolist()}, then {a.tolist()}"


def _vectors_differ(old: pa.Array, new: pa.Array) -> str | None:
    a, b = (np.array(array.drop_null().to_pylist(), dtype=np.float64) for array in (old, new))
    if a.shape != b.shape or a.ndim != 2:
        return None if old.to_pylist() == new.to_pylist() else f"vectors of shape {b.shape}, then {a.shape}"
    a, b = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (a, b))
    cosine = float((a * b).sum(axis=1).min(initial=1.0))
    scores = float(np.abs(a @ a.T - b @ b.T).max(initial=0.0))
    if not (cosine >= MIN_COSINE and scores <= MAX_SCORE_DIFFERENCE):
        moved = f"scores moved by {scores:.4f} (at most {MAX_SCORE_DIFFERENCE})"
        return f"cosine to those of then {cosine:.4f} (at least {MIN_COSINE}), {moved}"
    return None
