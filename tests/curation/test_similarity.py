"""Tiled similarities against the plain matrix, and the same bytes whatever stands beside a row."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from curation.scorers import embedding_array
from curation.similarity import REFERENCES, ROWS, log_sum_exp, nearest, tiles, unit_vectors


def unit(count: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


ROWS_ND, REFERENCES_MD = unit(ROWS + 44, 16, 0), unit(REFERENCES + 904, 16, 1)
PLAIN = ROWS_ND.astype(np.float64) @ REFERENCES_MD.T.astype(np.float64)


def test_tiles_cover_the_matrix_once() -> None:
    found = np.full(PLAIN.shape, np.nan)
    for rows, references, products in tiles(ROWS_ND, REFERENCES_MD):
        assert np.isnan(found[rows, references]).all()
        found[rows, references] = products
    assert np.abs(found - PLAIN).max() < 1e-6


def test_nearest_is_the_first_of_the_largest() -> None:
    references = np.concatenate([REFERENCES_MD, REFERENCES_MD])  # every one of them twice
    index, value = nearest(ROWS_ND, references)
    assert (index == PLAIN.argmax(axis=1)).all()
    assert np.abs(value - PLAIN.max(axis=1)).max() < 1e-6
    with pytest.raises(ValueError, match="nothing to be near to"):
        nearest(ROWS_ND, REFERENCES_MD[:0])


@pytest.mark.parametrize("temperature", [0.01, 0.07, 1.0])
def test_log_sum_exp_is_the_definition(temperature: float) -> None:
    rng = np.random.default_rng(2)
    place = rng.integers(-1, len(REFERENCES_MD), len(ROWS_ND))
    own = rng.uniform(-1, 1, len(ROWS_ND)).astype(np.float32)
    for i, row in enumerate(PLAIN):
        products = row.copy()
        if place[i] >= 0:
            products[place[i]] = own[i]
        wanted = np.log(np.exp(products / temperature).sum())
        if i % 37 == 0:
            found = log_sum_exp(ROWS_ND[i : i + 1], REFERENCES_MD, own[i : i + 1], place[i : i + 1], temperature)
            assert found[0] == pytest.approx(wanted, abs=1e-6 / temperature)
    whole = log_sum_exp(ROWS_ND, REFERENCES_MD, own, place, temperature)
    alone = [
        log_sum_exp(ROWS_ND[i : i + 1], REFERENCES_MD, own[i : i + 1], place[i : i + 1], temperature)[0]
        for i in range(0, len(ROWS_ND), 50)
    ]
    assert whole[::50].tolist() == alone  # to the last bit, whatever stands beside a row


THREADS = """
import hashlib, sys
import numpy as np
from curation.similarity import log_sum_exp, nearest
rng = np.random.default_rng(3)
rows, references = (rng.normal(size=(n, 512)).astype(np.float32) for n in (700, 5000))
rows, references = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (rows, references))
own, place = rows[:, 0].copy(), np.arange(len(rows))
found = [*nearest(rows, references), log_sum_exp(rows, references, own, place, 0.01)]
print(hashlib.sha256(b"".join(each.tobytes() for each in found)).hexdigest())
"""


def test_the_number_of_threads_changes_no_bit() -> None:
    """Ray gives its workers one thread each, a serial run has them all; both must write the same bytes."""
    found = {
        subprocess.run(
            [sys.executable, "-c", THREADS],
            env={**os.environ, **{f"{name}_NUM_THREADS": count for name in ("OMP", "OPENBLAS", "MKL")}},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for count in ("1", "2")
    }
    assert len(found) == 1


def test_unit_vectors_leave_out_what_is_no_direction() -> None:
    rows = np.array([[3, 4], [0, 0], [np.inf, 1], [np.nan, 0], [1, 0]], np.float16)
    vectors, present = unit_vectors(embedding_array(rows, np.array([True, True, True, True, False])))
    assert present.tolist() == [True, False, False, False, False]
    assert vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], *[[0, 0]] * 4]
    assert unit_vectors(pa.array([], pa.list_(pa.float16(), 7)))[0].shape == (0, 7)


def test_vectors_of_two_models_are_refused() -> None:
    with pytest.raises(ValueError, match="of 16 and of 8 dimensions"):
        next(tiles(ROWS_ND, unit(3, 8, 0)))
