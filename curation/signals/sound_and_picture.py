"""Sound and picture: whether what is heard happens when it is seen."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from curation.av.correspondence import correspondence
from curation.av.segment_signal import PICTURES, DecodedSegment, SegmentSignal


class SoundAndPicture(SegmentSignal):
    """Correlation in time of the sound's onsets with the picture's changes; null without both, and below two seconds.

    Columns: `av_offset_s` (-1 to 1, how much later the sound is); `av_confidence` (standard deviations of the other
    shifts; below 4 it is chance); `av_correlation` (-1 to 1, at that offset). Unit: as said. Model: none.
    Source: `curation.av.correspondence`; SyncNet-style filters take offsets up to 0.12 s.
    """

    version: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = (PICTURES, "speech")

    def writes(self) -> pa.Schema:
        return pa.schema({"av_offset_s": pa.float32(), "av_confidence": pa.float32(), "av_correlation": pa.float32()})

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        row: dict[str, object] = dict.fromkeys(self.writes().names)
        picture, sound = segment.pictures, segment.speech
        if picture is None or sound is None or len(picture.times_s) < 3:
            return row
        found = correspondence(picture.steps, picture.times_s, sound.pcm[:, 0], sound.rate_hz, sound.start_s)
        if found is not None:
            row |= {
                "av_offset_s": found.offset_s,
                "av_confidence": found.confidence,
                "av_correlation": found.correlation,
            }
        return row
