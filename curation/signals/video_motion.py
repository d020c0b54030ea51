"""Video motion: how much moves in a segment, and what is a still, a slide show, black or framed by bars."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.av.picture_motion import borders, motion_of_vectors, stillness
from curation.av.segment_signal import PICTURES, DecodedSegment, SegmentSignal


class VideoMotion(SegmentSignal):
    """Figures by which stills, slide shows, black video and bars are told from moving pictures; null without video.

    Columns: `motion_mean`, `motion_least` (0 and more: mean length of the codec's motion vectors in frame heights a
    frame, of all and of the quietest sixteenth of the picture, on one frame of each fifth of a second; null for codecs
    that do not export them);
    `still_share`, `jump_share`, `black_share` (0-1, of frames that repeat the one before, are another picture, are
    black); `is_slideshow`; `bar_share` (0-1, of the picture's area that dark bars at its edges take; null where it is
    dark altogether). On every frame at 96 x 54, grey: of the source, where the segment is cut out of one. Unit: as
    said. Model: none. Source: NeMo Curator's motion filter for the vectors; thresholds of `curation.av.picture_motion`.
    """

    version: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = (PICTURES,)

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "motion_mean": pa.float32(),
                "motion_least": pa.float32(),
                "still_share": pa.float32(),
                "jump_share": pa.float32(),
                "black_share": pa.float32(),
                "is_slideshow": pa.bool_(),
                "bar_share": pa.float32(),
            }
        )

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        row: dict[str, object] = dict.fromkeys(self.writes().names)
        if segment.pictures is None:
            return row
        frames = segment.pictures.frames
        motion = motion_of_vectors(segment.pictures.motion["grid"])
        if motion is not None:
            row["motion_mean"], row["motion_least"] = motion
        still = stillness(segment.pictures.steps, np.asarray(frames["level"], np.float64))
        bars = borders(*segment.pictures.lit)
        if still is not None:
            row |= {
                "still_share": still.still_share,
                "jump_share": still.jump_share,
                "black_share": still.black_share,
                "is_slideshow": still.is_slideshow,
            }
        if bars is not None:
            row["bar_share"] = 1 - (1 - bars.top - bars.bottom) * (1 - bars.left - bars.right)
        return row
