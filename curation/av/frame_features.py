"""Features of frames at given times by the image tower of a scorer, for stitching shots that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from curation.av.segments import Features
from curation.media.av_decode import AvDecoder, Source
from curation.media.av_types import Chunk, Frames, FrameTap, Wanted
from curation.models import PreparingScorer, Scorer

SHORT_SIDE_PX = 512
"""Of a frame, where the scorer does not say how large it wants pictures; as signals of pictures see them."""


def features_of(decoder: AvDecoder, source: Source, scorer: Scorer) -> Features:
    """Of one medium. Decodes it once more: which frames are wanted is known only after its shots are."""
    size = scorer.image_size if isinstance(scorer, PreparingScorer) else SHORT_SIDE_PX

    def features(times_s: Sequence[float]) -> npt.NDArray[np.float32]:
        wanted = tuple(sorted(times_s))
        tap = FrameTap("times", wanted, short_side_px=size)
        _, found = decoder.decode(source, Wanted(frames=(tap,)), lambda: _Embedded(scorer))
        return found.at(times_s)

    return features


class _Embedded:
    """Keeps the vectors of frames, not the frames."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._times: list[npt.NDArray[np.float64]] = []
        self._vectors: list[npt.NDArray[np.float32]] = []

    def add(self, chunk: Chunk) -> None:
        if isinstance(chunk, Frames):
            vectors, is_there = self._scorer.encode_images(list(chunk.pixels))
            self._times.append(chunk.times_s)
            self._vectors.append(np.where(is_there[:, None], vectors, np.nan).astype(np.float32))

    def at(self, times_s: Sequence[float]) -> npt.NDArray[np.float32]:
        """The vector of the frame that is shown at each time; NaN where none was decoded."""
        if not self._times:
            return np.full((len(times_s), self._scorer.embed_dim), np.nan, np.float32)
        shown = np.searchsorted(np.concatenate(self._times), np.asarray(times_s) + 1e-6, side="right") - 1
        return np.concatenate(self._vectors)[np.maximum(shown, 0)]
