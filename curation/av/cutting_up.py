"""One medium into segments: decode once for scores, decide the ranges, cut. What a worker does with one source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from curation.av.frame_features import features_of
from curation.av.picture_motion import GREY_SIZE_PX
from curation.av.picture_track import PictureTrack, TrackMaker
from curation.av.segments import Features, Segmentation, Span, segment_uid, segments_of
from curation.av.shot_network import NetworkScores
from curation.av.shots import KOALA_SIZE_PX, ContentScores, FrameScores, KoalaScores
from curation.av.speech import RATE_HZ, SpeechSegmentation, speech_probabilities_of_cut
from curation.av.stills import STILLS_TAP, Stills
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
    Motion,
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

    def needs_model(self) -> bool:
        """Whether it runs a neural network for which a GPU is worth it."""
        return self.by == "shots" and (self.shots.stitching is not None or self.shots.detector == "transnetv2")

    def good_part(self) -> GoodPart:
        return GoodPart(self.keep_good_part, self.min_good_s, self.min_good_share)


@dataclass(frozen=True)
class Segment:
    """One segment of a source, or, where uid is None, why the source has none.

    span: as decided; cut: what was made of it; track: of its pictures, None where they were not looked at, or where
    other frames were cut than were seen; frame: a picture near its middle, JPEG, None where the source gave none.
    reason: `av.*`, None where the segment is good.
    """

    uid: str | None
    span: Span | None = None
    cut: Cut | None = None
    probe: AvProbe | None = None
    reason: str | None = None
    detail: str | None = None
    track: PictureTrack | None = None
    frame: bytes | None = None


_ROUNDING_S = 5e-4  # of time stamps, in Matroska
_TAP = FrameTap("every", 1, width_px=GREY_SIZE_PX[0], height_px=GREY_SIZE_PX[1])
_KOALA_TAP = FrameTap("every", 1, width_px=KOALA_SIZE_PX[0], height_px=KOALA_SIZE_PX[1])


def _taps(settings: Segmentation) -> tuple[FrameTap, ...]:
    """The frames that a pass looks at: small ones for the track and most detectors, stills, what a detector wants."""
    return (_TAP, STILLS_TAP, _KOALA_TAP) if settings.detector == "koala" else (_TAP, STILLS_TAP)


def _frame_scores(settings: Segmentation) -> FrameScores | None:
    match settings.detector:
        case "content" | "adaptive":
            return ContentScores()
        case "koala":
            return KoalaScores()
        case "transnetv2":
            assert settings.network is not None  # as its validator puts it
            return NetworkScores(settings.network.loaded())
    return None


class _Scored:
    """Collects scores and figures of frames, and samples for the VAD; not frames, so memory does not grow with them."""

    def __init__(self, settings: Segmentation) -> None:
        self._scores = _frame_scores(settings)
        self._scored_tap = 2 if settings.detector == "koala" else 0
        self.stills = Stills()
        self._maker = TrackMaker()
        self._scored: list[npt.NDArray[np.float64]] = []
        self._times: list[npt.NDArray[np.float64]] = []
        self._pcm: list[npt.NDArray[np.int16]] = []
        self._damaged: list[npt.NDArray[np.float64]] = []
        self.audio_start_s = 0.0

    def add(self, chunk: Chunk) -> None:
        if isinstance(chunk, Frames):
            if chunk.tap == self._scored_tap and self._scores is not None:
                self._scored.append(self._scores.add(chunk.pixels))
            if chunk.tap == 1:
                self.stills.add(chunk)
            if chunk.tap == 0:
                self._maker.add(chunk.pixels, chunk.times_s)
                self._times.append(chunk.times_s)
                if chunk.is_damaged.any():
                    self._damaged.append(chunk.times_s[chunk.is_damaged])
        elif isinstance(chunk, Motion):
            self._maker.add_motion(chunk.times_s, chunk.grid)
        elif isinstance(chunk, Samples):
            self.audio_start_s = chunk.start_s
            self._pcm.append(chunk.pcm[:, 0])

    def shots(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """(times, scores) of all frames."""
        if not self._times:
            return np.zeros(0), np.zeros(0)
        times = np.concatenate(self._times)
        if self._scores is None:
            return times, np.zeros(len(times))
        return times, np.concatenate([*self._scored, self._scores.finish()])

    def track(self) -> PictureTrack:
        return self._maker.track()

    def damaged_at(self) -> list[float]:
        """When damaged frames are shown, and those that refer to them: the first of each piece."""
        return [float(times[0]) for times in self._damaged]

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

    Never raises because of what `source` holds. features: of frames, for a segmentation that stitches; by its model
    where None.
    """
    detects = options.shots if options.by == "shots" else options.shots.changed(detector="none", network=None)
    frames = _taps(detects) if options.by != "speech" else ()
    audio = (AudioTap(RATE_HZ, samples="s16"),) if options.by != "shots" else ()
    outcome, scored = decoder.decode(
        source, Wanted(frames=frames, audio=audio, motion=bool(frames)), lambda: _Scored(detects)
    )
    if options.by == "shots" and outcome.reason == Reason.AV_NO_STREAM.value and decoder.probe(source).has_audio:
        return cut_up(decoder, source, source_uid, options.changed(by="whole"), features)
    stitching = options.shots.stitching
    if features is None and stitching is not None and options.by == "shots":
        features = features_of(decoder, source, stitching.loaded())
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
    found = list(_cut(decoder, source, source_uid, kept, options, scored, outcome.probe))
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
        whole = options.shots.changed(detector="none", network=None, stitching=None, trim_frames=0, min_shot_frames=0)
        return segments_of(np.zeros(1), end_s, np.zeros(1), whole)
    return segments_of(times, outcome.video_end_s or float(times[-1]), scores, options.shots, features)


