"""The geometry of vectors as figures: gap, alignment, uniformity, each with an interval and what knowing nothing gives.

Shape suffixes: P pictures, T texts, N rows, D dimension, R resamplings.
"""

from __future__ import annotations

import numpy as np
from scipy.special import hyp0f1

from pretrain.checked import check_positives, check_vectors
from pretrain.diagnostics import UNIFORMITY_T, modality_gap, uniformity
from pretrain.found import Row
from pretrain.metrics import cluster_weights, row

MAX_ROWS = 2000
"""Vectors of which uniformity takes all pairs."""


def geometry_rows(image_PD: np.ndarray, text_TD: np.ndarray, positive_TP: np.ndarray) -> list[Row]:
    """Rows {metric, value, lo, hi, chance, n}: modality_gap, alignment, uniformity_images, uniformity_texts.

    Alignment is the mean cosine over texts and the pictures that they describe, as many as each has. The bootstrap
    draws pictures, and with them their texts. chance: of the gap, the root of the mean square between two random halves
    of these sizes of all the vectors; of alignment, the mean cosine of what does not belong together; of uniformity,
    that of vectors of random directions. Uniformity needs two vectors: of a single one there is no row.
    Raises EvaluationError where vectors are not finite or the three do not fit together.
    """
    check_vectors("pictures", image_PD)
    check_vectors("texts", text_TD, image_PD.shape[1])
    check_positives(positive_TP, len(text_TD), len(image_PD))
    num_pictures = len(image_PD)
    counts_T = positive_TP.sum(axis=1)
    weight_RP = cluster_weights(np.arange(num_pictures))
    weight_RP = weight_RP[(weight_RP @ positive_TP.any(axis=0)) > 0]  # what draws no picture with a text has no gap
    # a text of several pictures is drawn with each of them, in part
    weight_RT = weight_RP @ (positive_TP / counts_T[:, None]).T.astype(np.float32)
    gap_R = np.linalg.norm(_means(weight_RP, image_PD) - _means(weight_RT, text_TD), axis=1)
    union = np.concatenate([image_PD, text_TD]).astype(np.float64)
    spread = float(((union - union.mean(axis=0)) ** 2).sum() / (len(union) - 1))
    chance_gap = float(np.sqrt(spread * (1 / num_pictures + 1 / len(text_TD))))
    own_P = (positive_TP.T.astype(np.float32) @ text_TD * image_PD).sum(axis=1, dtype=np.float64)
    own, num_own = float(own_P.sum()), int(counts_T.sum())
    aligned_R = (weight_RP @ own_P) / (weight_RP @ positive_TP.sum(axis=0))
    all_pairs = float(text_TD.sum(axis=0, dtype=np.float64) @ image_PD.sum(axis=0, dtype=np.float64))
    others = positive_TP.size - num_own
    apart = (all_pairs - own) / others if others else None
    rows = [
        row("modality_gap", modality_gap(image_PD, text_TD), gap_R, chance_gap, num_pictures),
        row("alignment", own / num_own, aligned_R, apart, num_own),
    ]
    for name, vectors in (("uniformity_images", image_PD[:MAX_ROWS]), ("uniformity_texts", text_TD[:MAX_ROWS])):
        if len(vectors) > 1:
            spread_R = _uniformities(vectors, cluster_weights(np.arange(len(vectors))))
            rows.append(row(name, uniformity(vectors), spread_R, random_uniformity(vectors.shape[1]), len(vectors)))
    return rows


def random_uniformity(dimension: int) -> float:
    """Uniformity of independent vectors spread evenly over the unit sphere of `dimension` dimensions.

    |x - y|^2 = 2 - 2 x.y, and E exp(k x.y) = 0F1(; D/2; k^2/4), the moment generating function of a coordinate of a
    random direction (Watson, Statistics on Spheres, 1983).
    """
    k = 2 * UNIFORMITY_T
    return float(-k + np.log(hyp0f1(dimension / 2, k * k / 4)))


def _means(weight_RN: np.ndarray, vector_ND: np.ndarray) -> np.ndarray:
    return np.asarray((weight_RN @ vector_ND) / weight_RN.sum(axis=1, keepdims=True))


def _uniformities(vector_ND: np.ndarray, weight_RN: np.ndarray) -> np.ndarray:
    """Uniformity of each resampling that draws two different rows; pairs of a row with itself do not count, however
    often it was drawn."""
    x = vector_ND.astype(np.float64)
    squares = (x**2).sum(axis=1)
    kernel_NN = np.exp(-UNIFORMITY_T * np.maximum(squares[:, None] + squares[None, :] - 2 * x @ x.T, 0))
    np.fill_diagonal(kernel_NN, 0)
    weight = weight_RN.astype(np.float64)
    total_R = ((weight @ kernel_NN) * weight).sum(axis=1)
    pairs_R = weight.sum(axis=1) ** 2 - (weight**2).sum(axis=1)
    return np.asarray(np.log(total_R[pairs_R > 0] / pairs_R[pairs_R > 0]))
