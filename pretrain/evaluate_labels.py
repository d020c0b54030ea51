"""Evaluation by a column of labels (such as `category`): zero-shot with prompts, neighbours, a linear probe; and the
geometry of the vectors.

Shape suffixes: P held-out pictures, N pictures trained on, D dimension.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pretrain.config import ConfigError, TrainConfig
from pretrain.diagnostics import class_vectors, label_outcomes
from pretrain.found import Found
from pretrain.geometry import geometry_rows
from pretrain.metrics import mean_row
from pretrain.suites import HELD_OUT, SPLIT_COLUMN
from pretrain.vectors import Vectors
from pretrain.version import Version


def by_labels(
    vectors: Vectors,
    config: TrainConfig,
    version: Version,
    is_whole: np.ndarray,
    label_column: str,
    progress: Callable[[str], None],
) -> Found:
    """The suite `labels:<column>`: held-out pictures, whose classes are the values of the column.

    The class names are what the column holds; classes that no training picture has are left out. `config.where` says
    which pictures count as trained on; is_whole: bool for each row, whether its picture could be decoded.
    Raises ConfigError where the version lacks the columns or such pictures.
    """
    columns = dict.fromkeys(("sample_uid", label_column, SPLIT_COLUMN, *(clause.column for clause in config.where)))
    missing = [name for name in columns if name not in version.columns()]
    if missing:
        raise ConfigError(f"{version.folder.name} has no column {missing}; it has: {', '.join(version.columns())}")
    table = version.read(list(columns)).to_pydict()
    labelled = np.array([value is not None for value in table[label_column]]) & is_whole
    is_held_out = np.array([value == HELD_OUT for value in table[SPLIT_COLUMN]]) & labelled
    is_trained_on = labelled & ~is_held_out
    for clause in config.where:
        is_trained_on &= np.array([clause.holds(value) for value in table[clause.column]], dtype=bool)
    names = sorted({str(table[label_column][row]) for row in np.flatnonzero(is_trained_on)})
    place = {name: index for index, name in enumerate(names)}
    train_rows = np.flatnonzero(is_trained_on)
    test_rows = np.array([r for r in np.flatnonzero(is_held_out) if str(table[label_column][r]) in place], dtype=int)
    if len(names) < 2 or not len(test_rows):
        raise ConfigError(
            f"{label_column!r} of {version.folder.name}: {len(names)} classes among the pictures trained on, "
            f"{len(test_rows)} held-out pictures of these; at least 2 and 1 are needed"
        )
    progress(f"evaluate: {len(names)} classes of {label_column!r}, {len(test_rows):,} held-out pictures")
    train_ND, test_PD = vectors.images(train_rows), vectors.images(test_rows)
    class_CD = class_vectors(vectors.texts, names)
    label_N, label_P = (
        np.array([place[str(table[label_column][row])] for row in rows]) for rows in (train_rows, test_rows)
    )
    uids = [table["sample_uid"][row] for row in test_rows]
    found, suite = Found(), f"labels:{label_column}"
    for metric, (right_P, chance) in label_outcomes(train_ND, label_N, test_PD, label_P, class_CD).items():
        found.add_figures([mean_row(metric, right_P, np.arange(len(right_P)), chance)], suite=suite)
        found.add_outcomes(right_P, uids, uids, suite=suite, measure=metric)
    of_class_TP = np.arange(len(names))[:, None] == label_P[None, :]
    shown = of_class_TP.any(axis=1)
    found.add_figures(geometry_rows(test_PD, class_CD[shown], of_class_TP[shown]), suite=suite)
    return found
