"""Signals of a segment: pure functions of its pictures' track and of its decoded sound, all from one decoding.

`SegmentSignal` is to a segment what `ImageSignal` is to a picture: a signal says what it needs of the segment, the
stage asks the decoder once for all that the missing signals need. The track of its pictures is kept with a segment
since its source was decoded, so most signals need its sound decoded only.
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

from curation.av.fingerprints import AUDIO_RATE_HZ
from curation.av.picture_motion import GREY_SIZE_PX
from curation.av.picture_track import PictureTrack, TrackMaker
from curation.av.speech import speech_probabilities_of_cut
from curation.media.av_decode import AvDecoder, Source
from curation.media.av_types import AudioTap, Chunk, Frames, FrameTap, Gathered, Motion, Samples, Wanted
from curation.models import SOUND_RATE_HZ
from curation.reasons import Reason
from curation.signal import Level, Signal, as_table

PICTURES = "pictures"
GREY = "grey"
VIEWS = "views"
VIEW_RATE_HZ, VIEW_SHORT_SIDE_PX = 1.0, 256
"""Of the frames that models of pictures see: 1 to 2 a second in NeMo Curator and cosmos-curate."""
FRAME_TAPS = {
    PICTURES: FrameTap("every", 1, width_px=GREY_SIZE_PX[0], height_px=GREY_SIZE_PX[1]),
    GREY: FrameTap("every", 1, width_px=GREY_SIZE_PX[0], height_px=GREY_SIZE_PX[1], pixels="gray"),
    VIEWS: FrameTap("rate", VIEW_RATE_HZ, short_side_px=VIEW_SHORT_SIDE_PX),
}
AUDIO_TAPS = {
    "native": AudioTap(num_channels=2),
    "speech": AudioTap(16_000),
    "low": AudioTap(AUDIO_RATE_HZ),
    "wide": AudioTap(SOUND_RATE_HZ),
}
"""What a signal may need: the track of the pictures, with the codec's motion vectors; every frame small and grey, and
one in colour a second for models of pictures, which are decoded anew; audio as it is (at most two channels), for speech
(16 kHz, mono), for fingerprints (8 kHz, mono), for models of sounds (48 kHz, mono)."""
MAX_BYTES = 1 << 29
"""Of one decoded segment: 10 minutes of all taps, 6 with pictures for models; what is beyond gives nulls."""


@dataclass(frozen=True)
class DecodedSegment:
    """What was decoded of one segment; None where it has no such stream or nobody needs it.

    end_s: where the last decoded frame of any stream ended, from the segment's start; 0 where nothing was decoded.
    """

    pictures: PictureTrack | None = None
    grey: Frames | None = None
    views: Frames | None = None
    native: Samples | None = None
    speech: Samples | None = None
    low: Samples | None = None
    wide: Samples | None = None
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
    """Names of `FRAME_TAPS` and `AUDIO_TAPS`."""

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


def wanted_for(signals: Iterable[SegmentSignal], has_track: bool = False) -> tuple[Wanted, list[str]]:
    """What one decoding has to give for all of them, and the names of its taps in order; without the track of pictures
    where that is there already."""
    needed = {name for signal in signals for name in signal.needs}
    unknown = needed - FRAME_TAPS.keys() - AUDIO_TAPS.keys()
    if unknown:
        raise ValueError(f"no such tap: {sorted(unknown)}; valid: {[*FRAME_TAPS, *AUDIO_TAPS]}")
    needed -= {PICTURES} if has_track else set()
    frames = [name for name in FRAME_TAPS if name in needed]
    audio = [name for name in AUDIO_TAPS if name in needed]
    wanted = Wanted(
        frames=tuple(FRAME_TAPS[name] for name in frames),
        audio=tuple(AUDIO_TAPS[name] for name in audio),
        motion=PICTURES in needed,
    )
    return wanted, [*frames, *audio]


class _Gathered(Gathered):
    """Makes the track of the tap `PICTURES`, which is the first if it is there, instead of keeping its frames."""

    def __init__(self, makes_track: bool) -> None:
        super().__init__(MAX_BYTES)
        self.maker = TrackMaker() if makes_track else None

    def add(self, chunk: Chunk) -> None:
        if self.maker is not None and isinstance(chunk, Frames) and chunk.tap == 0:
            self.maker.add(chunk.pixels, chunk.times_s)
        elif self.maker is not None and isinstance(chunk, Motion):
            self.maker.add_motion(chunk.times_s, chunk.grid)
        else:
            super().add(chunk)


def decoded_segment(
    decoder: AvDecoder, source: Source, signals: Iterable[SegmentSignal], track: PictureTrack | None = None
) -> DecodedSegment | None:
    """What these signals need of a segment, decoded where it is not there; None where it cannot be decoded.

    track: of its pictures, as it was kept when the segment was cut.
    """
    wanted, names = wanted_for(signals, track is not None)
    if not names:
        return DecodedSegment(pictures=track)
    outcome, got = decoder.decode(source, wanted, lambda: _Gathered(PICTURES in names))
    if track is not None and outcome.reason in (Reason.AV_NO_STREAM.value, Reason.AV_CORRUPT.value):
        return DecodedSegment(pictures=track)  # without the sound that is asked for, or with a broken one
    if outcome.reason is not None or got.is_full:
        return None
    return _of(got, names, track, max(outcome.video_end_s or 0.0, outcome.audio_end_s or 0.0))


def _of(got: _Gathered, names: list[str], track: PictureTrack | None, end_s: float) -> DecodedSegment:
    made = got.maker.track() if got.maker is not None else None
    if made is not None and len(made.frames):
        track = made
    frames = [name for name in names if name in FRAME_TAPS]
    audio = [name for name in names if name in AUDIO_TAPS]
    sounds = {name: got.samples(k) for k, name in enumerate(audio)}
    return DecodedSegment(
        pictures=track,
        grey=got.frames(frames.index(GREY)) if GREY in frames else None,
        views=got.frames(frames.index(VIEWS)) if VIEWS in frames else None,
        native=sounds.get("native"),
        speech=sounds.get("speech"),
        low=sounds.get("low"),
        wide=sounds.get("wide"),
        end_s=end_s,
    )
