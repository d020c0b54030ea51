"""pretrain/integration.py: against scipy's exact root, and what the rate is where there is no distance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pretrain.checked import EvaluationError
from pretrain.integration import ZERO_DISTANCE, frechet_distance, integration, without_outliers


def states(number: int, width: int, seed: int, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.asarray(generator.normal(size=(number, width)) @ generator.normal(size=(width, width)) + shift)


@pytest.mark.family("F32")
@pytest.mark.parametrize("width", [1, 5, 16])
def test_the_distance_is_the_formula_with_an_exact_root(width: int) -> None:
    a, b = states(60, width, 0), states(40, width, 1, shift=0.3)
    cov_a, cov_b = (np.atleast_2d(np.cov(x.T)) for x in (a, b))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-8)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))
    shifted = frechet_distance(a, a + 2.0)
    assert shifted == pytest.approx(4.0 * width, rel=1e-6)  # nothing but the means differs
    few = states(4, 16, 2)  # fewer tokens than dimensions: the covariances have no full rank
    assert frechet_distance(few, few + 1.0) == pytest.approx(16.0, rel=1e-6)


@pytest.mark.family("F32")
def test_equal_sets_are_zero_distance_and_not_minus_infinity() -> None:
    """F32 (f)."""
    a = states(50, 8, 3)
    same = integration([(a, a.copy()), (5 * a, 5 * a[::-1])])
    assert (same.total, same.rate, str(same)) == (0.0, None, ZERO_DISTANCE)
    apart = integration([(a, a), (a + 1.0, a)])
    assert apart.rate is not None
    assert apart.rate == pytest.approx(math.log10(apart.total))
    assert str(apart) == f"{apart.rate:.3f}"


def test_layers_are_scaled_by_their_texts_and_outliers_replaced() -> None:
    image, text = states(30, 6, 4), states(50, 6, 5)
    once = integration([(image, text)])
    assert integration([(100 * image, 100 * text)]).total == pytest.approx(once.total)
    assert integration([(image, text)] * 3).total == pytest.approx(3 * once.total)
    with_outlier = np.vstack([image] * 4)
    with_outlier[7] *= 1000
    kept = without_outliers(with_outlier)
    norms = np.linalg.norm(with_outlier, axis=1)
    median = with_outlier[np.argsort(norms, kind="stable")[(len(norms) - 1) // 2]]
    np.testing.assert_array_equal(kept[7], median)
    np.testing.assert_array_equal(np.delete(kept, 7, axis=0), np.delete(with_outlier, 7, axis=0))


def test_bad_states_are_named() -> None:
    image, text = states(5, 3, 6), states(5, 3, 7)
    for layers, said in (
        ([], "at least one layer"),
        ([(image[:1], text)], "layer 0: 1 picture tokens and 5 text tokens"),
        ([(image, text), (image, text[:, :2])], "text tokens of layer 1 have 2 dimensions, the others have 3"),
        ([(image, np.full_like(text, np.nan))], "text tokens of layer 0: 5 of 5 hold values that are not finite"),
        ([(image, np.zeros_like(text))], "layer 0: all text tokens are zero"),
        ([(image[:0], text)], "picture tokens of layer 0: there are none"),
    ):
        with pytest.raises(EvaluationError, match=said):
            integration(layers)
