"""From shots to segments: lengths, trimming, stitching.

A segment is a time range [start_s, end_s) of a source. Its uid is made of the source's uid and the range in whole
milliseconds, so that cutting again, alone or with others, gives the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from curation.av.shot_network import ShotNetworkFields, network_shots
from curation.av.shots import adaptive_cuts, content_cuts, koala_cuts
from curation.models import Scorer
from curation.scorers import DEFAULT_SCORER, Precision, cached_scorer
from curation.step import Step
from curation.urls import uid

Floats = npt.NDArray[np.float64]
Features = Callable[[Sequence[float]], npt.NDArray[np.float32]]
"""Times in seconds -> one unit vector for the frame that is shown at each: [n, d]; NaN where there is none."""


@dataclass(frozen=True, order=True)
class Span:
    """A time range in seconds, end excluded."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


def segment_uid(source_uid: str, span: Span) -> str:
    """Name of a segment: 32 hex digits of its source's uid and its range in whole milliseconds."""
    return uid("segment", source_uid, str(round(span.start_s * 1000)), str(round(span.end_s * 1000)))


class Stitching(Step):
    """Panda-70M's second look at the pieces between cuts (event_stitching.py): frames at 5% and 95% of each piece are
    compared by the L2 distance of unit vectors (of ImageBind there; the distances below are for that model, and others
    want their own)."""

    not_in_key: ClassVar[frozenset[str]] = frozenset({"model", "scorer"})

    model: str | None = None
    """Which model gives the vectors, as of `curation.signals.image_embedding.ImageEmbedding`; a recipe names one."""
    scorer: str = DEFAULT_SCORER
    """Import path of the class that loads it (see `curation.models.load_scorer`)."""
    precision: Precision = "auto"
    max_within: float = 1.0
    """Pieces whose two frames are further apart hold a transition and are dropped."""
    max_between: float = 0.6
    """Neighbours whose touching frames are at most this far apart are one event."""
    min_within: float = 0.15
    """Events whose first and last frame are nearer are stills and are dropped."""
    min_to_earlier: float | None = None
    """Events nearer than this to an earlier one of the same source are repetitions and are dropped (paper: 0.3)."""

    def key_extras(self) -> dict[str, object]:
        return {} if self.model is None else {"weights": self.loaded().weights_digest}

    def loaded(self) -> Scorer:
        """The model, loaded at the first call in a process. Raises ValueError where there is none."""
        if self.model is None:
            raise ValueError(
                "stitching compares features of frames: it needs the field `model`, as ImageEmbedding does"
            )
        return cached_scorer(self.scorer, self.model, self.precision)


