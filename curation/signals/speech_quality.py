"""Speech: how much of a segment is speech, and how good it sounds."""

from __future__ import annotations

from typing import ClassVar

import pyarrow as pa
from pydantic import Field

from curation.av.segment_signal import DecodedSegment, SegmentSignal
from curation.av.speech import SpeechSpans, dnsmos, dnsmos_weights, vad_weights
from curation.file_digest import known_digest


class SpeechQuality(SegmentSignal):
    """Share of speech, and the opinion that listeners would have of it; null without sound.

    Columns: `speech_share` (0-1, of the sound's time in spans of speech); `dnsmos_signal`, `dnsmos_background`,
    `dnsmos_overall` (1-5, in steps of 0.001; null where the share is below `min_speech_share`, for the model knows
    nothing but speech). At 16 kHz, mono. Unit: as said. Model: silero-vad 6 and DNSMOS P.835, as packaged.
    Source: Reddy et al. 2022; Emilia keeps an overall of 3.0 and above.
    """

    version: ClassVar[int] = 3
    needs: ClassVar[tuple[str, ...]] = ("speech",)

    spans: SpeechSpans = SpeechSpans()
    min_speech_share: float = Field(default=0.1, ge=0, le=1)
    quality: bool = True
    """Whether DNSMOS is asked at all: it costs ten times what everything else about a segment does. Without, its three
    columns are null."""
    dnsmos_hop_s: float = Field(default=4.0, gt=0)
    """Between the windows of 9.01 s over which DNSMOS is averaged. At 1 (speechmos) it costs four times as much; on
    five mixes of 25 s of spoken captions and noise the overall quality moved by at most 0.04."""

    def needs_model(self) -> bool:
        return False  # two small networks that run on a CPU in some milliseconds a second of sound

    def key_extras(self) -> dict[str, object]:
        return {"vad": known_digest(vad_weights()), "dnsmos": known_digest(dnsmos_weights())}

    def writes(self) -> pa.Schema:
        names = ("speech_share", "dnsmos_signal", "dnsmos_background", "dnsmos_overall")
        return pa.schema({name: pa.float32() for name in names})

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        found = segment.speech
        row: dict[str, object] = dict.fromkeys(self.writes().names)
        if found is None or len(found.pcm) == 0:
            return row
        pcm = found.pcm[:, 0].clip(-1, 1)
        length_s = len(pcm) / found.rate_hz
        spans = self.spans.of(segment.voice, length_s)
        share = sum(span.length_s for span in spans) / length_s
        row["speech_share"] = share
        scores = dnsmos(pcm, self.dnsmos_hop_s) if self.quality and share >= self.min_speech_share else None
        if scores is not None:
            row |= {name: round(value, 3) for name, value in zip(self.writes().names[1:], scores, strict=True)}
        return row
