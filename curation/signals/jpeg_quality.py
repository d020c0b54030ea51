"""JPEG quality: how strongly a picture was compressed when it was last encoded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.jpeg_tables import luminance_table, nearest_quality
from curation.signal import FileSignal


class JpegQuality(FileSignal):
    """The quality setting that the quantisation tables of a JPEG tell. Nothing is decoded.

    Columns: `jpeg_quality` (1-100 on the scale of IJG's libjpeg, whose table for the luminance is nearest to the
    file's; 75 and more is usual, artefacts show below about 50); `jpeg_tables_are_standard` (whether it is that very
    table, as libjpeg, libjpeg-turbo, Pillow and OpenCV write; Photoshop, cameras and mozjpeg have others, of which the
    quality is an estimate). Null for other formats. Of a picture that was encoded several times, the last time counts;
    of one that the recipe had encoded anew, that. Unit: as said. Model: none. Source: ITU-T T.81, table K.1; libjpeg's
    `jpeg_quality_scaling`.
    """

    version: ClassVar[int] = 1

    def writes(self) -> pa.Schema:
        return pa.schema({"jpeg_quality": pa.int32(), "jpeg_tables_are_standard": pa.bool_()})

    def of_files(self, files: Sequence[bytes | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        tables = [None if data is None else luminance_table(data) for data in files]
        found = [(None, None) if table is None else nearest_quality(table) for table in tables]
        return {"jpeg_quality": [each[0] for each in found], "jpeg_tables_are_standard": [each[1] for each in found]}
