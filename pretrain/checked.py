"""What figures are made of, checked before they are: a number that is none must not become a figure.

NaN is neither above nor below anything, so without these checks a model whose weights have diverged gets ranks, and
scores that are NaN count as right. Shape suffixes: N rows, D dimension, Q queries.
"""

from __future__ import annotations

import numpy as np


class EvaluationError(ValueError):
    """Vectors, ranks or labels that no figure can be made of; the message says which, and what is wrong with them."""


def check_vectors(kind: str, vector_ND: np.ndarray, dimension: int | None = None) -> None:
    """Raises EvaluationError unless there is at least one row of finite numbers, `dimension` to a row if told."""
    if vector_ND.ndim != 2 or not vector_ND.shape[1]:
        raise EvaluationError(f"vectors of {kind}: the shape is {vector_ND.shape}, not (rows, dimension)")
    if not len(vector_ND):
        raise EvaluationError(f"vectors of {kind}: there are none")
    if dimension is not None and vector_ND.shape[1] != dimension:
        raise EvaluationError(f"vectors of {kind} have {vector_ND.shape[1]} dimensions, the others have {dimension}")
    wrong_N = ~np.isfinite(vector_ND).all(axis=1)
    if wrong_N.any():
        raise EvaluationError(
            f"vectors of {kind}: {int(wrong_N.sum())} of {len(wrong_N)} hold values that are not finite, the first is "
            f"row {int(wrong_N.argmax())}: have the model's weights diverged?"
        )


def check_positives(positive_QN: np.ndarray, num_queries: int, num_candidates: int) -> None:
    """Raises EvaluationError unless this says of every query and candidate whether they belong together, and every
    query has a positive."""
    if positive_QN.shape != (num_queries, num_candidates):
        raise EvaluationError(
            f"positives have the shape {positive_QN.shape}, for {num_queries} queries and {num_candidates} candidates"
        )
    if not num_queries or not num_candidates:
        raise EvaluationError(f"nothing to rank: {num_queries} queries, {num_candidates} candidates")
    without_Q = ~positive_QN.any(axis=1)
    if without_Q.any():
        raise EvaluationError(
            f"{int(without_Q.sum())} of {num_queries} queries have no positive, the first is row "
            f"{int(without_Q.argmax())}: a query without a positive has no rank"
        )


def check_labels(kind: str, label_N: np.ndarray, num: int, num_classes: int) -> None:
    """Raises EvaluationError unless there are `num` labels (at least one) from 0 to num_classes - 1."""
    if label_N.shape != (num,) or not num:
        raise EvaluationError(f"labels of {kind}: the shape is {label_N.shape}, for {num} rows (at least one)")
    if label_N.min() < 0 or label_N.max() >= num_classes:
        raise EvaluationError(
            f"labels of {kind} go from {label_N.min()} to {label_N.max()}, classes from 0 to {num_classes - 1}"
        )


def check_values(kind: str, value_N: np.ndarray) -> None:
    """Raises EvaluationError unless there is at least one value and all are finite."""
    if value_N.ndim != 1 or not len(value_N):
        raise EvaluationError(f"{kind}: the values have the shape {value_N.shape}, at least one is needed")
    wrong_N = ~np.isfinite(value_N.astype(np.float64))
    if wrong_N.any():
        raise EvaluationError(
            f"{kind}: {int(wrong_N.sum())} of {len(value_N)} values are not finite, the first is number "
            f"{int(wrong_N.argmax())}"
        )
