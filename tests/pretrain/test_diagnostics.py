"""pretrain/diagnostics.py: each figure against its definition, and a run's evaluation by labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tiny import config

from pretrain import evaluate_labels
from pretrain.config import ConfigError
from pretrain.diagnostics import (
    class_vectors,
    label_outcomes,
    linear_probe,
    modality_gap,
    neighbours_vote,
    rank_variance_rows,
    uniformity,
    within_top,
)
from pretrain.evaluate_labels import by_labels
from pretrain.geometry import geometry_rows
from pretrain.metrics import mean_row
from pretrain.vectors import Vectors
from pretrain.version import Version
from tests.pretrain.batches import unit_array as unit


@pytest.mark.family("F23")
def test_a_known_shift_changes_the_gap_by_its_norm() -> None:
    """F23 (a), to 1e-6; and removing the means closes it (b)."""
    image = unit(50, 8, seed=0)
    shift = np.array([3.0, 0, 0, 0, 0, 0, -4.0, 0])
    assert modality_gap(image, image) == 0
    assert modality_gap(image + shift, image) == pytest.approx(5, abs=1e-6)
    text = unit(40, 8, seed=1)
    assert modality_gap(image - image.mean(axis=0), text - text.mean(axis=0)) < 1e-6


@pytest.mark.family("F23")
def test_alignment_and_uniformity_are_their_formulae() -> None:
    image, text = unit(30, 5, seed=2), unit(30, 5, seed=3)
    rows = {row["metric"]: row["value"] for row in geometry_rows(image, text, np.eye(30, dtype=bool))}
    assert rows["alignment"] == pytest.approx(sum(float(a @ b) for a, b in zip(image, text, strict=True)) / 30)
    pairs = [np.exp(-2 * ((image[i] - image[j]) ** 2).sum()) for i in range(30) for j in range(30) if i != j]
    assert uniformity(image) == pytest.approx(np.log(np.mean(pairs)), rel=1e-9)
    assert uniformity(np.ones((7, 5))) == pytest.approx(0, abs=1e-9)
    assert uniformity(np.ones((1, 5))) == 0
    assert uniformity(np.vstack([image] * 40)) == pytest.approx(
        uniformity(image) + 0, abs=0.4
    )  # many more rows than one chunk holds


@pytest.mark.family("F32")
def test_class_vectors_are_open_clips_zero_shot_classifier() -> None:
    """F32 (c): normalised prompts, their mean, normalised: as clip_benchmark and open_clip compute them."""
    table: dict[str, np.ndarray] = {}

    def encode(texts: Any) -> np.ndarray:
        for text in texts:
            table.setdefault(text, np.random.default_rng(len(table)).normal(size=6) * (1 + len(table)))
        return np.stack([table[text] for text in texts])

    names, prompts = ["frog", "red {boat}"], ("a photo of a {}.", "{}", "{} and {}")
    found = class_vectors(encode, names, prompts)
    for index, name in enumerate(names):
        texts = torch.from_numpy(encode([prompt.replace("{}", name) for prompt in prompts]))
        mean = torch.nn.functional.normalize(texts, dim=-1).mean(dim=0)
        np.testing.assert_allclose(found[index], (mean / mean.norm()).numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match=r"'a frog' has no \{\}"):
        class_vectors(encode, names, ("a frog",))


@pytest.mark.family("F32")
def test_top_k_counts_ties_against_the_model() -> None:
    scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.3, 0.1], [0.0, 0.0, 0.0]])
    assert within_top(scores, np.array([1, 0, 2]), 1).tolist() == [True, False, False]
    assert within_top(scores, np.array([2, 0, 2]), 2).tolist() == [True, True, False]
    random = np.random.default_rng(0).normal(size=(200, 7))
    label = np.random.default_rng(1).integers(0, 7, 200)
    output, target = torch.from_numpy(random), torch.from_numpy(label)
    correct = output.topk(5, 1)[1].t().eq(target.view(1, -1).expand(5, -1))  # clip_benchmark's `accuracy`
    for k in (1, 5):
        assert within_top(random, label, k).mean() == pytest.approx(float(correct[:k].sum()) / 200)
    row = mean_row("m", within_top(random, label, 1), np.arange(200), 1 / 7)
    assert row["lo"] < row["chance"] < row["hi"]  # (b): a random model lies inside the chance interval


def test_neighbours_vote_with_their_cosine() -> None:
    train, test = unit(30, 4, seed=5), unit(6, 4, seed=6)
    label = np.arange(30) % 3
    votes = neighbours_vote(train, label, test, 3, k=5)
    for row in range(6):
        cosine = train @ test[row]
        expected = np.zeros(3)
        for near in sorted(range(30), key=lambda n: -cosine[n])[:5]:
            expected[label[near]] += np.exp((cosine[near] - 1) / 0.07)
        np.testing.assert_allclose(votes[row], expected, rtol=1e-9)


def test_the_probe_is_at_the_optimum() -> None:
    """The gradient of the penalised loss is 0 there; what is linear is read out."""
    x, label = unit(60, 5, seed=7), np.arange(60) % 3
    x[np.arange(60), label] += 2
    scores = linear_probe(x, label, np.vstack([x, np.zeros((1, 5)), np.eye(5)]), 3, penalty=0.01)
    assert float((scores[:60].argmax(axis=1) == label).mean()) == 1
    bias, weight = scores[60], (scores[61:] - scores[60]).T
    p = np.exp(scores[:60] - scores[:60].max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    gradient = (p - np.eye(3)[label]).T @ x / 60 + 0.01 * weight
    assert np.abs(gradient).max() < 1e-4
    assert np.abs((p - np.eye(3)[label]).mean(axis=0)).max() < 1e-4
    assert bias.shape == (3,)


@pytest.mark.family("F09")
def test_mean_rank_variance() -> None:
    """F09 (d): 0 when all languages rank alike."""

    def found(*ranks: list[int]) -> tuple[float, ...]:
        """Variance and deviation."""
        rank_NK = np.array(ranks)
        return tuple(row["value"] for row in rank_variance_rows(rank_NK, np.ones(rank_NK.shape, int), 7))

    assert found([3, 3, 3], [7, 7, 7]) == (0, 0)
    assert found([1, 3], [2, 2]) == (0.5, 0.5)
    assert found([1, 5], [2, 2]) == (2.0, 1.0)


def test_label_outcomes_say_what_they_compare_with() -> None:
    classes = unit(6, 8, seed=8)
    label, held_out = np.arange(60) % 6, np.arange(24) % 6
    rows = label_outcomes(classes[label], label, classes[held_out], held_out, classes)
    assert [right.all() for right, _ in rows.values()] == [True] * 4
    chances = {metric: chance for metric, (_, chance) in rows.items()}
    assert chances["zero_shot_top_1"] == pytest.approx(1 / 6)
    assert chances["zero_shot_top_5"] == pytest.approx(5 / 6)
    assert chances["linear_probe_top_1"] == pytest.approx(4 / 24)


@pytest.mark.family("F32")
def test_a_model_is_evaluated_by_the_labels_of_a_version(version: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Scorer:
        """Vectors that know the class: what the wiring has to carry through."""

        def encode_squares(self, pixels: np.ndarray) -> np.ndarray:
            asked.append(len(pixels))
            return unit(len(pixels), 32, seed=len(pixels))

        def encode_texts(self, texts: Any) -> tuple[np.ndarray, np.ndarray]:
            return np.stack([unit(32, seed=len(text)) for text in texts]), np.ones(len(texts), dtype=bool)

    said: list[str] = []
    scorer: Any = Scorer()
    vectors = Vectors(scorer, np.zeros((48, 16, 16, 3), dtype=np.uint8))
    there = np.ones(48, dtype=bool)
    found = by_labels(vectors, config(), version, there, "category", said.append)
    assert [row["metric"] for row in found.figures] == [
        "zero_shot_top_1", "nearest_neighbours_top_1", "linear_probe_top_1",
        "modality_gap", "alignment", "uniformity_images",
    ]  # fmt: skip
    assert all(row["lo"] <= row["value"] <= row["hi"] for row in found.figures[:3])
    assert "2 classes of 'category', 8 held-out pictures" in said[-1]
    assert len(found.outcomes) == 3 * 8
    assert {row["measure"] for row in found.outcomes} == {row["metric"] for row in found.figures[:3]}
    by_labels(vectors, config(), version, there, "category", said.append)
    assert asked == [40, 8]  # each picture once
    with pytest.raises(ConfigError, match=r"has no column \['kind'\]"):
        by_labels(vectors, config(), version, there, "kind", said.append)
    monkeypatch.setattr(evaluate_labels, "HELD_OUT", "nothing")
    with pytest.raises(ConfigError, match="0 held-out pictures"):
        by_labels(vectors, config(), version, there, "category", said.append)
