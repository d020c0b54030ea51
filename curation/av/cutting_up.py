"""One medium into segments: decode once for scores, decide the ranges, cut. What a worker does with one source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from curation.av.segments import Features, Segmentation, Span, segment_uid, segments_of
from curation.av.shots import CONTENT_SIZE_PX, KOALA_SIZE_PX, ContentScores, KoalaScores
from curation.av.speech import RATE_HZ, SpeechSegmentation, speech_probabilities_of_cut
from curation.media.av_decode import AvDecoder, Source
from curation.media.av_types import (
    AudioTap,
    AvOutcome,
    AvProbe,
    Chunk,
    Cut,
    Cutting,
    Frames,
    FrameTap,
    GoodPart,
    Samples,
    Wanted,
    verdict,
)
from curation.reasons import Reason
from curation.step import Step


class SegmentOptions(Step):
    """How a source becomes segments. Field `segment` of a recipe."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"subtitles"})
    """Which texts are timed changes no cut."""

    by: Literal["shots", "speech", "whole"] = "shots"
    """`shots` of video (sound without pictures is taken whole); spans of `speech` (of audio, or of a video's sound);
    the `whole` medium, by the lengths of `shots`."""
    shots: Segmentation = Segmentation()
    speech: SpeechSegmentation = SpeechSegmentation()
    cut: Literal["copy", "exact", "auto"] = "auto"
    """`copy` keeps the packets and begins at the key frame before; `exact` encodes anew; `auto` copies where it can."""
    cut_tolerance_s: float = Field(default=0.04, ge=0)
    streams: Literal["all", "audio"] = "all"
    """`audio` leaves the pictures of a video out."""
    container: Literal["mp4", "matroska"] = "mp4"
    audio_codec: Literal["aac", "libopus", "flac"] = "aac"
    crf: int = Field(default=20, ge=0, le=51)
    max_segments: int = Field(default=2000, ge=1)
    """Of one source; what is beyond is counted in `detail`."""
    keep_good_part: bool = True
    min_good_s: float = Field(default=2.0, ge=0)
    min_good_share: float = Field(default=0.5, ge=0, le=1)
    """When the undamaged beginning of a damaged medium is enough; see `curation.media.av_types.GoodPart`."""

    subtitles: list[str] = []
    """Text columns of the source that hold whole SRT or WebVTT files: each cue becomes a text of the segment that it
    lies in. Subtitles within the medium are found without being named."""

    def cutting(self) -> Cutting:
        return Cutting(self.cut, self.cut_tolerance_s, self.container, self.audio_codec, self.streams, self.crf)

    def good_part(self) -> GoodPart:
        return GoodPart(self.keep_good_part, self.min_good_s, self.min_good_share)


@dataclass(frozen=True)
class Segment:
    """One segment of a source, or, where uid is None, why the source has none.

    span: as decided; cut: what was made of it. reason: `av.*`, None where the segment is good.
    """

    uid: str | None
    span: Span | None = None
    cut: Cut | None = None
    probe: AvProbe | None = None
    reason: str | None = None
    detail: str | None = None


