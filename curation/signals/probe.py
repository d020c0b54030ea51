"""Probe: shape and density of a picture, from what the download stage saw of its header."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from curation.signal import ColumnSignal, Level, as_table


class Probe(ColumnSignal):
    """Figures that size rules ask for. All are null where the picture's size is unknown or not positive.

    Columns: `aspect_ratio` (longer side / shorter side, 1 or more); `short_side_px` (pixels, 1 or more); `megapixels`
    (millions of pixels, above 0); `bytes_per_pixel` (encoded size / pixels, above 0: about 0.1-0.5 for JPEG; very low
    for blank pictures; null where the encoded size is unknown). Unit: as said. Model: none.
    Source: arithmetic; the thresholds of LAION, DataComp and CC12M are on these.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "media"

    def reads(self) -> tuple[str, ...]:
        return ("width_px", "height_px", "size_bytes")

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "aspect_ratio": pa.float32(),
                "short_side_px": pa.int32(),
                "megapixels": pa.float32(),
                "bytes_per_pixel": pa.float32(),
            }
        )

    def compute(self, rows: pa.Table) -> pa.Table:
        width, height, size = (rows.column(name).combine_chunks() for name in self.reads())
        short = pc.min_element_wise(width, height, skip_nulls=False)
        long = pc.cast(pc.max_element_wise(width, height, skip_nulls=False), pa.float64())
        short = pc.if_else(pc.greater(short, 0), short, pa.scalar(None, pa.int32()))
        pixels = pc.multiply(long, pc.cast(short, pa.float64()))
        columns = {
            "aspect_ratio": pc.divide(long, pc.cast(short, pa.float64())),
            "short_side_px": short,
            "megapixels": pc.divide(pixels, 1e6),
            "bytes_per_pixel": pc.divide(pc.cast(size, pa.float64()), pixels),
        }
        return as_table(
            {name: pc.cast(column, self.writes().field(name).type) for name, column in columns.items()}, self.writes()
        )
