"""Text classifiers: fastText models that tell texts like those of one selection from texts like those of another."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import fasttext
import numpy as np
from pydantic import Field

from curation.entry_forms import normalised
from curation.file_digest import known_digest
from curation.keyed_sample import keyed_hashes
from curation.roc import auc, auc_interval
from curation.step import Step

POSITIVE, NEGATIVE = "__label__positive", "__label__negative"
_JOINT = "\ue001"
"""A private character between the tokens of an n-gram."""
_END_OF_LINE = "</s>"
"""fastText's own token."""


class ClassifierError(ValueError):
    """Selections that no classifier can be trained on, or a file that holds none."""


class ClassifierSettings(Step):
    """How a classifier is trained; equal settings and texts give equal bytes, whatever the order of the texts.

    Source: Joulin et al. 2016, arXiv 1607.01759 (fastText); DataComp-LM, arXiv 2406.11794, for its use as a quality
    filter (word n-grams of two, texts of a good selection against the rest).
    """

    version: ClassVar[int] = 1

    dim: int = Field(default=32, ge=1, le=300)
    """Dimensions of a word's vector."""
    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=0.5, gt=0)
    word_ngrams: int = Field(default=2, ge=1, le=5)
    min_count: int = Field(default=2, ge=1)
    """Texts that a feature must occur in."""
    max_features: int = Field(default=500_000, ge=1)
    """The most frequent words and n-grams; with `dim` they bound the size of the model: 75 MB as they stand."""
    max_texts: int = Field(default=1_000_000, ge=1)
    """Texts of a selection that are used; of more a keyed hash chooses."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """Share of the texts that is not trained on; a keyed hash of the text says which."""
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """A model's file, byte for byte, and what is known of it."""

    data: bytes
    figures: dict[str, Any]


def line(text: str) -> str:
    """What the model reads of a text: tokens between single spaces, case folded (`curation.entry_forms.normalised`)."""
    return normalised(text.replace("\0", " "))


def train_classifier(positive: Sequence[str], negative: Sequence[str], settings: ClassifierSettings) -> Trained:
    """Train on two selections of texts. Equal lines count once, and lines of both selections not at all.

    The two kinds are weighed alike: the smaller one's lines are repeated up to the size of the larger one's.
    Figures are those of the held-out texts, which have the shares of the selections. Raises ClassifierError where a
    selection has too few lines of its own.
    """
    lines = {POSITIVE: _lines(positive, settings), NEGATIVE: _lines(negative, settings)}
    both = lines[POSITIVE] & lines[NEGATIVE]
    train, test = {}, {}
    for label, found in lines.items():
        own = sorted(found - both)
        draws = keyed_hashes(own, settings.seed, "tamis.heldout") / 2.0**64
        train[label] = [text for text, draw in zip(own, draws, strict=True) if draw >= settings.held_out]
        test[label] = [text for text, draw in zip(own, draws, strict=True) if draw < settings.held_out]
        if not train[label] or not test[label]:
            raise ClassifierError(
                f"the {label.removeprefix('__label__')} selection has {len(own)} texts of its own ({len(both)} are in "
                f"both): too few to train on and to hold {settings.held_out:.0%} out"
            )
    rows = _shuffled(train, settings.seed)
    with tempfile.TemporaryDirectory(prefix="tamis-classifier-") as folder:
        model = _fit(rows, Path(folder), settings)
        model.save_model(str(Path(folder) / "model.bin"))
        data = (Path(folder) / "model.bin").read_bytes()
    scores = {label: _probabilities(model, settings.word_ngrams, test[label]) for label in test}
    hits = int((scores[POSITIVE] >= 0.5).sum() + (scores[NEGATIVE] < 0.5).sum())
    low, high = auc_interval(scores[POSITIVE], scores[NEGATIVE], seed=settings.seed)
    counts = {
        kind: {"positive": len(texts[POSITIVE]), "negative": len(texts[NEGATIVE])}
        for kind, texts in (("train", train), ("held_out", test))
    }
    figures = {
        "texts": counts,
        "texts_in_both": len(both),
        "held_out_accuracy": round(hits / (len(test[POSITIVE]) + len(test[NEGATIVE])), 4),
        "held_out_auc": round(auc(scores[POSITIVE], scores[NEGATIVE]), 4),
        "held_out_auc_interval_95": [round(low, 4), round(high, 4)],
    }
    return Trained(data, figures)


def _lines(texts: Sequence[str], settings: ClassifierSettings) -> set[str]:
    found = sorted({found for found in map(line, texts) if found})
    if len(found) > settings.max_texts:
        order = np.argsort(keyed_hashes(found, settings.seed, "tamis.texts"), kind="stable")
        found = [found[i] for i in order[: settings.max_texts]]
    return set(found)


