"""Modality integration rate: how far the states of pictures and of words lie apart inside a model that reads both.

Layer by layer (Huang et al. 2024, arXiv:2410.07167).

Shape suffixes: N tokens of pictures, M tokens of texts, W width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.checked import EvaluationError, check_vectors

OUTLIER_DEVIATIONS = 3.0
"""Rows whose norm is further from the median norm than so many standard deviations are replaced, as its code does."""
ZERO_DISTANCE = "zero distance"
_ZERO = 1e-10
"""Share of the two sets' spread below which a distance is what rounding leaves of 0."""


@dataclass(frozen=True)
class Integration:
    """distances: the Frechet distance of each layer, 0 where the two sets are the same."""

    distances: tuple[float, ...]

    @property
    def total(self) -> float:
        """Sum over the layers."""
        return math.fsum(self.distances)

    @property
    def rate(self) -> float | None:
        """log10 of the sum; None where that is 0, whose logarithm is no number."""
        return math.log10(self.total) if self.total > 0 else None

    def __str__(self) -> str:
        return ZERO_DISTANCE if self.rate is None else f"{self.rate:.3f}"


def integration(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> Integration:
    """layers: of each, the states of picture tokens (N, W) and of text tokens (M, W).

    Both are scaled by one over the mean norm of the text tokens, so that layers of other magnitude count alike, and
    outliers are replaced by the row whose norm is the median. Raises EvaluationError for no layer, fewer than two
    tokens of a kind, states that are not finite, and texts that are all zero.
    """
    if not layers:
        raise EvaluationError("modality integration needs at least one layer")
    distances = []
    for number, (image_NW, text_MW) in enumerate(layers):
        check_vectors(f"picture tokens of layer {number}", image_NW)
        check_vectors(f"text tokens of layer {number}", text_MW, image_NW.shape[1])
        if min(len(image_NW), len(text_MW)) < 2:
            raise EvaluationError(
                f"layer {number}: {len(image_NW)} picture tokens and {len(text_MW)} text tokens, two of each are needed"
            )
        image, text = image_NW.astype(np.float64), text_MW.astype(np.float64)
        norm = float(np.linalg.norm(text, axis=1).mean())
        if norm == 0:
            raise EvaluationError(f"layer {number}: all text tokens are zero")
        distances.append(frechet_distance(without_outliers(image / norm), without_outliers(text / norm)))
    return Integration(tuple(distances))


def without_outliers(state_NW: np.ndarray) -> np.ndarray:
    """Rows whose norm is more than 3 standard deviations from the median norm become the row of the (lower) median."""
    norm_N = np.linalg.norm(state_NW, axis=1)
    middle = np.argsort(norm_N, kind="stable")[(len(norm_N) - 1) // 2]
    far_N = np.abs(norm_N - norm_N[middle]) > OUTLIER_DEVIATIONS * norm_N.std()
    return np.where(far_N[:, None], state_NW[middle], state_NW)


def frechet_distance(a_NW: np.ndarray, b_MW: np.ndarray) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 (A B)^1/2) of the covariances A and B; 0 for equal sets, never below.

    The trace of the root is the sum of the singular values of Ra Rb', A being Ra' Ra: exact, where the released code's
    fast mode (5 steps of an iteration) is several times too high.
    """
    root_a, root_b = _root(a_NW), _root(b_MW)
    spread = float((root_a**2).sum() + (root_b**2).sum())
    cross = float(np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum())
    means = float(((a_NW.mean(axis=0) - b_MW.mean(axis=0)) ** 2).sum())
    distance = means + spread - 2 * cross
    return distance if distance > _ZERO * spread else 0.0


def _root(x_NW: np.ndarray) -> np.ndarray:
    """R with R' R = the covariance (of N - 1)."""
    centred = (x_NW - x_NW.mean(axis=0)) / math.sqrt(len(x_NW) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))