class Segmentation(Step):
    """How a video is cut into segments. Lengths in seconds."""

    detector: Literal["content", "adaptive", "koala", "transnetv2", "none"] = "content"
    threshold: float = 27.0
    """`content`: least score; `adaptive`: least ratio to the frames around; `transnetv2`: probability (0-1), 0.5 if it
    is not given, as its authors have it (NeMo Curator: 0.4)."""
    network: ShotNetworkFields | None = None
    """Of `transnetv2`: which weights, on which device."""
    min_shot_frames: int = Field(default=15, ge=0)
    split_above_s: float | None = None
    """Shots longer than this are cut every `split_every_s`."""
    split_every_s: float | None = None
    trim_frames: int = Field(default=0, ge=0)
    """Frames left out at both ends of a shot, where the transition may still be seen."""
    trim_s: float = Field(default=0.0, ge=0)
    trim_share: float = Field(default=0.0, ge=0, lt=0.5)
    stitching: Stitching | None = None
    """Needs features of frames."""
    min_s: float = Field(default=2.0, ge=0)
    max_s: float = Field(default=60.0, gt=0)
    above_max: Literal["split", "cut", "drop"] = "split"
    """A segment longer than `max_s`: `split` into equal parts, `cut` off at it, or `drop`."""

    @model_validator(mode="before")
    @classmethod
    def _of_network(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("detector") != "transnetv2":
            return values
        return {**values, "threshold": values.get("threshold", 0.5), "network": values.get("network") or {}}

    @model_validator(mode="after")
    def _fits_together(self) -> Segmentation:
        if self.network is not None and self.detector != "transnetv2":
            raise ValueError(f"`network` is for `detector: transnetv2`, not for {self.detector!r}")
        if self.detector == "transnetv2" and not 0 < self.threshold < 1:
            raise ValueError(f"the threshold of transnetv2 is a probability between 0 and 1, not {self.threshold:g}")
        return self


def cuts_of(scores: Floats, settings: Segmentation) -> list[int]:
    """Frames at which a new shot begins."""
    match settings.detector:
        case "content":
            return content_cuts(scores, settings.threshold, settings.min_shot_frames)
        case "adaptive":
            return adaptive_cuts(scores, settings.threshold, settings.min_shot_frames)
        case "koala":
            return koala_cuts(scores)
        case "transnetv2":
            return [first for first, _ in network_shots(scores, settings.threshold)[1:]]
    return []


def shots_of(times_s: Floats, end_s: float, scores: Floats, settings: Segmentation) -> list[Span]:
    """Shots, without those of too few frames, trimmed by frames.

    times_s: time of each frame, ascending; end_s: where the last frame ends; scores: of each frame.
    """
    ranges: list[tuple[int, int]] = list(pairwise([0, *cuts_of(scores, settings), len(times_s)]))
    if settings.detector == "transnetv2":  # which knows where a transition begins, too
        ranges = network_shots(scores, settings.threshold)
    ends = np.append(times_s, end_s)
    spans = []
    for first, last in ranges:
        first, last = first + settings.trim_frames, last - settings.trim_frames
        if last > first and last - first >= max(1, settings.min_shot_frames - 2 * settings.trim_frames):
            spans.append(Span(float(ends[first]), float(ends[last])))
    return spans


def segments_of(
    times_s: Floats, end_s: float, scores: Floats, settings: Segmentation, features: Features | None = None
) -> list[Span]:
    """The segments of one video, in order, not overlapping. Errors: ValueError where features are missing."""
    if len(times_s) == 0:
        return []
    pieces = shots_of(times_s, end_s, scores, settings)
    if settings.split_above_s is not None and settings.split_every_s is not None:
        pieces = [part for piece in pieces for part in _every(piece, settings.split_above_s, settings.split_every_s)]
    if settings.stitching is not None:
        if features is None:
            raise ValueError("this segmentation stitches pieces: it needs features of frames (an image embedding)")
        pieces = stitched(pieces, settings, features)
    pieces = [_trimmed(piece, settings.trim_s, settings.trim_share) for piece in pieces]
    pieces = [part for piece in pieces for part in _not_longer(piece, settings)]
    return [piece for piece in pieces if piece.length_s >= max(settings.min_s, 1e-9) - 1e-6]


def _every(piece: Span, above_s: float, every_s: float) -> list[Span]:
    if piece.length_s <= above_s:
        return [piece]
    starts = np.arange(piece.start_s, piece.end_s - 1e-9, every_s).tolist()
    return [Span(start, end) for start, end in zip(starts, [*starts[1:], piece.end_s], strict=True)]


def _trimmed(piece: Span, seconds: float, share: float) -> Span:
    off = seconds + share * piece.length_s
    middle = (piece.start_s + piece.end_s) / 2
    return Span(min(piece.start_s + off, middle), max(piece.end_s - off, middle))


def _not_longer(piece: Span, settings: Segmentation) -> list[Span]:
    if piece.length_s <= settings.max_s + 1e-6:
        return [piece]
    match settings.above_max:
        case "drop":
            return []
        case "cut":
            return [Span(piece.start_s, piece.start_s + settings.max_s)]
    parts = int(np.ceil(piece.length_s / settings.max_s - 1e-9))
    edges = np.linspace(piece.start_s, piece.end_s, parts + 1).tolist()
    return [Span(start, end) for start, end in pairwise(edges)]


def stitched(pieces: Sequence[Span], settings: Segmentation, features: Features) -> list[Span]:
    """Events: neighbouring pieces that look alike where they touch, without stills, transitions and repetitions."""
    wanted = settings.stitching
    if wanted is None or not pieces:
        return list(pieces)
    times = [piece.start_s + share * piece.length_s for piece in pieces for share in (0.05, 0.95)]
    vectors = features(times).reshape(len(pieces), 2, -1)
    whole = [
        k
        for k, (first, last) in enumerate(vectors)
        if np.isfinite(vectors[k]).all() and _distance(first, last) <= wanted.max_within
    ]
    groups: list[list[int]] = []
    for k in whole:
        is_next = bool(groups) and abs(pieces[groups[-1][-1]].end_s - pieces[k].start_s) < 1e-6
        if is_next and _distance(vectors[groups[-1][-1]][1], vectors[k][0]) <= wanted.max_between:
            groups[-1].append(k)
        else:
            groups.append([k])
    events, seen = [], list[npt.NDArray[np.float32]]()
    for group in groups:
        first, last = vectors[group[0]][0], vectors[group[-1]][1]
        if _distance(first, last) < wanted.min_within:
            continue
        middle = first + last
        middle = middle / max(float(np.linalg.norm(middle)), 1e-9)
        limit = wanted.min_to_earlier
        if limit is not None and any(_distance(middle, other) < limit for other in seen):
            continue
        seen.append(middle)
        events.append(Span(pieces[group[0]].start_s, pieces[group[-1]].end_s))
    return events


def _distance(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(np.linalg.norm(a - b))
