"""Signals of a segment: pure functions of decoded video and audio, all from one decoding.

`SegmentSignal` is to a segment what `ImageSignal` is to a picture: a signal says what it needs of the segment, the
stage asks the decoder once for all that the missing signals need.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.av.fingerprints import AUDIO_RATE_HZ, FRAME_RATE_HZ, FRAME_SIZE_PX
from curation.av.speech import speech_probabilities_of_cut
from curation.media.av_decode import AvDecoder, Source
from curation.media.av_types import AudioTap, Frames, FrameTap, Gathered, Samples, Wanted
from curation.models import SOUND_RATE_HZ
from curation.signal import Level, Signal, as_table

GREY_SIZE_PX = (96, 54)
PICTURE_RATE_HZ, PICTURE_SHORT_SIDE_PX = 1.0, 256
"""Of the frames that models of pictures see: 1 to 2 a second in NeMo Curator and cosmos-curate."""
FRAME_TAPS = {
    "grey": FrameTap("every", 1, width_px=GREY_SIZE_PX[0], height_px=GREY_SIZE_PX[1], pixels="gray"),
    "hash_frames": FrameTap(
        "rate", FRAME_RATE_HZ, width_px=FRAME_SIZE_PX[0], height_px=FRAME_SIZE_PX[1], pixels="gray"
    ),
    "views": FrameTap("rate", PICTURE_RATE_HZ, short_side_px=PICTURE_SHORT_SIDE_PX),
}
AUDIO_TAPS = {
    "native": AudioTap(num_channels=2),
    "speech": AudioTap(16_000),
    "low": AudioTap(AUDIO_RATE_HZ),
    "wide": AudioTap(SOUND_RATE_HZ),
}
MOTION = "motion"
"""What a signal may need: every frame small and grey; frames for fingerprints; one in colour a second, for models of
pictures; audio as it is (at most two channels),
for speech (16 kHz, mono), for fingerprints (8 kHz, mono), for models of sounds (48 kHz, mono); the codec's motion
vectors."""
MAX_BYTES = 1 << 29
"""Of one decoded segment: 10 minutes of all taps, 6 with pictures for models; what is beyond gives nulls."""


@dataclass(frozen=True)
class DecodedSegment:
    """What was decoded of one segment; None where it has no such stream or nobody needs it.

    end_s: where the last decoded frame of any stream ended, from the segment's start.
    """

    grey: Frames | None = None
    hash_frames: Frames | None = None
    views: Frames | None = None
    native: Samples | None = None
    speech: Samples | None = None
    low: Samples | None = None
    wide: Samples | None = None
    motion: npt.NDArray[np.float32] | None = None
    end_s: float = 0.0

    @cached_property
    def voice(self) -> npt.NDArray[np.float32]:
        """Probability of speech in each 32 ms of `speech`, found once for all signals that ask; empty without it."""
        if self.speech is None or len(self.speech.pcm) == 0:
            return np.zeros(0, np.float32)
        return speech_probabilities_of_cut(self.speech.pcm[:, 0].clip(-1, 1))


class SegmentSignal(Signal):
    """A signal of the decoded segment. Subclasses set `needs` and implement `of_segment`."""

    level: ClassVar[Level] = "media"
    needs: ClassVar[tuple[str, ...]] = ()
    """Names of `FRAME_TAPS`, `AUDIO_TAPS` and `MOTION`."""

    def reads(self) -> tuple[str, ...]:
        return ("stored_sha256",)

    @abstractmethod
    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        """Column name -> value; None where the segment has nothing to say of it."""

    def compute_segments(self, segments: Sequence[DecodedSegment | None]) -> pa.Table:
        """The new columns for `segments`, one row out for each; all null where there is no segment."""
        names = self.writes().names
        rows = [dict.fromkeys(names) if segment is None else self.of_segment(segment) for segment in segments]
        return as_table({name: [row[name] for row in rows] for name in names}, self.writes())


def wanted_for(signals: Iterable[SegmentSignal]) -> tuple[Wanted, list[str]]:
    """What one decoding has to give for all of them, and the names of its taps in order."""
    needed = {name for signal in signals for name in signal.needs}
    unknown = needed - FRAME_TAPS.keys() - AUDIO_TAPS.keys() - {MOTION}
    if unknown:
        raise ValueError(f"no such tap: {sorted(unknown)}; valid: {[*FRAME_TAPS, *AUDIO_TAPS, MOTION]}")
    frames = [name for name in FRAME_TAPS if name in needed]
    audio = [name for name in AUDIO_TAPS if name in needed]
    wanted = Wanted(
        frames=tuple(FRAME_TAPS[name] for name in frames),
        audio=tuple(AUDIO_TAPS[name] for name in audio),
        motion=MOTION in needed,
    )
    return wanted, [*frames, *audio]


def decoded_segment(decoder: AvDecoder, source: Source, signals: Iterable[SegmentSignal]) -> DecodedSegment | None:
    """Decode a segment for these signals; None where it cannot be decoded."""
    wanted, names = wanted_for(signals)
    outcome, got = decoder.gather(source, wanted, MAX_BYTES)
    if outcome.reason is not None or got.is_full:
        return None
    return _of(got, names, max(outcome.video_end_s or 0.0, outcome.audio_end_s or 0.0))


def _of(got: Gathered, names: list[str], end_s: float) -> DecodedSegment:
    frames = [name for name in names if name in FRAME_TAPS]
    audio = [name for name in names if name in AUDIO_TAPS]
    motion = got.motion()
    pictures = {name: got.frames(k) for k, name in enumerate(frames)}
    sounds = {name: got.samples(k) for k, name in enumerate(audio)}
    return DecodedSegment(
        grey=pictures.get("grey"),
        hash_frames=pictures.get("hash_frames"),
        views=pictures.get("views"),
        native=sounds.get("native"),
        speech=sounds.get("speech"),
        low=sounds.get("low"),
        wide=sounds.get("wide"),
        motion=None if motion is None else motion.grid,
        end_s=end_s,
    )
