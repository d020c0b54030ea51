"""Text classifiers: the same bytes from the same texts, held-out figures that are true, files that are none."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import fasttext
import pytest
from pydantic import ValidationError

from curation.roc import auc
from curation.signals.text_quality import TextQuality
from curation.text_classifier import (
    NEGATIVE,
    POSITIVE,
    ClassifierError,
    ClassifierSettings,
    features,
    line,
    load_classifier,
    probabilities,
    train_classifier,
)

ROOT = Path(__file__).parents[2]
ANIMALS = ["dog", "cat", "horse", "penguin", "lion", "whale", "tiger", "owl"]
PLACES = ["in the garden", "on a meadow", "near the old house", "by the sea", "under a tree", "in the snow"]
GOOD = [f"a {size} {animal} sits {place}" for size in ("small", "big") for animal in ANIMALS for place in PLACES]
BAD = [
    f"buy {word} {number} now best price shop online" for word in ("shoes", "rings", "phones") for number in range(40)
]
SMALL = ClassifierSettings(dim=8, held_out=0.2)


def test_the_same_bytes_whatever_the_order_and_the_repeats() -> None:
    one = train_classifier(GOOD, BAD, SMALL)
    shuffled = random.Random(1).sample(GOOD, len(GOOD)) + GOOD[:10]
    two = train_classifier([text.upper() for text in shuffled], [*BAD[::-1], "", "\n"], SMALL)
    assert one.data == two.data
    assert one.figures == two.figures
    assert train_classifier(GOOD, BAD, SMALL.changed(seed=1)).data != one.data


MEMORY = """
import hashlib, sys
from tests.curation.test_text_classifier import BAD, GOOD, SMALL
from curation.text_classifier import train_classifier
print(hashlib.sha256(train_classifier(GOOD, BAD, SMALL).data).hexdigest())
"""


def test_nothing_comes_from_memory_as_it_happened_to_be() -> None:
    """The C library fills what it hands out with another byte in each process."""
    found = set()
    for byte in ("1", "127", "255"):
        environment = {**os.environ, "MALLOC_PERTURB_": byte, "PYTHONHASHSEED": byte}
        done = subprocess.run(
            [sys.executable, "-c", MEMORY], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_n_grams_are_features() -> None:
    """Word order alone tells the kinds apart."""
    words = [f"w{i}" for i in range(12)]
    forward = [f"{a} red {b} blue {c}" for a in words for b in words for c in words[:3]]
    backward = [f"{a} blue {b} red {c}" for a in words for b in words for c in words[:3]]
    orders = [f"{text} x y" for text in forward], [f"{text} y x" for text in forward]
    assert train_classifier(forward, backward, SMALL.changed(word_ngrams=1)).figures["held_out_auc"] < 0.7
    assert train_classifier(*orders, SMALL).figures["held_out_auc"] > 0.95
    assert features("a b c", 2) == ["a", "b", "c", "a\ue001b", "b\ue001c"]
    assert features("", 2) == []


def test_figures_are_those_of_texts_that_were_not_trained_on(tmp_path: Path) -> None:
    rng = random.Random(0)
    noisy_good = GOOD + [f"{rng.choice(BAD)} {i}" for i in range(40)]
    trained = train_classifier(noisy_good, BAD, SMALL)
    texts = trained.figures["texts"]
    assert sum(texts[kind]["positive"] for kind in texts) == len({line(text) for text in noisy_good})
    assert texts["held_out"]["negative"] == pytest.approx(0.2 * len(BAD), abs=12)
    assert trained.figures["held_out_auc"] < 1
    # lines that are in both are in neither
    both = train_classifier(GOOD, BAD + GOOD[:30], SMALL)
    assert both.figures["texts_in_both"] == 30
    assert sum(both.figures["texts"][kind]["positive"] for kind in texts) == len(GOOD) - 30
    # labels drawn by lot: nothing can be learned, and the figures say so
    lot = [f"{a} {b} {c}" for a in ANIMALS for b in ANIMALS for c in ANIMALS]
    rng.shuffle(lot)
    hopeless = train_classifier(lot[:256], lot[256:], SMALL).figures
    assert 0.3 < hopeless["held_out_auc"] < 0.7
    low, high = hopeless["held_out_auc_interval_95"]
    assert low < 0.5 < high
    path = tmp_path / "m.bin"
    path.write_bytes(trained.data)
    assert auc(probabilities(path, GOOD), probabilities(path, BAD)) > 0.9


def test_a_text_cannot_name_its_own_label(tmp_path: Path) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(train_classifier([*GOOD, f"{NEGATIVE} dog", "a\n__label__third b"], BAD, SMALL).data)
    assert set(load_classifier(path)[0].get_labels()) == {POSITIVE, NEGATIVE}
    assert line("a\n__label__x\0</s>\u3000b") == "a _ _ label _ _ x < / s > b"


def test_too_few_texts_are_refused() -> None:
    with pytest.raises(ClassifierError, match=r"the positive selection has 0 texts of its own \(120 are in both\)"):
        train_classifier(BAD, BAD + GOOD, SMALL)
    with pytest.raises(ClassifierError, match="the negative selection has 1 texts of its own"):
        train_classifier(GOOD, BAD[:1], SMALL)


def test_the_signal(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.bin", "b.bin", "c.bin")]
    for path, settings in zip(paths, (SMALL, SMALL, SMALL.changed(seed=3)), strict=True):
        path.write_bytes(train_classifier(GOOD, BAD, settings).data)
    signal, same, other = (TextQuality(model=path) for path in paths)
    assert signal.key() == same.key() != other.key()
    found = signal.of_texts(["a small dog sits by the sea", None, "buy shoes now", " !!", "\u3000"])
    values = found["quality_probability"]
    assert values[0] > 0.9
    assert values[1] is None
    assert values[2] < 0.1
    assert values[4] == 0.5
    assert TextQuality(model=paths[0], prefix="news_").writes().names == ["news_quality_probability"]


def test_files_that_are_no_classifier(tmp_path: Path) -> None:
    (tmp_path / "text.bin").write_text("no model")
    (tmp_path / "train.txt").write_text("__label__en a b c\n__label__fr d e f\n")
    model = fasttext.train_supervised(str(tmp_path / "train.txt"), dim=2, bucket=10, epoch=0, thread=1, verbose=0)
    model.save_model(str(tmp_path / "language.bin"))
    for name, message in (
        ("nowhere.bin", "`tamis classifier train` makes one"),
        ("text.bin", "is no fastText model"),
        ("language.bin", "its labels are __label__en, __label__fr, not positive and negative"),
    ):
        with pytest.raises(ValidationError, match=message):
            TextQuality(model=tmp_path / name)
