"""Figures of several runs of several policies beside each other, with intervals over seeds and samples.

All runs answered the same questions, so a resampling draws the same samples for all of them, and a difference of two
policies is known better than either of the two. Shape suffixes: S seeds, Q queries, R resamplings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretrain.found import RANK, Row
from pretrain.metrics import BOOTSTRAP, TAILS, cluster_weights

OVER_BOTH, OVER_SEEDS, OVER_SAMPLES = "seeds and samples", "seeds", "samples"
"""What was drawn anew for an interval: seeds only for figures that are no mean over samples (the gap, for instance),
samples only where there is one seed, which says nothing of how seeds differ."""


@dataclass(frozen=True)
class Wanted:
    """One figure, as `curation.schema.FIGURES` names it."""

    suite: str
    metric: str
    direction: str | None = None
    language: str | None = None


@dataclass(frozen=True)
class RunRows:
    """What one run's evaluation found: rows of `FIGURES` and of `OUTCOMES`."""

    figures: list[Row]
    outcomes: list[Row]


class Incomparable(ValueError):
    """Runs that do not have the figure, or did not answer the same questions."""


def compare(wanted: Wanted, policies: Mapping[str, Sequence[RunRows]], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Policy -> {value, lo, hi, chance, interval, gain, gain_lo, gain_hi, seed_lo, seed_hi}.

    value: mean over the policy's runs. lo, hi: 95% of resamplings in which the runs (seeds) are drawn with replacement
    and, for figures that are made of single samples, the samples too. gain: over the first policy. With one run of each
    there is no such thing as an interval over seeds: samples are drawn, and of a figure that is no mean over samples
    the interval is the evaluation's own and the gain has none (gain_lo and gain_hi are None).
    Raises Incomparable.
    """
    single = {name: [figure_of(run, wanted) for run in runs] for name, runs in policies.items()}
    resampled_R, interval = resamplings(wanted, policies, seed)
    first = next(iter(policies))
    found = {}
    for name, rows in single.items():
        values = [float(row["value"]) for row in rows]
        lo, hi = np.quantile(resampled_R[name], TAILS).tolist() if interval else (rows[0]["lo"], rows[0]["hi"])
        gain: dict[str, float | None] = {"gain": None, "gain_lo": None, "gain_hi": None}
        if name != first:
            gain_lo = gain_hi = None
            if interval:
                gain_lo, gain_hi = np.quantile(resampled_R[name] - resampled_R[first], TAILS).tolist()
            base = float(np.mean([row["value"] for row in single[first]]))
            gain = {"gain": float(np.mean(values)) - base, "gain_lo": gain_lo, "gain_hi": gain_hi}
        chances = [row["chance"] for row in rows if row["chance"] is not None]
        found[name] = {
            "value": float(np.mean(values)), "lo": lo, "hi": hi, "chance": float(np.mean(chances)) if chances else None,
            "interval": interval or OVER_SAMPLES, **gain,
            "seed_lo": min(values), "seed_hi": max(values), "num_seeds": len(values),
        }  # fmt: skip
    return found


def resamplings(
    wanted: Wanted, policies: Mapping[str, Sequence[RunRows]], seed: int = 0
) -> tuple[dict[str, np.ndarray], str | None]:
    """Policy -> (R,) the figure in each resampling, the same samples being drawn for all; and what was drawn.

    That is None where there is nothing to draw: one run of each and a figure that is no mean over samples.
    Raises Incomparable.
    """
    single = {name: [figure_of(run, wanted) for run in runs] for name, runs in policies.items()}
    queries = _queries(wanted, policies)
    generator = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for name, runs in policies.items():
        share_RS = generator.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=BOOTSTRAP) / len(runs)
        if queries is None:
            value_RS = np.tile([row["value"] for row in single[name]], (BOOTSTRAP, 1))
        else:
            weight_RQ = cluster_weights(queries.cluster_Q, seed)
            value_RS = np.stack([_resampled(wanted.metric, each, weight_RQ) for each in queries.values[name]], axis=1)
        found[name] = (share_RS * value_RS).sum(axis=1)
    if all(len(runs) == 1 for runs in policies.values()):
        return found, None if queries is None else OVER_SAMPLES
    return found, OVER_SEEDS if queries is None else OVER_BOTH


def figure_of(run: RunRows, wanted: Wanted) -> Row:
    """The run's row of the figure. Raises Incomparable where it has none, or its value is no number."""
    for row in run.figures:
        if all(row[name] == getattr(wanted, name) for name in ("suite", "metric", "direction", "language")):
            if not math.isfinite(row["value"]):
                raise Incomparable(f"{row['suite']} {row['metric']} of the run {row['run']} is {row['value']}")
            return row
    there = sorted({" ".join(str(row[n]) for n in ("suite", "metric", "direction") if row[n]) for row in run.figures})
    name = " ".join(str(each) for each in vars(wanted).values() if each)
    raise Incomparable(f"the evaluation has no figure {name!r}; it has: {', '.join(there) or 'none'}")


@dataclass(frozen=True)
class _Queries:
    """cluster_Q: number of the sample of each query; values: policy -> for each run (Q,)."""

    cluster_Q: np.ndarray
    values: dict[str, list[np.ndarray]]


def _queries(wanted: Wanted, policies: Mapping[str, Sequence[RunRows]]) -> _Queries | None:
    """The single outcomes behind the figure, in one order for all runs; None where it is not made of any."""
    measure = RANK if wanted.metric == "median_rank" or wanted.metric.startswith("recall_at_") else wanted.metric
    asked: list[tuple[str, str]] | None = None
    values: dict[str, list[np.ndarray]] = {}
    for name, runs in policies.items():
        values[name] = []
        for run in runs:
            rows = sorted(
                (row["item"], row["cluster"], row["value"])
                for row in run.outcomes
                if (row["suite"], row["measure"], row["direction"]) == (wanted.suite, measure, wanted.direction)
                and (wanted.language is None or wanted.language in row["languages"])
            )
            own = [(item, cluster) for item, cluster, _ in rows]
            if asked is not None and own != asked:
                raise Incomparable(f"{wanted.suite}: runs of {name!r} were not asked what the others were asked")
            asked = own
            values[name].append(np.array([value for _, _, value in rows]))
    if not asked:
        return None
    return _Queries(np.unique([cluster for _, cluster in asked], return_inverse=True)[1], values)


def _resampled(metric: str, value_Q: np.ndarray, weight_RQ: np.ndarray) -> np.ndarray:
    """(R,) the figure of each resampling, from ranks or from single values."""
    total_R = weight_RQ.sum(axis=1)
    if metric == "median_rank":
        order = np.argsort(value_Q, kind="stable")
        place_R = (np.cumsum(weight_RQ[:, order], axis=1) >= total_R[:, None] / 2).argmax(axis=1)
        return np.asarray(value_Q[order][place_R])
    if metric.startswith("recall_at_"):
        value_Q = (value_Q <= int(metric.removeprefix("recall_at_"))).astype(np.float64)
    return np.asarray(weight_RQ @ value_Q / total_R)
