"""Signals of segments in the score stage, all that are missing at once: of the tracks of their pictures, and of their
sound, which is decoded once for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.av.picture_track import PictureTrack
from curation.av.segment_signal import DecodedSegment, SegmentSignal, decoded_segment
from curation.media.av_decode import AvDecoder
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
    for group in read_groups(media, ["bytes", "picture_track", "motion_track"]):
        for start in range(0, len(group), SEGMENTS_AT_A_TIME):
            found = [_decoded(decoder, row, signals) for row in group.slice(start, SEGMENTS_AT_A_TIME).to_pylist()]
            for signal in signals:
                made[signal.table_name()].append(signal.compute_segments(found))
    return {table: pa.concat_tables(batches) for table, batches in made.items()}


def _decoded(decoder: AvDecoder, row: dict[str, Any], signals: Sequence[SegmentSignal]) -> DecodedSegment | None:
    if row["bytes"] is None:
        return None
    is_seen = row["picture_track"] is not None
    track = PictureTrack.of_bytes(row["picture_track"], row["motion_track"]) if is_seen else None
    return decoded_segment(decoder, row["bytes"], signals, track)
