"""Evaluation by a column of labels (such as `category`): zero-shot with prompts, neighbours, a linear probe; and the
geometry of the vectors.

Shape suffixes: P held-out pictures, N pictures trained on, D dimension.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curation.step import digest
from curation.table import replace_text
from pretrain.config import ConfigError, TrainConfig, parse_config
from pretrain.diagnostics import PROMPTS, alignment, class_vectors, label_rows, modality_gap, uniformity
from pretrain.embed import TwoTowerScorer
from pretrain.pictures import cached_pictures
from pretrain.version import Version, find_version

LABELS_VERSION = 1
"""Changes whenever the same run and version would give other figures."""
Row = dict[str, Any]


def evaluate_labels(
    run: Path,
    store: Path,
    version: str | None = None,
    *,
    label_column: str = "category",
    split_column: str = "split",
    held_out: str = "val",
    prompts: tuple[str, ...] = PROMPTS,
    device: str = "auto",
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """Figures of a finished run on held-out pictures, whose classes are the values of `label_column`.

    The class names are what the column holds. Rows are {suite, metric, value, lo, hi, chance, n}; of the geometry (gap,
    alignment, uniformity) lo, hi and chance are null. Classes that no training picture has are left out. Asked again,
    it is answered from the run's folder. Raises ConfigError where the version lacks the columns or such pictures.
    """
    config = parse_config(json.loads((run / "config.json").read_text(encoding="utf-8")), str(run))
    trained_on = json.loads((run / "result.json").read_text(encoding="utf-8"))
    data = find_version(store, version or trained_on["version_digest"])
    asked = (trained_on["weights_sha256"], data.digest, label_column, split_column, held_out, prompts)
    path = run / f"labels-{digest(LABELS_VERSION, *asked)[:12]}.json"
    if path.is_file():
        progress(f"evaluate: {path.name} of {run.name} is there already, reused")
        found: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return found
    scorer = TwoTowerScorer(run, device=device, num_threads=os.cpu_count())
    rows = labels_of_scorer(scorer, config, data, store, label_column, split_column, held_out, prompts, progress)
    replace_text(path, json.dumps(rows, indent=1) + "\n")
    return rows


def labels_of_scorer(
    scorer: TwoTowerScorer,
    config: TrainConfig,
    version: Version,
    store: Path,
    label_column: str = "category",
    split_column: str = "split",
    held_out: str = "val",
    prompts: tuple[str, ...] = PROMPTS,
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """The figures of any scorer; `config.where` says which pictures count as trained on."""
    columns = dict.fromkeys((label_column, split_column, *(clause.column for clause in config.where)))
    missing = [name for name in columns if name not in version.columns()]
    if missing:
        raise ConfigError(f"{version.folder.name} has no column {missing}; it has: {', '.join(version.columns())}")
    table = version.read(list(columns)).to_pydict()
    model = scorer.model
    folder = store / "cache" / "pictures"
    pixels, is_whole = cached_pictures(folder, version, model.image_size, model.fit, model.resample, progress)
    labelled = np.array([value is not None for value in table[label_column]]) & is_whole
    is_held_out = np.array([value == held_out for value in table[split_column]]) & labelled
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
    train_ND, test_PD = scorer.encode_squares(pixels[train_rows]), scorer.encode_squares(pixels[test_rows])
    class_CD = class_vectors(lambda texts: scorer.encode_texts(texts)[0], names, prompts)
    label_N, label_P = (
        np.array([place[str(table[label_column][row])] for row in rows]) for rows in (train_rows, test_rows)
    )
    rows = label_rows(train_ND, label_N, test_PD, label_P, class_CD)
    for metric, value in (
        ("modality_gap", modality_gap(test_PD, class_CD[label_P])),
        ("alignment", alignment(test_PD, class_CD[label_P])),
        ("uniformity_images", uniformity(test_PD)),
    ):
        rows.append({"metric": metric, "value": value, "lo": None, "hi": None, "chance": None, "n": len(test_rows)})
    return [{"suite": f"labels:{label_column}", **row} for row in rows]
