"""Similarities of many vectors with many others, in tiles: never all of them in memory.

Legend of shapes: N rows, M references, D dimensions.

Every tile but those of the last references has one and the same shape, rows being filled up with zeros: BLAS takes
other ways, and rounds otherwise, for other shapes, and a row's numbers must not depend on the rows beside it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from curation.scorers import embedding_matrix

ROWS, REFERENCES = 256, 4096
"""Rows and references of a tile: 4 MB of float32, which stays in a processor's cache."""


def unit_vectors(column: pa.Array | pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (N, D) of a column of embeddings, each of norm 1 (float16 moves norms by up to 5e-4), and bool (N).

    False, with zeros, where the embedding is null, zero or not finite.
    """
    vectors_ND, present_N = embedding_matrix(column)
    norms_N = np.linalg.norm(vectors_ND, axis=1)
    present_N = present_N & np.isfinite(norms_N) & (norms_N > 0)
    vectors_ND[~present_N] = 0
    return vectors_ND / np.where(present_N, norms_N, 1)[:, None], present_N


def tiles(rows_ND: np.ndarray, references_MD: np.ndarray) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Dot products, tile by tile: which rows, which references, float32 (rows, references).

    All tiles of some rows come one after the other, references in order. The array is overwritten by the next tile.
    """
    num_rows, dim = rows_ND.shape
    if references_MD.shape[1] != dim and len(references_MD):
        raise ValueError(f"vectors of {dim} and of {references_MD.shape[1]} dimensions: not of one model")
    block_RD = np.zeros((ROWS, dim), np.float32)
    products = np.empty(ROWS * min(REFERENCES, len(references_MD)), np.float32)
    for start in range(0, num_rows, ROWS):
        rows = slice(start, min(start + ROWS, num_rows))
        block_RD[: rows.stop - start] = rows_ND[rows]
        block_RD[rows.stop - start :] = 0
        for first in range(0, len(references_MD), REFERENCES):
            references = slice(first, min(first + REFERENCES, len(references_MD)))
            tile = products[: ROWS * (references.stop - first)].reshape(ROWS, references.stop - first)
            np.matmul(block_RD, references_MD[references].T, out=tile)
            yield rows, references, tile[: rows.stop - start]


def nearest(rows_ND: np.ndarray, references_MD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the index (int64) of the reference with the largest dot product (the first of equals), and that.

    Raises ValueError without references.
    """
    if not len(references_MD):
        raise ValueError("there is nothing to be near to")
    index_N = np.zeros(len(rows_ND), np.int64)
    best_N = np.full(len(rows_ND), -np.inf, np.float32)
    for rows, references, products in tiles(rows_ND, references_MD):
        place = products.argmax(axis=1)
        value = products[np.arange(len(products)), place]
        better = value > best_N[rows]
        index_N[rows] = np.where(better, place + references.start, index_N[rows])
        best_N[rows] = np.where(better, value, best_N[rows])
    return index_N, best_N


def log_sum_exp(
    rows_ND: np.ndarray, references_MD: np.ndarray, own_N: np.ndarray, place_N: np.ndarray, temperature: float
) -> np.ndarray:
    """float64 (N): log of the sum over references j of exp(row . reference_j / temperature).

    In each row's sum the product with the reference at `place_N` (-1: none) is replaced by `own_N`. In float32 with the
    largest term taken out, since exp(1 / 0.01) overflows half precision.
    """
    top_N = np.full(len(rows_ND), -np.inf, np.float32)
    sum_N = np.zeros(len(rows_ND), np.float64)
    for rows, references, products in tiles(rows_ND, references_MD):
        place = place_N[rows] - references.start
        here = np.flatnonzero((place >= 0) & (place < products.shape[1]))
        products[here, place[here]] = own_N[rows][here]
        logits = np.divide(products, np.float32(temperature), out=products)
        top = np.maximum(top_N[rows], logits.max(axis=1))
        terms = np.exp(np.subtract(logits, top[:, None], out=logits), out=logits)
        sum_N[rows] = sum_N[rows] * np.exp(top_N[rows] - top) + terms.sum(axis=1)
        top_N[rows] = top
    return np.log(sum_N) + top_N
