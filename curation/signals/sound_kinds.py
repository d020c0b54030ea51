"""Sound kinds: how much of a segment's sound is speech, tones (music, song), noise and silence."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.av.segment_signal import DecodedSegment, SegmentSignal
from curation.av.sound_kinds import TONAL_SHARE, standing_share
from curation.av.speech import RATE_HZ, SpeechSpans, vad_weights
from curation.file_digest import known_digest


class SoundKinds(SegmentSignal):
    """Each second of a segment's sound is silent, speech, tonal or noise; null without sound.

    Columns: `kind_speech_share`, `kind_tonal_share`, `kind_noise_share`, `kind_silent_share` (0-1, together 1: of the
    seconds; speech where more than half of a second is in a span of speech, tonal where partials stand in it, as in
    music, song and humming machines). A first split without a network of sounds; `SoundEmbedding` with texts such as
    "music" tells more. At 16 kHz, mono. Unit: none. Model: silero-vad 6, as packaged. Source: this project.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("speech",)

    spans: SpeechSpans = SpeechSpans()

    def key_extras(self) -> dict[str, object]:
        return {"vad": known_digest(vad_weights())}

    def writes(self) -> pa.Schema:
        return pa.schema({f"kind_{kind}_share": pa.float32() for kind in ("speech", "tonal", "noise", "silent")})

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        names = self.writes().names
        if segment.speech is None or len(segment.speech.pcm) == 0:
            return dict.fromkeys(names)
        pcm = segment.speech.pcm[:, 0].clip(-1, 1)
        standing = standing_share(pcm)
        spoken = np.zeros(len(standing))
        for span in self.spans.of(segment.voice, len(pcm) / RATE_HZ):
            edges = np.clip(np.arange(len(standing) + 1), span.start_s, span.end_s)
            spoken += np.diff(edges)
        is_silent = np.isnan(standing)
        is_speech = (spoken > 0.5) & ~is_silent
        is_tonal = ~is_silent & ~is_speech & (np.nan_to_num(standing) >= TONAL_SHARE)
        is_noise = ~(is_silent | is_speech | is_tonal)
        shares = [float(kind.mean()) for kind in (is_speech, is_tonal, is_noise, is_silent)]
        return dict(zip(names, shares, strict=True))
