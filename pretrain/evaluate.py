"""The evaluation job: every figure of a run on a version, with what knowing nothing gives and an interval.

Retrieval on held-out pictures in seen languages and on held-out languages of seen pictures, edited captions, labels,
geometry, and what further streams (audio, video) there are. Written as Parquet into the run's folder, where the views
`metrics` and `outcomes` of a store find it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from curation.schema import FIGURES, OUTCOMES
from curation.step import digest
from pretrain import found as files
from pretrain.config import ConfigError, TrainConfig, parse_config
from pretrain.embed import TwoTowerScorer
from pretrain.evaluate_fusion import by_fusion, fuses_pictures_and_texts
from pretrain.evaluate_labels import by_labels
from pretrain.evaluate_sounds import of_spoken_pictures, sound_figures
from pretrain.evaluate_streams import by_streams
from pretrain.evaluate_tokens import by_tokens, is_late
from pretrain.found import Found, Row
from pretrain.pictures import cached_pictures
from pretrain.retrieval import of_suite
from pretrain.robustness import robustness
from pretrain.suites import HELD_OUT, SPLIT_COLUMN, Suite, suites
from pretrain.vectors import Vectors
from pretrain.version import Version, find_version

EVALUATION_VERSION = 4
"""Changes whenever the same run and version would give other figures."""
NAME_DIGITS = 12
DEFAULT_LABELS = "category"
TAGS = "tags"
"""Column of a version that says what is in a picture, as lists of words; used for edited captions where it is there."""


def evaluate(
    run: Path,
    store: Path,
    version: str | None = None,
    *,
    label_column: str | None = None,
    device: str = "auto",
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """All figures of a finished run; the same question asked again is answered from the run's folder.

    version: the dataset version to evaluate on (a name in the store, a folder, a URI); by default the one that the run
    was trained on. label_column: of the classes; by default `category`, where the version has it.
    Rows are those of `curation.schema.FIGURES`. What there is nothing for gives no rows. Raises ConfigError where the
    folder holds no finished run or the named label column cannot be used, and EvaluationError where the model gives
    vectors that are not finite.
    """
    if not (run / "result.json").is_file():
        raise ConfigError(f"{run} is no finished run: it has no result.json")
    config = parse_config(json.loads((run / "config.json").read_text(encoding="utf-8")), str(run))
    trained_on = json.loads((run / "result.json").read_text(encoding="utf-8"))
    data = find_version(store, version or trained_on["version_digest"])
    if label_column is not None and label_column not in data.columns():
        raise ConfigError(
            f"labels: {data.folder.name} has no column {label_column!r}; it has: {', '.join(data.columns())}"
        )
    figures, outcomes = evaluation_files(run, data, label_column)
    if figures.is_file() and outcomes.is_file():
        progress(f"evaluate: {figures.name} of {run.name} is there already, reused")
        return files.read(figures)
    scorer = TwoTowerScorer(run, device=device, num_threads=os.cpu_count())
    found = evaluate_scorer(scorer, config, data, store, label_column, progress)
    # the figures last: where they are, the outcomes are
    files.write(found.outcomes, OUTCOMES, outcomes, run.name, data.folder.name)
    files.write(found.figures, FIGURES, figures, run.name, data.folder.name)
    return files.read(figures)


def evaluation_files(run: Path, version: Version, label_column: str | None = None) -> tuple[Path, Path]:
    """Where the figures and the outcomes of a finished run on a version lie, or will lie."""
    weights = json.loads((run / "result.json").read_text(encoding="utf-8"))["weights_sha256"]
    question = digest(EVALUATION_VERSION, weights, version.digest, label_column, SPLIT_COLUMN, HELD_OUT)[:NAME_DIGITS]
    return run / f"evaluation-{question}.parquet", run / f"outcomes-{question}.parquet"


def evaluate_scorer(
    scorer: TwoTowerScorer,
    config: TrainConfig,
    version: Version,
    store: Path,
    label_column: str | None,
    progress: Callable[[str], None],
) -> Found:
    """What any scorer comes to, with the suites that `config` (excluded languages, conditions) implies."""
    model = scorer.model
    if of_spoken_pictures(model, version):
        return sound_figures(scorer, config, version, store, progress)
    found = by_streams(scorer, config, version, store / "cache", progress)
    if not {"image", "text"} <= model.encoded() or "image" not in version.columns():
        progress("evaluate: no pictures and texts to match: the model lacks a stream, or the version has no pictures")
        return found
    folder = store / "cache" / "pictures"
    pixels, is_whole = cached_pictures(folder, version, model.image_size, model.fit, model.resample, progress)
    vectors = Vectors(scorer, pixels)
    tags = _tags(version)
    for suite in suites(version, config, is_whole):
        progress(f"evaluate: {suite.name}: {len(suite.rows):,} pictures, {len(suite.texts):,} texts")
        found += of_one_suite(suite, vectors, None if tags is None else [tags[row] for row in suite.rows])
        if is_late(config):
            found += by_tokens(suite, scorer, vectors, pixels, store / "cache" / "tokens")
        if fuses_pictures_and_texts(model):
            found += by_fusion(suite, scorer, pixels)
    has_labels = {DEFAULT_LABELS, SPLIT_COLUMN} <= set(version.columns())
    if label_column is not None or has_labels:
        found += _labels(vectors, config, version, is_whole, label_column, progress)
    return found


def of_one_suite(suite: Suite, vectors: Vectors, tags: list[list[str]] | None = None) -> Found:
    """Retrieval, geometry and edited captions of a suite."""
    image_PD, text_TD = vectors.images(suite.rows), vectors.texts(suite.texts)
    found = of_suite(suite, image_PD, text_TD)
    found += robustness(suite, image_PD, text_TD, vectors.texts, tags)
    return found


def _labels(
    vectors: Vectors, config: TrainConfig, version: Version, is_whole: np.ndarray, label_column: str | None,
    progress: Callable[[str], None],
) -> Found:  # fmt: skip
    """The suite of labels; where none was asked for by name and the default has too few classes, that is said."""
    column = label_column or DEFAULT_LABELS
    try:
        return by_labels(vectors, config, version, is_whole, column, progress)
    except ConfigError as error:
        if label_column is not None:
            raise
        progress(f"evaluate: no figures by labels: {error}")
        return Found()


def _tags(version: Version) -> list[list[str]] | None:
    """Words of each row's column `tags`; None where the version has no such lists."""
    if TAGS not in version.columns():
        return None
    values = version.read([TAGS]).column(0).to_pylist()
    if not all(
        value is None or (isinstance(value, list) and all(isinstance(w, str) for w in value)) for value in values
    ):
        return None
    return [value or [] for value in values]
