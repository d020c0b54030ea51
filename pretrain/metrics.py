"""Retrieval figures with their chance lines and intervals.

Shape suffixes: Q queries, N candidates, K cut-offs.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from pretrain.checked import EvaluationError, check_positives, check_values
from pretrain.found import Row

CUTOFFS = (1, 5, 10)
BOOTSTRAP = 1000
INTERVAL = 0.95
TAILS = ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2)
"""Quantiles of the resamplings that an interval goes from and to."""
_ROUNDING = 1e-9


def first_ranks(scores_QN: np.ndarray, positive_QN: np.ndarray) -> np.ndarray:
    """(Q,) rank (1 = best) of each query's best positive; a negative with the same score stands before it.

    Every query needs a positive. Raises EvaluationError where one has none, or a score is not finite.
    """
    check_positives(positive_QN, *scores_QN.shape)
    if not np.isfinite(scores_QN).all():
        raise EvaluationError("scores must be finite")
    best_Q = np.where(positive_QN, scores_QN, -np.inf).max(axis=1)
    ahead: np.ndarray = ((scores_QN >= best_Q[:, None]) & ~positive_QN).sum(axis=1) + 1
    return ahead


def chance_within(num_positives_Q: np.ndarray, num_candidates: int, k: int) -> np.ndarray:
    """(Q,) probability that a random order of the candidates has a positive among the first k.

    Exactly 1 - C(N - m, k) / C(N, k) for m positives among N.
    """
    m = np.asarray(num_positives_Q, dtype=np.float64)
    k = min(k, num_candidates)
    rest = num_candidates - m
    possible = rest >= k
    safe = np.where(possible, rest, k)
    log_none = _log_choose(safe, k) - _log_choose(np.float64(num_candidates), k)
    return np.where(possible, -np.expm1(log_none), 1.0)


def chance_median_rank(num_positives_Q: np.ndarray, num_candidates: int) -> int:
    """Smallest rank by which, in expectation, at least half of the queries have met a positive in a random order."""
    values, counts = np.unique(num_positives_Q, return_counts=True)
    low, high = 1, num_candidates
    while low < high:
        middle = (low + high) // 2
        if (chance_within(values, num_candidates, middle) * counts).sum() >= counts.sum() * (0.5 - _ROUNDING):
            high = middle
        else:
            low = middle + 1
    return low


def _log_choose(n: np.ndarray | np.float64, k: int) -> np.ndarray:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def chance_rank_moments(num_positives_Q: np.ndarray, num_candidates: int) -> tuple[np.ndarray, np.ndarray]:
    """(Q,) mean and variance of the rank of the best of m positives in a random order of N candidates.

    The negatives ahead of it are negative hypergeometric: mean (N - m) / (m + 1), variance
    m (N - m) (N + 1) / ((m + 1)^2 (m + 2)) (Johnson, Kemp and Kotz, Univariate Discrete Distributions, 6.2.2).
    """
    m = np.asarray(num_positives_Q, dtype=np.float64)
    rest = num_candidates - m
    return rest / (m + 1) + 1, m * rest * (num_candidates + 1) / ((m + 1) ** 2 * (m + 2))


def chance_reciprocal_rank(num_positives_Q: np.ndarray, num_candidates: int) -> np.ndarray:
    """(Q,) expectation of 1 / rank of the best of m positives in a random order of N candidates."""
    values, place_Q = np.unique(num_positives_Q, return_inverse=True)
    within_KV = np.stack([chance_within(values, num_candidates, k) for k in range(1, num_candidates + 1)])
    at_KV = np.diff(within_KV, axis=0, prepend=np.zeros((1, len(values))))
    return np.asarray((at_KV / np.arange(1, num_candidates + 1)[:, None]).sum(axis=0)[place_Q])


def median_rank(ranks_Q: np.ndarray, weights_Q: np.ndarray | None = None) -> float:
    """Lower median: the smallest rank that at least half of the (weighted) queries reach."""
    order = np.argsort(ranks_Q, kind="stable")
    weights = np.ones(len(ranks_Q)) if weights_Q is None else weights_Q
    reached = np.cumsum(weights[order])
    return float(ranks_Q[order][np.searchsorted(reached, reached[-1] / 2)])


def retrieval_rows(
    ranks_Q: np.ndarray, num_positives_Q: np.ndarray, num_candidates: int, cluster_Q: np.ndarray
) -> list[Row]:
    """Rows {metric, value, lo, hi, chance, n} for R@1, R@5, R@10 and the median rank.

    lo, hi: 95% bootstrap interval, resampling clusters (pictures) and not queries, since the captions of one
    picture are not independent. chance: exact expectation of a random order with this many positives.
    Raises EvaluationError where the three do not fit together.
    """
    _check_ranks(ranks_Q, num_positives_Q, num_candidates, cluster_Q)
    weights_RQ = cluster_weights(cluster_Q)
    total_R = weights_RQ.sum(axis=1)
    rows = []
    for k in CUTOFFS:
        hit_Q = (ranks_Q <= k).astype(np.float64)
        chance = float(chance_within(num_positives_Q, num_candidates, k).mean())
        rows.append(row(f"recall_at_{k}", float(hit_Q.mean()), weights_RQ @ hit_Q / total_R, chance, len(ranks_Q)))
    order = np.argsort(ranks_Q, kind="stable")
    reached_RQ = np.cumsum(weights_RQ[:, order], axis=1)
    place_R = (reached_RQ >= total_R[:, None] / 2).argmax(axis=1)
    chance = float(chance_median_rank(num_positives_Q, num_candidates))
    rows.append(row("median_rank", median_rank(ranks_Q), ranks_Q[order][place_R], chance, len(ranks_Q)))
    return rows


def _check_ranks(ranks_Q: np.ndarray, num_positives_Q: np.ndarray, num_candidates: int, cluster_Q: np.ndarray) -> None:
    check_values("ranks", ranks_Q)
    if not len(ranks_Q) == len(num_positives_Q) == len(cluster_Q):
        raise EvaluationError(
            f"{len(ranks_Q)} ranks, {len(num_positives_Q)} numbers of positives, {len(cluster_Q)} clusters: "
            "one each for every query"
        )
    for kind, value_Q in (("ranks", ranks_Q), ("numbers of positives", num_positives_Q)):
        if value_Q.min() < 1 or value_Q.max() > num_candidates:
            raise EvaluationError(
                f"{kind} go from {value_Q.min()} to {value_Q.max()}; they lie between 1 and the "
                f"{num_candidates} candidates"
            )


def row(metric: str, value: float, value_R: np.ndarray, chance: float | None, n: int) -> Row:
    """{metric, value, lo, hi, chance, n}; value_R: the value in each resampling."""
    lo, hi = np.quantile(value_R, TAILS).tolist()
    return {"metric": metric, "value": value, "lo": lo, "hi": hi, "chance": chance, "n": n}


def mean_row(metric: str, value_Q: np.ndarray, cluster_Q: np.ndarray, chance: float) -> Row:
    """The row of a mean, or of a share; the bootstrap draws clusters."""
    check_values(metric, value_Q)
    weights_RQ = cluster_weights(cluster_Q)
    mean_R = weights_RQ @ value_Q.astype(np.float64) / weights_RQ.sum(axis=1)
    return row(metric, float(value_Q.mean()), mean_R, chance, len(value_Q))


def cluster_weights(cluster_Q: np.ndarray, seed: int = 0) -> np.ndarray:
    """(BOOTSTRAP, Q) float32: how often each query's cluster was drawn in each resampling.

    Raises EvaluationError where there is no query: there is nothing to draw.
    """
    if not len(cluster_Q):
        raise EvaluationError("no interval without a single query")
    clusters, member_Q = np.unique(cluster_Q, return_inverse=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(clusters), np.full(len(clusters), 1 / len(clusters)), size=BOOTSTRAP)
    return drawn[:, member_Q].astype(np.float32)
