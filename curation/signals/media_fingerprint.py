"""Fingerprints of a segment's pictures and sound, for finding copies across containers, codecs and trims."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.av.copies import Track
from curation.av.fingerprints import AUDIO_HOP_S, FRAME_RATE_HZ, audio_hashes
from curation.av.segment_signal import PICTURES, DecodedSegment, SegmentSignal


class MediaFingerprint(SegmentSignal):
    """Sequences of hashes in time; `video_track` and `audio_track` make of them what `curation.av.copies` compares.

    Columns: `video_fingerprint` (bytes: 64 bits, little-endian, for each fifth of a second), `video_known` (bytes: 1
    where that frame has enough contrast to be known by it); `audio_fingerprint` (32 bits for each 23.25 ms),
    `audio_known` (1 where there is anything to hear); `audio_start_s` (seconds, of its first). Null without such a
    stream. Unit: as said. Model: none. Source: pHash; Haitsma and Kalker 2002.
    """

    version: ClassVar[int] = 2
    needs: ClassVar[tuple[str, ...]] = (PICTURES, "low")

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "video_fingerprint": pa.binary(),
                "video_known": pa.binary(),
                "audio_fingerprint": pa.binary(),
                "audio_known": pa.binary(),
                "audio_start_s": pa.float32(),
            }
        )

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        row: dict[str, object] = dict.fromkeys(self.writes().names)
        if segment.pictures is not None and len(segment.pictures.frames):
            times = segment.pictures.times_s
            grid = np.arange(int(times[-1] * FRAME_RATE_HZ + 1e-3) + 1) / FRAME_RATE_HZ
            shown = segment.pictures.frames[np.maximum(np.searchsorted(times, grid + 1e-3, side="right") - 1, 0)]
            row |= {"video_fingerprint": shown["hash"].tobytes(), "video_known": shown["is_known"].tobytes()}
        if segment.low is not None:
            sounds, heard = audio_hashes(segment.low.pcm[:, 0])
            row |= {"audio_fingerprint": sounds.astype("<u4").tobytes(), "audio_known": heard.tobytes()}
            row["audio_start_s"] = segment.low.start_s
        return row


def video_track(fingerprint: bytes, known: bytes) -> Track:
    return Track(np.frombuffer(fingerprint, "<u8"), np.frombuffer(known, np.bool_), 1 / FRAME_RATE_HZ)


def audio_track(fingerprint: bytes, known: bytes, start_s: float) -> Track:
    return Track(np.frombuffer(fingerprint, "<u4"), np.frombuffer(known, np.bool_), AUDIO_HOP_S, start_s)
