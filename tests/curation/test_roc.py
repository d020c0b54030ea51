"""AUC against the count of pairs, and its interval against the known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.roc import auc, auc_interval

SCORES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=20).map(np.array)


@given(SCORES, SCORES)
def test_the_share_of_pairs_in_the_right_order(positive: np.ndarray, negative: np.ndarray) -> None:
    pairs = [(p > n) + (p == n) / 2 for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(sum(pairs) / len(pairs))
    assert auc(negative, positive) == pytest.approx(1 - auc(positive, negative))


def test_nothing_to_compare() -> None:
    assert math.isnan(auc(np.array([]), np.array([1.0])))
    assert all(map(math.isnan, auc_interval(np.array([1.0]), np.array([]))))


def test_the_interval_has_about_the_width_of_theory() -> None:
    """Two normals one standard deviation apart: AUC 0.760; the standard error by Hanley and McNeil's formula."""
    rng = np.random.default_rng(1)
    positive, negative = rng.normal(1, 1, 400), rng.normal(0, 1, 400)
    a = auc(positive, negative)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = math.sqrt((a * (1 - a) + 399 * (q1 - a * a) + 399 * (q2 - a * a)) / 400**2)
    low, high = auc_interval(positive, negative)
    assert low < 0.760 < high
    assert (high - low) / (2 * 1.96 * error) == pytest.approx(1, abs=0.15)
    assert auc_interval(positive, negative) == (low, high)
    narrow = auc_interval(positive, negative, coverage=0.5)
    assert low < narrow[0] < narrow[1] < high
