"""What a model is asked: suites of pictures and texts of a version, the same ones for every model.

Shape suffixes: T texts, P pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pretrain.config import TrainConfig
from pretrain.keyed import key, mix
from pretrain.samples import Samples, Text, read_samples
from pretrain.version import Version

MAX_PICTURES = 2000
MAX_TEXTS = 10_000
"""Candidates beyond these are left out by a keyed hash of their names, the same ones for every model."""
SPLIT_COLUMN, HELD_OUT = "split", "val"
"""Column of a version, and its value for samples that are there to be evaluated on."""


@dataclass(frozen=True)
class Suite:
    """Pictures and texts to match. positive_TP: whether text t is a caption of picture p; uids: of the samples.

    A text that several pictures have word for word is one candidate, and right for each of them.
    """

    name: str
    rows: np.ndarray
    texts: list[str]
    languages: list[tuple[str, ...]]
    positive_TP: np.ndarray
    uids: list[str] = field(default_factory=list)

    @property
    def picture_T(self) -> np.ndarray:
        """(T,) place of the first picture that each text describes."""
        return np.asarray(self.positive_TP.argmax(axis=1))


def suites(version: Version, config: TrainConfig, is_whole: np.ndarray) -> list[Suite]:
    """`held_out_pictures` (split = val; texts that are not only in excluded languages) and `held_out_languages`
    (pictures that a run of `config` on this version may train on; texts only in excluded languages): those of the two
    that have both pictures and texts."""
    excluded = frozenset(config.exclude_languages)
    split = np.array(version.read([SPLIT_COLUMN]).column(0).to_pylist() if SPLIT_COLUMN in version.columns() else [])
    everything = read_samples(version)
    unseen = (split == HELD_OUT) if len(split) else np.zeros(len(everything), dtype=bool)
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
    samples = samples.subset(drawn(samples.hashes, MAX_PICTURES))
    languages: dict[str, set[str]] = {}
    for texts in samples.texts:
        for text in filter(wanted, texts):
            languages.setdefault(text.text, set()).update(text.languages)
    names = sorted(languages)
    kept = drawn(np.array([key(text) for text in names], dtype=np.uint64), MAX_TEXTS)
    names = [text for text, keep in zip(names, kept, strict=True) if keep]
    place = {text: index for index, text in enumerate(names)}
    positive_TP = np.zeros((len(names), len(samples)), dtype=bool)
    for column, texts in enumerate(samples.texts):
        for text in filter(wanted, texts):
            if text.text in place:
                positive_TP[place[text.text], column] = True
    described = np.asarray(positive_TP.any(axis=0))
    if not described.any():
        return None
    spoken = [tuple(sorted(languages[text])) for text in names]
    uids = [uid for uid, is_described in zip(samples.uids, described, strict=True) if is_described]
    return Suite(name, samples.rows[described], names, spoken, positive_TP[:, described], uids)


def drawn(hashes: np.ndarray, most: int) -> np.ndarray:
    """Bool for each: whether it is among the `most` smallest keyed draws."""
    keep = np.zeros(len(hashes), dtype=bool)
    keep[np.argsort(mix(hashes, key("evaluate")), kind="stable")[:most]] = True
    return keep