class _Scored:
    """Collects scores of frames, and samples for the VAD, not frames: memory does not grow with pictures."""

    def __init__(self, detector: str) -> None:
        self._scores = KoalaScores() if detector == "koala" else ContentScores()
        self._scored: list[npt.NDArray[np.float64]] = []
        self._times: list[npt.NDArray[np.float64]] = []
        self._pcm: list[npt.NDArray[np.int16]] = []
        self._damaged: list[npt.NDArray[np.float64]] = []
        self.audio_start_s = 0.0

    def add(self, chunk: Chunk) -> None:
        if isinstance(chunk, Frames):
            self._scored.append(self._scores.add(chunk.pixels))
            self._times.append(chunk.times_s)
            self._damaged.append(chunk.times_s[chunk.is_damaged])
        elif isinstance(chunk, Samples):
            self.audio_start_s = chunk.start_s
            self._pcm.append(chunk.pcm[:, 0])

    def shots(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(times, scores) of all frames."""
        if not self._times:
            return np.zeros(0), np.zeros(0)
        return np.concatenate(self._times), np.concatenate(self._scored)

    def damaged_at(self) -> list[float]:
        """When damaged frames are shown, and those that refer to them: the first of each piece."""
        return [float(times[0]) for times in self._damaged if len(times)]

    def has_damage(self, span: Span) -> bool:
        """Whether a frame of this range is damaged, or refers to one that is."""
        return any(bool(((times >= span.start_s) & (times < span.end_s)).any()) for times in self._damaged)

    def pcm(self) -> npt.NDArray[np.float32]:
        whole = np.concatenate(self._pcm) if self._pcm else np.zeros(0, np.int16)
        return (whole / 32768).astype(np.float32)


def cut_up(
    decoder: AvDecoder, source: Source, source_uid: str, options: SegmentOptions, features: Features | None = None
) -> list[Segment]:
    """The segments of one medium, in order; one entry with a reason and no uid where it has none.

    Never raises because of what `source` holds. features: of frames, for a segmentation that stitches.
    """
    width, height = KOALA_SIZE_PX if options.shots.detector == "koala" else CONTENT_SIZE_PX
    frames = (FrameTap("every", 1, width_px=width, height_px=height),) if options.by != "speech" else ()
    audio = (AudioTap(RATE_HZ, samples="s16"),) if options.by != "shots" else ()
    outcome, scored = decoder.decode(
        source, Wanted(frames=frames, audio=audio), lambda: _Scored(options.shots.detector)
    )
    if options.by == "shots" and outcome.reason == Reason.AV_NO_STREAM.value and decoder.probe(source).has_audio:
        return cut_up(decoder, source, source_uid, options.changed(by="whole"), features)
    reason, detail = verdict(outcome, options.good_part())
    if reason is not None:
        return [Segment(None, probe=outcome.probe, reason=reason, detail=detail)]
    spans = [
        span
        for span in _spans(outcome, scored, options, features)
        if not scored.has_damage(span) and not _is_damaged(outcome, span)
    ]
    if not spans:
        why = detail or "no range is long enough, or all are too long"
        return [Segment(None, probe=outcome.probe, reason=Reason.AV_TOO_SHORT.value, detail=why)]
    kept = spans[: options.max_segments]
    found = list(_cut(decoder, source, source_uid, kept, options))
    if len(spans) > len(kept):
        left_out = f"{len(spans) - len(kept)} segments beyond {options.max_segments} were left out"
        found.append(Segment(None, probe=outcome.probe, reason=Reason.IN_OVER_LIMIT.value, detail=left_out))
    return found


def _spans(outcome: AvOutcome, scored: _Scored, options: SegmentOptions, features: Features | None) -> list[Span]:
    if options.by == "speech":
        pcm, zero = scored.pcm(), scored.audio_start_s
        spans = options.speech.of(speech_probabilities_of_cut(pcm), len(pcm) / RATE_HZ)
        return [Span(span.start_s + zero, span.end_s + zero) for span in spans]
    times, scores = scored.shots()
    if options.by == "whole" or len(times) == 0:
        end_s = max(outcome.video_end_s or 0.0, outcome.audio_end_s or 0.0)
        end_s = min([end_s, *(at for _, at in outcome.damages), *scored.damaged_at()])  # its good part
        whole = options.shots.changed(detector="none", stitching=None, trim_frames=0, min_shot_frames=0)
        return segments_of(np.zeros(1), end_s, np.zeros(1), whole)
    return segments_of(times, outcome.video_end_s or float(times[-1]), scores, options.shots, features)


def _is_damaged(outcome: AvOutcome, span: Span) -> bool:
    """Whether a range holds damage; beyond the thousandth the rest counts as damaged."""
    known_until = max((at for _, at in outcome.damages), default=0.0)
    if outcome.num_damages > len(outcome.damages) and span.end_s > known_until:
        return True
    return any(span.start_s <= at < span.end_s for _, at in outcome.damages)


def _cut(
    decoder: AvDecoder, source: Source, source_uid: str, spans: list[Span], options: SegmentOptions
) -> Iterator[Segment]:
    _, cuts = decoder.cut(source, [(span.start_s, span.end_s) for span in spans], options.cutting())
    for span, made in zip(spans, cuts, strict=True):
        uid = segment_uid(source_uid, span)
        if made.body is None:
            yield Segment(uid, span, made, reason=made.reason, detail=made.detail)
            continue
        probe = decoder.probe(made.body)
        yield Segment(uid, span, replace(made), probe, probe.reason, probe.detail)