def _shuffled(train: dict[str, list[str]], seed: int) -> list[tuple[str, str]]:
    """Labels with their lines, both kinds equally often, in the order of a keyed hash."""
    largest = max(map(len, train.values()))
    rows, names = [], []
    for label, texts in train.items():
        for i in range(largest):
            rows.append((label, texts[i % len(texts)]))
            names.append(f"{i // len(texts)} {label} {texts[i % len(texts)]}")
    return [rows[i] for i in np.argsort(keyed_hashes(names, seed, "tamis.shuffle"), kind="stable")]


def features(text: str, word_ngrams: int) -> list[str]:
    """The tokens of a line and their n-grams, which fastText then reads as words."""
    tokens = text.split(" ") if text else []
    return [_JOINT.join(tokens[i : i + n]) for n in range(1, word_ngrams + 1) for i in range(len(tokens) - n + 1)]


def _fit(rows: Sequence[tuple[str, str]], folder: Path, settings: ClassifierSettings) -> Any:
    """The model of (label, line) rows.

    fastText is given the first vectors of all features in a file. Left to itself with one thread it fills a tenth of
    them and leaves the others as the memory happened to be (DenseMatrix::uniform of fastText 0.9.2), and so its results
    differ from run to run or are not numbers; with more threads it races. Its own n-grams, in hashed buckets, could not
    be given vectors, so n-grams are words here.
    """
    counts = Counter(feature for _, text in set(rows) for feature in set(features(text, settings.word_ngrams)))
    frequent = [feature for feature, count in counts.items() if count >= settings.min_count]
    known = sorted(sorted(frequent, key=lambda each: (-counts[each], each))[: settings.max_features])
    vocabulary = set(known)
    if not known:
        raise ClassifierError(f"no word occurs in {settings.min_count} of the texts: too few to train on")
    with (folder / "train.txt").open("w", encoding="utf-8") as file:
        for label, text in rows:
            found = [feature for feature in features(text, settings.word_ngrams) if feature in vocabulary]
            file.write(" ".join([label, *found]) + "\n")
    limit = 1 / settings.dim
    rng = np.random.default_rng(settings.seed)
    with (folder / "vectors.txt").open("w", encoding="utf-8") as file:
        file.write(f"{len(known) + 1} {settings.dim}\n")
        for feature in [_END_OF_LINE, *known]:
            values = rng.random(settings.dim) * 2 * limit - limit
            file.write(" ".join([feature, *(f"{value:.6f}" for value in values)]) + "\n")
    return fasttext.train_supervised(
        str(folder / "train.txt"),
        pretrainedVectors=str(folder / "vectors.txt"),
        dim=settings.dim,
        epoch=settings.epochs,
        lr=settings.learning_rate,
        wordNgrams=1,
        bucket=0,
        minCount=1,
        seed=settings.seed,
        thread=1,
        verbose=0,
    )


def classifier_digest(path: Path) -> str:
    """SHA-256 of a model's file. Raises ClassifierError where there is none."""
    if not path.is_file():
        raise ClassifierError(f"no classifier {path}: `tamis classifier train` makes one")
    return known_digest(path)


@lru_cache(maxsize=4)
def _load(path: Path, _digest: str) -> tuple[Any, int]:
    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise ClassifierError(f"{path} is no fastText model: {error}") from None
    if set(model.get_labels()) != {POSITIVE, NEGATIVE}:
        raise ClassifierError(f"{path}: its labels are {', '.join(model.get_labels()[:5])}, not positive and negative")
    return model, 1 + max((word.count(_JOINT) for word in model.get_words()), default=0)


def load_classifier(path: Path) -> tuple[Any, int]:
    """The model of a file and the length of its n-grams, loaded once per process.

    Raises ClassifierError where the file holds none with these two labels.
    """
    return _load(path, classifier_digest(path))


def probabilities(path: Path, texts: Sequence[str]) -> np.ndarray:
    """float32 (N): for each text the probability that it is of the positive kind, 0-1.

    0.5 for a text without letters, digits or symbols, of which the model knows nothing.
    """
    return _probabilities(*load_classifier(path), [line(text) for text in texts])


def _probabilities(model: Any, word_ngrams: int, lines: Sequence[str]) -> np.ndarray:
    found = np.full(len(lines), 0.5, np.float32)
    some = [i for i, text in enumerate(lines) if text]
    if some:
        labels, probs = model.predict([" ".join(features(lines[i], word_ngrams)) for i in some], k=2)
        for i, label, prob in zip(some, labels, probs, strict=True):
            # the softmax of fastText may exceed 1 by 1e-5
            found[i] = min(1.0, dict(zip(label, prob, strict=True)).get(POSITIVE, 0.0))
    return found