def _is_damaged(outcome: AvOutcome, span: Span) -> bool:
    """Whether a range holds damage; beyond the thousandth the rest counts as damaged."""
    known_until = max((at for _, at in outcome.damages), default=0.0)
    if outcome.num_damages > len(outcome.damages) and span.end_s > known_until:
        return True
    end_s = span.end_s - 2 * _ROUNDING_S  # damage that ends a stream lies at its end, in whole milliseconds
    return any(span.start_s <= at < end_s for _, at in outcome.damages)


def _cut(
    decoder: AvDecoder,
    source: Source,
    source_uid: str,
    spans: list[Span],
    options: SegmentOptions,
    scored: _Scored,
    of_source: AvProbe,
) -> Iterator[Segment]:
    track = scored.track()
    slack_s = _slack_s(track, of_source)
    cutting = replace(options.cutting(), slack_s=slack_s)
    _, cuts = decoder.cut(source, [(span.start_s, span.end_s) for span in spans], cutting)
    for span, made in zip(spans, cuts, strict=True):
        uid = segment_uid(source_uid, span)
        if made.body is None:
            yield Segment(uid, span, made, reason=made.reason, detail=made.detail)
            continue
        probe = decoder.probe(made.body, is_own=True)
        seen = _track_of(track, span, made, probe, slack_s)
        still = scored.stills.of(span.start_s, span.end_s) if probe.has_video else None
        yield Segment(uid, span, made, probe, probe.reason, probe.detail, seen, still)


def _slack_s(track: PictureTrack, of_source: AvProbe) -> float:
    """How much before an edge a frame may be shown that counts as being at it: half of the least time between two
    frames, so that an edge at a frame takes none of those beside it, however the frame rate varies."""
    most_s = 0.5 / (of_source.frame_rate_hz or 30.0)
    least_s = 0.5 * float(np.diff(track.times_s).min(initial=2 * most_s))
    return min(most_s, max(least_s, _ROUNDING_S))


def _track_of(track: PictureTrack, span: Span, made: Cut, probe: AvProbe, slack_s: float) -> PictureTrack | None:
    """The part of the source's track that a cut holds; None where it holds another number of frames, so that these are
    looked at by themselves."""
    if made.start_s is None or made.video_end_s is None or probe.video_start_s is None or not probe.has_video:
        return None
    start_s, end_s = made.start_s, made.video_end_s
    if made.mode == "exact":  # as in av_cut_child.py
        start_s, end_s = span.start_s - slack_s, span.end_s - slack_s
    found = track.between(start_s, end_s, probe.video_start_s)
    return found if len(found.frames) == made.num_frames > 0 else None
