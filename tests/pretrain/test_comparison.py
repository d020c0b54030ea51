"""pretrain/comparison.py: intervals over seeds and samples against their definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pretrain.comparison import Incomparable, RunRows, Wanted, compare
from pretrain.found import RANK

WANTED = Wanted("s", "recall_at_5", "text_to_image")


def run(ranks: np.ndarray, per_picture: int = 2, metric: str = "recall_at_5", value: float | None = None) -> RunRows:
    shared = {"suite": "s", "direction": "text_to_image"}
    figure = {**shared, "metric": metric, "language": None, "chance": 0.1}
    figure["value"] = float((ranks <= 5).mean()) if value is None else value
    outcomes: list[dict[str, Any]] = [
        {**shared, "measure": RANK, "item": f"t{n:04}", "cluster": f"u{n // per_picture}", "languages": ["en"],
         "value": float(rank)}
        for n, rank in enumerate(ranks)
    ]  # fmt: skip
    return RunRows([figure], outcomes[::-1])


def ranks(share: float, seed: int, number: int = 400) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.where(generator.random(number) < share, 1, 50)


def test_one_seed_is_the_bootstrap_over_samples() -> None:
    own = ranks(0.4, 0)
    found = compare(WANTED, {"a": [run(own)]})["a"]
    hits = (own <= 5).reshape(-1, 2).mean(axis=1)  # pictures are drawn, with both of their captions
    error = hits.std() / np.sqrt(len(hits))
    assert found["value"] == (own <= 5).mean()
    assert found["hi"] - found["lo"] == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert (found["gain"], found["interval"], found["chance"]) == (None, "samples", 0.1)


def test_seeds_that_differ_widen_the_interval() -> None:
    alike = compare(WANTED, {"a": [run(ranks(0.4, 0))] * 3})["a"]
    apart = compare(WANTED, {"a": [run(ranks(share, 0)) for share in (0.2, 0.4, 0.6)]})["a"]
    assert apart["hi"] - apart["lo"] > 2 * (alike["hi"] - alike["lo"])
    assert (apart["seed_lo"], apart["seed_hi"]) == ((ranks(0.2, 0) <= 5).mean(), (ranks(0.6, 0) <= 5).mean())


def test_a_gain_is_paired() -> None:
    """The same queries, all a little better: the gain is known, though both intervals overlap."""
    base = ranks(0.3, 1)
    better = base.copy()
    better[np.flatnonzero(base > 5)[:12]] = 1
    found = compare(WANTED, {"pool": [run(base)], "curated": [run(better)]})
    assert found["pool"]["hi"] > found["curated"]["lo"]
    assert found["curated"]["gain"] == pytest.approx(12 / 400)
    assert 0 < found["curated"]["gain_lo"] < 12 / 400 < found["curated"]["gain_hi"]


def test_figures_that_are_no_means_have_seeds_only() -> None:
    runs = [run(ranks(0.4, 0), metric="modality_gap", value=value) for value in (0.5, 0.6, 0.7)]
    found = compare(Wanted("s", "modality_gap", "text_to_image"), {"a": runs})["a"]
    assert found["interval"] == "seeds"
    assert (found["lo"], found["hi"]) == (0.5, 0.7)
    assert found["value"] == pytest.approx(0.6)


def test_one_seed_and_no_mean_has_the_evaluations_own_interval_and_no_gain_interval() -> None:
    """Drawing one value from one would give an interval of no width, which says that nothing is in doubt."""
    runs = {}
    for name, value in (("a", 0.5), ("b", 0.7)):
        made = run(ranks(0.4, 0), metric="modality_gap", value=value)
        made.figures[0].update(lo=value - 0.1, hi=value + 0.2)
        runs[name] = [made]
    found = compare(Wanted("s", "modality_gap", "text_to_image"), runs)
    assert (found["a"]["lo"], found["a"]["hi"], found["a"]["interval"]) == (0.4, 0.7, "samples")
    assert found["b"]["gain"] == pytest.approx(0.2)
    assert (found["b"]["gain_lo"], found["b"]["gain_hi"]) == (None, None)


def test_a_figure_that_is_no_number_is_refused() -> None:
    made = run(ranks(0.4, 0), metric="modality_gap", value=float("nan"))
    made.figures[0]["run"] = "r-1"
    with pytest.raises(Incomparable, match="s modality_gap of the run r-1 is nan"):
        compare(Wanted("s", "modality_gap", "text_to_image"), {"a": [made]})


def test_runs_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(Incomparable, match="no figure 's recall_at_1 text_to_image'; it has: s recall_at_5"):
        compare(Wanted("s", "recall_at_1", "text_to_image"), {"a": [run(ranks(0.4, 0))]})
    with pytest.raises(Incomparable, match="runs of 'b' were not asked what"):
        compare(WANTED, {"a": [run(ranks(0.4, 0))], "b": [run(ranks(0.4, 0, number=398))]})


def test_medians_come_from_ranks() -> None:
    own = np.arange(1, 402)
    found = compare(Wanted("s", "median_rank", "text_to_image"), {"a": [run(own, 1, "median_rank", 201.0)]})["a"]
    assert found["lo"] < 201 < found["hi"]
    assert found["hi"] - found["lo"] == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(401) * 401, rel=0.25)
