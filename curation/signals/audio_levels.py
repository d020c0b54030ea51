"""Audio levels: loudness, clipping, silence, noise and bandwidth of a segment's sound."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa

from curation.av.loudness import bandwidth_hz, clip_share, loudness_lufs, silence_share, snr_db
from curation.av.segment_signal import DecodedSegment, SegmentSignal


class AudioLevels(SegmentSignal):
    """Figures by which silent, clipped, noisy and dull sound is told from the rest; null without sound.

    Columns: `has_audio`; `loudness_lufs` (BS.1770-4 integrated, -70 to about 5; null where all is quieter, and below a
    sample rate of 4 kHz); `clip_share` (0-1, of samples in runs at full scale); `silence_share` (0-1, of windows of
    20 ms below -60 dBFS); `snr_db` (-20 to 100: 95th against 10th percentile of the windows' powers);
    `bandwidth_hz` (highest band within 50 dB of the strongest). On the sound at its own rate, at most two channels.
    Unit: as said. Model: none. Source: ITU-R BS.1770-4; thresholds of use: 80% silence (HunyuanVideo-Foley).
    """

    version: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("native",)

    def writes(self) -> pa.Schema:
        return pa.schema(
            {
                "has_audio": pa.bool_(),
                "loudness_lufs": pa.float32(),
                "clip_share": pa.float32(),
                "silence_share": pa.float32(),
                "snr_db": pa.float32(),
                "bandwidth_hz": pa.float32(),
            }
        )

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        found = segment.native
        if found is None:
            return {**dict.fromkeys(self.writes().names), "has_audio": False}
        return {
            "has_audio": True,
            "loudness_lufs": loudness_lufs(found.pcm, found.rate_hz),
            "clip_share": clip_share(found.pcm),
            "silence_share": silence_share(found.pcm, found.rate_hz),
            "snr_db": snr_db(found.pcm, found.rate_hz),
            "bandwidth_hz": bandwidth_hz(found.pcm, found.rate_hz),
        }
