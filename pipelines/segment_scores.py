"""Signals of segments in the score stage: each segment is decoded once for all signals that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from curation.av.segment_signal import SegmentSignal, decoded_segment
from curation.media.av_types import AvLimits
from curation.table import read_groups
from pipelines.segment import av_decoder

SEGMENTS_AT_A_TIME = 4
"""Decoded segments held at once by a worker: of a minute each, about 200 MB."""


def from_segments(media: Path, signals: Sequence[SegmentSignal], limits: AvLimits | None = None) -> dict[str, pa.Table]:
    """The columns of all signals, by table; in batches, so that memory does not grow with the part."""
    if not signals:
        return {}
    decoder = av_decoder(limits or AvLimits())
    made: dict[str, list[pa.Table]] = {signal.table_name(): [signal.compute_segments([])] for signal in signals}
    for group in read_groups(media, ["bytes"]):
        column = group.column(0)
        for start in range(0, len(column), SEGMENTS_AT_A_TIME):
            bodies = column.slice(start, SEGMENTS_AT_A_TIME).to_pylist()
            found = [None if body is None else decoded_segment(decoder, body, signals) for body in bodies]
            for signal in signals:
                made[signal.table_name()].append(signal.compute_segments(found))
    return {table: pa.concat_tables(batches) for table, batches in made.items()}
