"""pretrain/weighted_rows.py and resampling.py against sums in float64, and the law that a flat picture stays flat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.resampling import WEIGHT_BITS, Resample, scaled_part
from pretrain.weighted_rows import combine


@given(
    num_taps=st.sampled_from([1, 4, 5, 8, 9, 12, 17, 72]),
    width=st.sampled_from([1, 31, 32, 33, 1024, 1025, 2100]),
    first=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_a_sum_is_that_in_float64_but_for_its_rounding(num_taps: int, width: int, first: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_rows, num_sums = 100, 12
    rows = rng.integers(0, 256, (num_rows, first + width), dtype=np.uint8)
    starts = np.sort(rng.integers(0, num_rows, num_sums))
    of_rows = starts[:, None] + np.arange(num_taps)
    real = np.where(of_rows < num_rows, np.abs(rng.normal(0.2, 0.3, of_rows.shape)) + 1e-3, 0.0)
    weights = np.rint(real / real.sum(1, keepdims=True) * (1 << WEIGHT_BITS)).astype(np.int16)
    weights[:, 0] += (1 << WEIGHT_BITS) - weights.sum(1, dtype=np.int64).astype(np.int16)
    out = np.full((num_sums, width), 77, np.uint8)
    combine(rows, first, starts, weights, out)
    taken = rows[np.minimum(of_rows, num_rows - 1), first:].astype(np.float64)
    exact = np.einsum("pk,pkw->pw", weights / (1 << WEIGHT_BITS), taken)
    assert np.abs(out - exact).max() <= 0.5 + (num_taps / 2 + 1) / 64  # of each product less than 1/64 is cut off
    assert np.abs((out - exact).mean()) < 0.05 + 1 / np.sqrt(out.size)  # to both sides alike


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@given(height=st.integers(1, 700), width=st.integers(1, 700), size=st.integers(32, 300), level=st.integers(0, 255))
def test_a_flat_picture_stays_flat(resample: Resample, height: int, width: int, size: int, level: int) -> None:
    pixels = np.full((height, width, 3), level, np.uint8)
    assert np.all(scaled_part(pixels, size, size, 0, 0, size, resample) == level)


def test_many_rows_for_one() -> None:
    """More than anybody scales by: rounding adds up to no more than one level."""
    pixels = np.full((2000, 1500, 3), (0, 128, 255), np.uint8)
    small = scaled_part(pixels, 4, 4, 0, 0, 4, "bicubic").astype(int)
    assert np.abs(small - (0, 128, 255)).max() <= 1
