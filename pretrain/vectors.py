"""Vectors of a version's pictures and of texts for an evaluation: each is made once, however many suites ask for it.

Shape suffixes: N rows asked for, D dimension.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pretrain.embed import TwoTowerScorer


class Vectors:
    """pixels: uint8 squares of all pictures of the version (see `pretrain.pictures`)."""

    def __init__(self, scorer: TwoTowerScorer, pixels: np.ndarray) -> None:
        self._scorer, self._pixels = scorer, pixels
        self._images: dict[int, np.ndarray] = {}
        self._texts: dict[str, np.ndarray] = {}

    def images(self, rows: np.ndarray) -> np.ndarray:
        """(N, D) of these rows of the version."""
        new = [row for row in dict.fromkeys(rows.tolist()) if row not in self._images]
        if new:
            self._images |= dict(zip(new, self._scorer.encode_squares(self._pixels[new]), strict=True))
        return np.stack([self._images[row] for row in rows.tolist()])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(N, D) of these texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            self._texts |= dict(zip(new, self._scorer.encode_texts(new)[0], strict=True))
        return np.stack([self._texts[text] for text in texts])
