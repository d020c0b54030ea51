"""pretrain/metrics.py: ranks against brute force, chance lines against simulation, intervals that cover."""

from __future__ import annotations

import numpy as np
import pytest

from pretrain.metrics import chance_median_rank, chance_within, first_ranks, median_rank, retrieval_rows


def dull_rank(scores: np.ndarray, positive: np.ndarray) -> int:
    """Walk the candidates from best to worst, negatives first among equals, until a positive comes."""
    order = sorted(range(len(scores)), key=lambda c: (-scores[c], positive[c]))
    return next(place for place, c in enumerate(order, start=1) if positive[c])


@pytest.mark.family("F32")
def test_ranks_equal_brute_force_with_ties_and_several_positives() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, size=(300, 17)).astype(np.float32)  # full of ties
    positive = generator.random((300, 17)) < 0.2
    positive[~positive.any(axis=1), 3] = True
    expected = [dull_rank(*pair) for pair in zip(scores, positive, strict=True)]
    assert first_ranks(scores, positive).tolist() == expected


def test_a_model_that_says_the_same_of_everything_ranks_last() -> None:
    positive = np.eye(5, dtype=bool)
    assert first_ranks(np.zeros((5, 5)), positive).tolist() == [5] * 5


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        first_ranks(np.zeros((2, 3)), np.array([[True, False, False], [False] * 3]))
    with pytest.raises(ValueError, match="finite"):
        first_ranks(np.array([[np.nan, 1.0]]), np.array([[True, False]]))


def test_chance_equals_simulation() -> None:
    generator = np.random.default_rng(1)
    num_candidates, trials = 40, 20_000
    num_positives = np.array([1, 2, 7, 35])
    orders = generator.random((trials, num_candidates)).argsort(axis=1)
    for k in (1, 5, 10):
        expected = chance_within(num_positives, num_candidates, k)
        for m, chance in zip(num_positives, expected, strict=True):
            simulated = (orders[:, :k] < m).any(axis=1).mean()
            assert chance == pytest.approx(simulated, abs=4 * np.sqrt(0.25 / trials))
    assert chance_within(np.array([1]), 40, 10)[0] == pytest.approx(0.25)
    assert chance_within(np.array([31, 40]), 40, 10).tolist() == [1.0, 1.0]
    assert chance_within(np.array([1]), 3, 10)[0] == 1.0


def test_chance_median_equals_simulation() -> None:
    generator = np.random.default_rng(2)
    num_positives = np.array([1] * 50 + [3] * 30 + [9] * 20)
    firsts = []
    for _ in range(400):
        orders = generator.random((100, 60)).argsort(axis=1)
        firsts.append(np.where(orders < num_positives[:, None], np.arange(60), 60).min(axis=1) + 1)
    expected = chance_median_rank(num_positives, 60)
    assert expected == pytest.approx(np.median(np.concatenate(firsts)), abs=1)
    assert chance_median_rank(np.array([1]), 100) == 50


def test_median_rank_is_weighted() -> None:
    ranks = np.array([1, 9, 4])
    assert median_rank(ranks) == 4
    assert median_rank(ranks, np.array([0.0, 5.0, 1.0])) == 9


@pytest.mark.family("F32")
def test_random_vectors_lie_within_the_chance_interval() -> None:
    generator = np.random.default_rng(3)
    scores = generator.random((400, 100))
    positive = np.zeros((400, 100), dtype=bool)
    positive[np.arange(400), np.arange(400) % 100] = True
    rows = retrieval_rows(first_ranks(scores, positive), positive.sum(axis=1), 100, np.arange(400) % 100)
    assert [row["metric"] for row in rows] == ["recall_at_1", "recall_at_5", "recall_at_10", "median_rank"]
    for row in rows[1:]:
        assert float(row["lo"]) <= float(row["chance"]) <= float(row["hi"])
        assert float(row["lo"]) <= float(row["value"]) <= float(row["hi"])


def test_interval_is_of_pictures_not_of_captions() -> None:
    """Fifty copies of each query tell nothing new: the interval must not shrink."""
    generator = np.random.default_rng(4)
    ranks = generator.integers(1, 30, size=60)
    ones = np.ones(60, dtype=int)
    single = retrieval_rows(ranks, ones, 100, np.arange(60))
    copied = retrieval_rows(np.tile(ranks, 50), np.tile(ones, 50), 100, np.tile(np.arange(60), 50))
    for one, many in zip(single, copied, strict=True):
        assert one["lo"] == pytest.approx(many["lo"])
        assert one["hi"] == pytest.approx(many["hi"])
