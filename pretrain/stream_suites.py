"""Suites of a model with more streams than picture and text: retrieval between every two of them, and whether films
need their order.

Shape suffixes: N samples, D dimension, T frames, Q queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from pretrain.found import Found
from pretrain.geometry import geometry_rows
from pretrain.keyed import key
from pretrain.metrics import chance_within, mean_row
from pretrain.retrieval import Side, match, ranks

MIN_PAIRS = 2
"""Samples that must have both streams."""
_K = 1


def between_streams(
    suite: str,
    vectors: Mapping[str, np.ndarray],
    present: Mapping[str, np.ndarray],
    uids: Sequence[str],
    texts: Sequence[str] = (),
) -> Found:
    """Retrieval and geometry of every two streams, among the samples that have both: `audio_to_image`,
    `image_to_audio` and so on. vectors: stream -> (N, D); present: stream -> bool (N,). Row n of all is one sample.

    texts: (N,) what the vectors of the stream `text` are of; samples with one text are right for each other's.
    """
    found = Found()
    for a, b in combinations(sorted(vectors), 2):
        both = np.flatnonzero(present[a] & present[b]).tolist()
        if len(both) < MIN_PAIRS:
            continue
        names = [uids[row] for row in both]
        own = alike([texts[row] for row in both]) if "text" in (a, b) else np.eye(len(both), dtype=bool)
        sides = (Side(a, vectors[a][both], names, names), Side(b, vectors[b][both], names, names))
        found += match(suite, *sides, own)[0]
        rows = [
            row for row in geometry_rows(vectors[a][both], vectors[b][both], own) if "uniformity" not in row["metric"]
        ]
        found.add_figures(rows, suite=suite, direction=f"{a}_to_{b}")
    return found


def alike(texts: Sequence[str]) -> np.ndarray:
    """bool (N, N): which texts are equal."""
    number_N = np.unique(np.array(texts), return_inverse=True)[1]
    return np.asarray(number_N[:, None] == number_N[None, :])


def shuffled_order(uid: str, num_frames: int) -> np.ndarray:
    """(T,) another order of a film's frames, by a keyed hash of its uid: the same for every model. One frame, or none,
    has no other order."""
    if num_frames < 2:
        return np.arange(num_frames)
    for attempt in range(20):
        order = np.argsort([int(key("frames", uid, attempt, place)) for place in range(num_frames)])
        if (order != np.arange(num_frames)).any():
            return np.asarray(order)
    return np.arange(num_frames)[::-1].copy()


def shuffled_frames(
    suite: str,
    text_QD: np.ndarray,
    in_order_ND: np.ndarray,
    shuffled_ND: np.ndarray,
    positive_QN: np.ndarray,
    texts: Sequence[str],
    uids: Sequence[str],
) -> Found:
    """HiTeA's shuffling test (arXiv:2212.14546): what text-to-video R@1 loses when frames are in another order.

    in_order_ND, shuffled_ND: vectors of the films as they are, and with their frames in `shuffled_order`;
    positive_QN: which texts describe which. A model that takes the mean of its frames loses nothing.
    """
    found = Found()
    fixed: dict[str, Any] = {"suite": suite, "direction": "text_to_video"}
    before_Q, after_Q = (ranks(text_QD, vectors, positive_QN) for vectors in (in_order_ND, shuffled_ND))
    cluster_Q = positive_QN.argmax(axis=1)
    names = [uids[place] for place in cluster_Q.tolist()]
    hits = (before_Q <= _K).astype(np.float64), (after_Q <= _K).astype(np.float64)
    chance = float(chance_within(positive_QN.sum(axis=1), len(in_order_ND), _K).mean())
    for metric, value_Q, none in (
        (f"recall_at_{_K}_in_order", hits[0], chance),
        (f"recall_at_{_K}_frames_shuffled", hits[1], chance),
        (f"recall_at_{_K}_shuffle_drop", hits[0] - hits[1], 0.0),
    ):
        row = mean_row(metric, value_Q, cluster_Q, none)
        found.add_figures([row], **fixed, num_candidates=len(in_order_ND))
        found.add_outcomes(value_Q, texts, names, **fixed, measure=metric)
    return found
