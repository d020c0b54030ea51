"""Area under the ROC curve: how well a number tells two kinds of rows apart, and how sure that is."""

from __future__ import annotations

import numpy as np

RESAMPLES = 1000


def auc(positive_scores: np.ndarray, negative_scores: np.ndarray) -> float:
    """Probability that a positive scores above a negative, equal scores counting half; NaN where either is empty.

    Source: Hanley and McNeil 1982 (the Mann-Whitney statistic).
    """
    num_positive, num_negative = len(positive_scores), len(negative_scores)
    if not num_positive or not num_negative:
        return float("nan")
    scores = np.concatenate([positive_scores, negative_scores])
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    above = ranks[:num_positive].sum() - num_positive * (num_positive + 1) / 2
    return float(above / (num_positive * num_negative))


def auc_interval(
    positive_scores: np.ndarray, negative_scores: np.ndarray, coverage: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of `auc`: both kinds drawn anew, each with replacement, 1,000 times.

    The same numbers give the same interval. Rows that hang together (captions of one picture) make it too narrow.
    Source: Efron and Tibshirani 1993.
    """
    rng = np.random.default_rng(seed)
    if not len(positive_scores) or not len(negative_scores):
        return float("nan"), float("nan")
    found = [
        auc(rng.choice(positive_scores, len(positive_scores)), rng.choice(negative_scores, len(negative_scores)))
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(found, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)
