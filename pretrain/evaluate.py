"""Evaluation by retrieval: held-out pictures in seen languages, and held-out languages of seen pictures.

Shape suffixes: T texts, P pictures, D common dimension.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curation.step import digest
from curation.table import replace_text
from pretrain.config import TrainConfig, parse_config
from pretrain.embed import TwoTowerScorer
from pretrain.keyed import key, mix
from pretrain.metrics import first_ranks, retrieval_rows
from pretrain.pictures import cached_pictures
from pretrain.samples import Samples, Text, read_samples
from pretrain.version import Version, find_version

EVALUATION_VERSION = 1
MAX_PICTURES = 2000
MAX_TEXTS = 10_000
"""Candidates beyond these are left out by a keyed hash of their names, the same ones for every model."""
MIN_PER_LANGUAGE = 20
"""Queries that a language needs for figures of its own."""
_QUERY_CHUNK = 1000

Row = dict[str, Any]


@dataclass(frozen=True)
class Suite:
    """Pictures and texts to match. positive_TP: whether text t is a caption of picture p.

    A text that several pictures have word for word is one candidate, and right for each of them.
    """

    name: str
    rows: np.ndarray
    texts: list[str]
    languages: list[tuple[str, ...]]
    positive_TP: np.ndarray


def evaluate(
    run: Path,
    store: Path,
    version: str | None = None,
    *,
    split_column: str = "split",
    held_out: str = "val",
    device: str = "auto",
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """Retrieval figures of a finished run; the same question asked again is answered from the run's folder.

    version: the dataset version to evaluate on; by default the one that the run was trained on. Rows are
    {suite, direction, metric, language, value, lo, hi, chance, n, num_candidates}; language is null for a whole suite.
    Suites: `held_out_pictures` (split = val; texts that are not only in excluded languages) and `held_out_languages`
    (other pictures; texts only in excluded languages). A suite without pictures or texts gives no rows.
    """
    config = parse_config(json.loads((run / "config.json").read_text(encoding="utf-8")), str(run))
    trained_on = json.loads((run / "result.json").read_text(encoding="utf-8"))
    data = find_version(store, version or trained_on["version_digest"])
    question = digest(EVALUATION_VERSION, trained_on["weights_sha256"], data.digest, split_column, held_out)
    path = run / f"evaluation-{question[:12]}.json"
    if path.is_file():
        progress(f"evaluate: {path.name} of {run.name} is there already, reused")
        rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))
        return rows
    scorer = TwoTowerScorer(run, device=device, num_threads=os.cpu_count())
    rows = evaluate_scorer(scorer, config, data, store, split_column, held_out, progress)
    replace_text(path, json.dumps(rows, indent=1) + "\n")
    return rows


def evaluate_scorer(
    scorer: TwoTowerScorer,
    config: TrainConfig,
    version: Version,
    store: Path,
    split_column: str = "split",
    held_out: str = "val",
    progress: Callable[[str], None] = print,
) -> list[Row]:
    """The figures of any scorer, with the suites that `config` (excluded languages, conditions) implies."""
    model = scorer.model
    if "audio" in model.spans():
        from pretrain.evaluate_sounds import sound_rows  # which takes its suites from here

        return sound_rows(scorer, config, version, store, split_column, held_out, progress)
    folder = store / "cache" / "pictures"
    pixels, is_whole = cached_pictures(folder, version, model.image_size, model.fit, model.resample, progress)
    rows: list[Row] = []
    for suite in suites(version, config, is_whole, split_column, held_out):
        progress(f"evaluate: {suite.name}: {len(suite.rows):,} pictures, {len(suite.texts):,} texts")
        image_PD = scorer.encode_squares(pixels[suite.rows])
        text_TD, _ = scorer.encode_texts(suite.texts)
        rows += suite_rows(suite, image_PD, text_TD)
    return rows


def suites(
    version: Version, config: TrainConfig, is_whole: np.ndarray, split_column: str, held_out: str
) -> list[Suite]:
    """The suites that have both pictures and texts."""
    excluded = frozenset(config.exclude_languages)
    split = np.array(version.read([split_column]).column(0).to_pylist() if split_column in version.columns() else [])
    everything = read_samples(version)
    unseen = (split == held_out) if len(split) else np.zeros(len(everything), dtype=bool)
    trained_on = np.zeros(len(everything), dtype=bool)
    trained_on[read_samples(version, config.where).rows] = True
    found = [
        _suite(
            "held_out_pictures", everything.subset(unseen & is_whole & ~trained_on), lambda t: not t.only_in(excluded)
        ),
        _suite("held_out_languages", everything.subset(trained_on & is_whole), lambda t: t.only_in(excluded)),
    ]
    return [suite for suite in found if suite is not None]


def _suite(name: str, samples: Samples, wanted: Callable[[Text], bool]) -> Suite | None:
    """The suite of these samples and their texts that are wanted, cut down to the caps; None if one is empty."""
    with_text = np.array([any(wanted(text) for text in texts) for texts in samples.texts], dtype=bool)
    samples = samples.subset(with_text)
    samples = samples.subset(draw(samples.hashes, MAX_PICTURES))
    languages: dict[str, set[str]] = {}
    for texts in samples.texts:
        for text in filter(wanted, texts):
            languages.setdefault(text.text, set()).update(text.languages)
    names = sorted(languages)
    kept = draw(np.array([key(text) for text in names], dtype=np.uint64), MAX_TEXTS)
    names = [text for text, keep in zip(names, kept, strict=True) if keep]
    place = {text: index for index, text in enumerate(names)}
    positive_TP = np.zeros((len(names), len(samples)), dtype=bool)
    for column, texts in enumerate(samples.texts):
        for text in filter(wanted, texts):
            if text.text in place:
                positive_TP[place[text.text], column] = True
    described = positive_TP.any(axis=0)
    if not described.any():
        return None
    spoken = [tuple(sorted(languages[text])) for text in names]
    return Suite(name, samples.rows[described], names, spoken, positive_TP[:, described])


def draw(hashes: np.ndarray, most: int) -> np.ndarray:
    """Bool for each: the `most` smallest keyed draws."""
    keep = np.zeros(len(hashes), dtype=bool)
    keep[np.argsort(mix(hashes, key("evaluate")), kind="stable")[:most]] = True
    return keep


def suite_rows(
    suite: Suite, image_PD: np.ndarray, text_TD: np.ndarray, query: str = "text", candidate: str = "image"
) -> list[Row]:
    """Figures of both directions, and of text to image for each language with enough queries.

    query, candidate: what the directions are called where it is not texts and pictures that are matched.
    """
    ranks_T = _ranks(text_TD, image_PD, suite.positive_TP)
    ranks_P = _ranks(image_PD, text_TD, suite.positive_TP.T)
    num_texts, num_pictures = suite.positive_TP.shape
    positives_T = suite.positive_TP.sum(axis=1)
    picture_T = suite.positive_TP.argmax(axis=1)

    def rows(direction: str, language: str | None, figures: list[dict[str, Any]], num_candidates: int) -> list[Row]:
        fixed = {"suite": suite.name, "direction": direction, "language": language, "num_candidates": num_candidates}
        return [{**fixed, **figure} for figure in figures]

    found = rows(
        f"{query}_to_{candidate}", None, retrieval_rows(ranks_T, positives_T, num_pictures, picture_T), num_pictures
    )
    by_picture = retrieval_rows(ranks_P, suite.positive_TP.sum(axis=0), num_texts, np.arange(num_pictures))
    found += rows(f"{candidate}_to_{query}", None, by_picture, num_texts)
    for language in sorted({language for spoken in suite.languages for language in spoken}):
        chosen = np.array([language in spoken for spoken in suite.languages])
        if chosen.sum() >= MIN_PER_LANGUAGE:
            figures = retrieval_rows(ranks_T[chosen], positives_T[chosen], num_pictures, picture_T[chosen])
            found += rows(f"{query}_to_{candidate}", language, figures, num_pictures)
    return found


def _ranks(query_QD: np.ndarray, candidate_ND: np.ndarray, positive_QN: np.ndarray) -> np.ndarray:
    """Ranks of the queries' best positives, a thousand queries at a time."""
    parts = [
        first_ranks(query_QD[start : start + _QUERY_CHUNK] @ candidate_ND.T, positive_QN[start : start + _QUERY_CHUNK])
        for start in range(0, len(query_QD), _QUERY_CHUNK)
    ]
    return np.concatenate(parts)
