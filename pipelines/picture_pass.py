"""One pass over the pictures of a part for all signals that want them: decoded in the limited children, ahead of the
models, each at the smallest scale that serves the signal.

What a signal sees of a picture is a function of its bytes alone, never of which other signals are in the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.decode import DecodeLimits
from curation.media.decoded import Decoded, View
from curation.media.views import DecodePool
from curation.signal import FileSignal, Image, ImageSignal, as_table
from curation.table import read_part

AT_A_TIME = 64
"""Pictures given to the signals at once; as many again wait ahead of them. At 512 pixels, 50 MB each."""
AT_A_TIME_PREPARED = 512
"""Where every signal has made something smaller of them (a model's square of 150 kB)."""
Seen = tuple[Image, ...]
"""Of one picture, what each signal sees of it, in the order of the signals."""


@lru_cache(maxsize=2)
def decode_pool(limits: DecodeLimits, num_decoders: int) -> DecodePool:
    """This process's decoders for signals; the children start at first use."""
    return DecodePool(num_decoders, limits)


def from_pictures(
    media: Path, signals: Sequence[ImageSignal | FileSignal], limits: DecodeLimits, num_decoders: int
) -> dict[str, pa.Table]:
    """The columns of all signals of pictures and of their bytes, by table, for a part of `media`: a row for each row,
    null where no picture.

    In batches, so that memory does not grow with the part; signals look at one row at a time, so nothing changes.
    """
    if not signals:
        return {}
    # of a segment the picture in its middle
    source = "frame" if "frame" in pq.read_schema(media).names else "bytes"
    items = Lazily(read_part(media, [source]).column(0))
    found = {each.table_name(): as_table(each.of_files(items), each.writes())
             for each in signals if isinstance(each, FileSignal)}  # fmt: skip
    pictures = [each for each in signals if isinstance(each, ImageSignal)]
    return found | _decoded(items, pictures, limits, num_decoders) if pictures else found


def _decoded(
    items: Lazily, signals: Sequence[ImageSignal], limits: DecodeLimits, num_decoders: int
) -> dict[str, pa.Table]:
    made: dict[str, list[pa.Table]] = {signal.table_name(): [] for signal in signals}
    many = AT_A_TIME_PREPARED if all(signal.prepares for signal in signals) else AT_A_TIME
    views = [signal.view() for signal in signals]
    batch: list[Seen | None] = []
    for seen in decode_pool(limits, num_decoders).map(items, views, preparing(signals, views), ahead=many):
        batch.append(seen)
        if len(batch) == many:
            _compute(signals, batch, made)
            batch = []
    if batch or not len(items):
        _compute(signals, batch, made)
    return {table: pa.concat_tables(batches) for table, batches in made.items()}


def preparing(signals: Sequence[ImageSignal], views: Sequence[View]) -> Callable[[Decoded], Seen]:
    """What a decoder's thread does with a decoded picture; signals that prepare nothing share one copy of a view."""

    def prepare(decoded: Decoded) -> Seen:
        assert decoded.views is not None
        size = decoded.height_px or 0, decoded.width_px or 0
        copies: dict[View, Image] = {}
        seen = []
        for signal, view, pixels in zip(signals, views, decoded.views, strict=True):
            if signal.prepares:
                seen.append(signal.prepare(pixels, *size))
            else:
                if view not in copies:
                    copies[view] = np.array(pixels)
                    copies[view].flags.writeable = False
                seen.append(copies[view])
        return tuple(seen)

    return prepare


def _compute(signals: Sequence[ImageSignal], batch: list[Seen | None], made: dict[str, list[pa.Table]]) -> None:
    for position, signal in enumerate(signals):
        images = [None if seen is None else seen[position] for seen in batch]
        made[signal.table_name()].append(signal.compute_images(images))


class Lazily(Sequence[bytes | None]):
    """A column of bytes of which one value at a time becomes a Python object."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, at: int) -> bytes | None:  # type: ignore[override]
        if not 0 <= at < len(self._column):
            raise IndexError(at)
        value: bytes | None = self._column[at].as_py()
        return value
