"""Figures against independent readings (scikit-learn where it has them, else plain loops), and bad input by name."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from pretrain.checked import EvaluationError
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
from pretrain.geometry import geometry_rows
from pretrain.metrics import cluster_weights, first_ranks, mean_row, retrieval_rows
from pretrain.retrieval import MIN_PER_LANGUAGE, Side, across_languages, match
from pretrain.stream_suites import between_streams, shuffled_frames
from pretrain.suites import Suite
from tests.pretrain.batches import unit_array as unit

pytestmark = pytest.mark.family("F32")
NAN = float("nan")


def side(kind: str, vectors: np.ndarray, languages: Any = None) -> Side:
    names = [f"{kind}{n}" for n in range(len(vectors))]
    return Side(kind, vectors, names, names, languages)


@pytest.mark.parametrize("seed", range(3))
def test_recalls_are_a_plain_search(seed: int) -> None:
    """Vectors of small whole numbers, so that many scores are equal; several positives in both directions."""
    generator = np.random.default_rng(seed)
    a, b = generator.integers(-1, 2, (24, 3)).astype(float), generator.integers(-1, 2, (15, 3)).astype(float)
    own = generator.random((24, 15)) < 0.15
    own[np.arange(24), generator.integers(0, 15, 24)] = True
    own[generator.integers(0, 24, 15), np.arange(15)] = True
    found = match("s", side("text", a), side("image", b), own)[0]
    for direction, queries, candidates, right in (("text_to_image", a, b, own), ("image_to_text", b, a, own.T)):
        ranks = []
        for q in range(len(queries)):
            scores = [float(queries[q] @ candidates[c]) for c in range(len(candidates))]
            best = max(score for score, is_right in zip(scores, right[q], strict=True) if is_right)
            ranks.append(1 + sum(s >= best and not r for s, r in zip(scores, right[q], strict=True)))
        rows = {row["metric"]: row for row in found.figures if row["direction"] == direction}
        for k in (1, 5, 10):
            assert rows[f"recall_at_{k}"]["value"] == pytest.approx(np.mean([rank <= k for rank in ranks]))
        assert rows["median_rank"]["value"] == sorted(ranks)[(len(ranks) - 1) // 2]
        assert all(row["lo"] <= row["value"] <= row["hi"] for row in rows.values())
        positives = right.sum(axis=1)
        for k in (1, 5, 10):
            none = [math.comb(len(candidates) - int(m), k) / math.comb(len(candidates), k) for m in positives]
            assert rows[f"recall_at_{k}"]["chance"] == pytest.approx(1 - np.mean(none))


def test_zero_shot_is_scikit_learns_top_k() -> None:
    generator = np.random.default_rng(1)
    scores, label = generator.normal(size=(300, 12)), generator.integers(0, 12, 300)
    for k in (1, 5, 11):
        theirs = top_k_accuracy_score(label, scores, k=k, labels=np.arange(12))
        assert within_top(scores, label, k).mean() == pytest.approx(theirs)


def test_the_probe_is_scikit_learns_regression() -> None:
    """The same penalty: ours is 1e-2 / 2 |W|^2 on the mean loss, theirs 1 / (2 C) on the sum, so C = 1 / (1e-2 n)."""
    x, test = unit(90, 6, seed=2), unit(200, 6, seed=3)
    label = (np.arange(90) * 7) % 4
    x[np.arange(90), label] += 0.6
    theirs = LogisticRegression(C=1 / (1e-2 * 90), tol=1e-10, max_iter=10_000).fit(x, label)
    mine = linear_probe(x, label, test, 4, penalty=1e-2)
    probabilities = np.exp(mine - mine.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, theirs.predict_proba(test), atol=2e-3)
    assert (mine.argmax(axis=1) == theirs.predict(test)).mean() > 0.99


def test_neighbours_are_scikit_learns_by_cosine() -> None:
    train, test = unit(80, 5, seed=4), unit(50, 5, seed=5)
    label = np.random.default_rng(6).integers(0, 3, 80)
    weigh = lambda distance: np.exp(-distance / 0.07)  # noqa: E731
    theirs = KNeighborsClassifier(20, metric="cosine", algorithm="brute", weights=weigh).fit(train, label)
    votes = neighbours_vote(train, label, test, 3)
    np.testing.assert_allclose(votes / votes.sum(axis=1, keepdims=True), theirs.predict_proba(test), rtol=1e-6)
    few = neighbours_vote(train[:4], label[:4], test, 3)  # fewer training rows than neighbours: all of them
    assert (few > 0).sum(axis=1).max() == len(set(label[:4].tolist()))


def test_geometry_is_plain_loops_and_its_bootstrap_is_of_pictures() -> None:
    image, text = unit(9, 4, seed=7), unit(14, 4, seed=8)
    own = np.zeros((14, 9), dtype=bool)
    own[np.arange(14), np.arange(14) % 9] = True
    own[3, 5] = True  # one text of two pictures
    rows = {row["metric"]: row for row in geometry_rows(image, text, own)}
    pairs = [(t, p) for t, p in itertools.product(range(14), range(9)) if own[t, p]]
    others = [(t, p) for t, p in itertools.product(range(14), range(9)) if not own[t, p]]
    assert rows["alignment"]["value"] == pytest.approx(np.mean([text[t] @ image[p] for t, p in pairs]))
    assert rows["alignment"]["chance"] == pytest.approx(np.mean([text[t] @ image[p] for t, p in others]))
    gap = sum((image[:, d].mean() - text[:, d].mean()) ** 2 for d in range(4)) ** 0.5
    assert rows["modality_gap"]["value"] == pytest.approx(gap)
    for name, vectors in (("uniformity_images", image), ("uniformity_texts", text)):
        kernel = [math.exp(-2 * float(((x - y) ** 2).sum())) for x, y in itertools.permutations(vectors, 2)]
        assert rows[name]["value"] == pytest.approx(math.log(np.mean(kernel)))


def test_a_text_of_several_pictures_is_drawn_with_each_of_them() -> None:
    """As classes are: drawn with the first one only, a third of the resamplings would have no text, and a gap of 1."""
    image, text = np.repeat(unit(1, 4, seed=9), 8, axis=0), unit(1, 4, seed=10)
    rows = {row["metric"]: row for row in geometry_rows(image, text, np.ones((1, 8), dtype=bool))}
    for name in ("modality_gap", "alignment"):
        assert [rows[name]["lo"], rows[name]["hi"]] == pytest.approx([rows[name]["value"]] * 2)
    image, text = unit(6, 4, seed=11), unit(3, 4, seed=12)
    own = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 0, 1], [0, 0, 1, 0, 0, 0]], dtype=bool)  # one has no text
    found = {row["metric"]: row for row in geometry_rows(image, text, own)}
    gaps, alignments = [], []
    for weight in cluster_weights(np.arange(6)):
        pairs = [(t, p, weight[p]) for t, p in itertools.product(range(3), range(6)) if own[t, p]]
        if not sum(times for _, _, times in pairs):
            continue
        texts = [sum(times for t, _, times in pairs if t == each) / own[each].sum() for each in range(3)]
        means = np.average(image, axis=0, weights=weight), np.average(text, axis=0, weights=texts)
        gaps.append(np.linalg.norm(means[0] - means[1]))
        alignments.append(np.average([text[t] @ image[p] for t, p, _ in pairs], weights=[n for _, _, n in pairs]))
    for name, values in (("modality_gap", gaps), ("alignment", alignments)):
        expected = np.quantile(values, (0.025, 0.975))
        assert [found[name]["lo"], found[name]["hi"]] == pytest.approx(expected.tolist(), rel=1e-5)


def test_single_rows_give_figures_or_none_but_never_nan() -> None:
    one = np.ones((1, 1), dtype=bool)
    image, text = unit(1, 4, seed=9), unit(1, 4, seed=10)
    rows = geometry_rows(image, text, one) + match("s", side("text", text), side("image", image), one)[0].figures
    assert {row["metric"] for row in rows} == {
        "modality_gap", "alignment", "recall_at_1", "recall_at_5", "recall_at_10", "median_rank",
    }  # fmt: skip
    for row in rows:
        assert all(math.isfinite(row[name]) for name in ("value", "lo", "hi"))
        assert row["chance"] is None or math.isfinite(row["chance"])
    assert uniformity(image) == 0
    present = {"audio": np.ones(1, dtype=bool), "image": np.ones(1, dtype=bool)}
    assert between_streams("s", {"audio": image, "image": text}, present, ["u"]).figures == []


def translated(pictures: int = 30) -> tuple[Suite, np.ndarray]:
    """Pictures named in three languages, the last not in German; the vector of a name is its picture's with noise; one
    name is of two languages."""
    texts, languages, places = [], [], []
    for picture in range(pictures):
        for language in ("de", "en", "fr"):
            if language == "de" and picture == pictures - 1:
                continue
            is_shared = picture == 0 and language == "fr"
            texts.append(f"{language} {picture}")
            languages.append(("en", "fr") if is_shared else (language,))
            places.append(picture)
    own = np.zeros((len(texts), pictures), dtype=bool)
    own[np.arange(len(texts)), places] = True
    suite = Suite("s", np.arange(pictures), texts, languages, own, [f"u{n}" for n in range(pictures)])
    vectors = unit(pictures, 16, seed=11)[places] + 0.5 * unit(len(texts), 16, seed=12)
    return suite, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.family("F09")
def test_texts_of_other_languages_are_searched_for_in_one() -> None:
    """F09 (e): against a plain search; a text that is of both languages is a candidate and no query."""
    suite, text_TD = translated()
    found = across_languages(suite, text_TD)
    rows = {(row["metric"], row["language"]): row for row in found.figures}
    assert {(row["suite"], row["direction"]) for row in found.figures} == {("s:texts_in_en", "text_to_text")}
    candidates = [n for n, spoken in enumerate(suite.languages) if "en" in spoken]
    for language in (None, "de", "fr"):
        queries = [n for n, spoken in enumerate(suite.languages) if "en" not in spoken and language in (None, *spoken)]
        hits = []
        for query in queries:
            order = sorted(candidates, key=lambda c: -float(text_TD[query] @ text_TD[c]))
            hits.append(suite.picture_T[order[0]] == suite.picture_T[query])
        row = rows["recall_at_1", language]
        assert (row["n"], row["num_candidates"]) == (len(queries), 31)
        assert row["value"] == pytest.approx(np.mean(hits))
    whole = rows["recall_at_1", None]
    assert whole["lo"] > whole["chance"] > 0
    random = across_languages(suite, unit(len(suite.texts), 16, seed=13))
    row = next(row for row in random.figures if row["metric"] == "recall_at_10" and row["language"] is None)
    assert row["lo"] <= row["chance"] <= row["hi"]
    few = Suite("s", suite.rows, suite.texts[:27], suite.languages[:27], suite.positive_TP[:27], suite.uids)
    assert MIN_PER_LANGUAGE > 27 - 10
    assert across_languages(few, text_TD[:27]).figures == []
    alone = [("en",)] * len(suite.texts)
    assert across_languages(Suite("s", suite.rows, suite.texts, alone, suite.positive_TP), text_TD).figures == []
    unknown: list[tuple[str, ...]] = [()] * len(suite.texts)
    assert across_languages(Suite("s", suite.rows, suite.texts, unknown, suite.positive_TP), text_TD).figures == []


def spoiled(vectors: np.ndarray, value: float = NAN) -> np.ndarray:
    made = vectors.copy()
    made[1, 0] = value
    return made


A, B, OWN = unit(4, 3, seed=14), unit(4, 3, seed=15), np.eye(4, dtype=bool)
LABEL = np.array([0, 1, 0, 1])
BAD: list[tuple[Any, str]] = [
    (lambda: match("s", side("text", spoiled(A)), side("image", B), OWN), r"vectors of text: 1 of 4 .*row 1"),
    (lambda: match("s", side("text", A), side("image", spoiled(B, math.inf)), OWN), "vectors of image: 1 of 4"),
    (lambda: match("s", side("text", A), side("image", B[:3]), OWN), r"shape \(4, 4\), for 4 queries and 3"),
    (lambda: match("s", side("text", A), side("image", B[:, :2]), OWN), "image have 2 dimensions, the others have 3"),
    (lambda: match("s", side("text", A), side("image", B), OWN & (np.arange(4) != 2)), "1 of 4 queries have no pos"),
    (lambda: match("s", side("text", A), side("image", B), OWN & (np.arange(4) != 2)[:, None]), "no positive.*row 2"),
    (lambda: side("text", A[:0]), "vectors of text: there are none"),
    (lambda: side("text", A, [("en",)] * 3), "text: 3 languages for 4 vectors"),
    (lambda: Side("text", A, ["a"], list("abcd")), "text: 1 items for 4 vectors"),
    (lambda: first_ranks(np.zeros((0, 3)), np.zeros((0, 3), dtype=bool)), "nothing to rank: 0 queries, 3 candidates"),
    (lambda: retrieval_rows(np.zeros(0), np.zeros(0), 3, np.zeros(0)), "at least one is needed"),
    (lambda: retrieval_rows(np.array([1, 2]), np.ones(3), 3, np.arange(2)), "2 ranks, 3 numbers of positives, 2"),
    (lambda: retrieval_rows(np.array([1, 4]), np.ones(2), 3, np.arange(2)), "ranks go from 1 to 4;.* the 3 cand"),
    (lambda: retrieval_rows(np.array([0, 1]), np.ones(2), 3, np.arange(2)), "ranks go from 0 to 1"),
    (lambda: retrieval_rows(np.array([1, 1]), np.zeros(2), 3, np.arange(2)), "numbers of positives go from 0"),
    (lambda: geometry_rows(spoiled(A), B, OWN), "vectors of pictures: 1 of 4"),
    (lambda: geometry_rows(A[:0], B[:0], OWN[:0, :0]), "vectors of pictures: there are none"),
    (lambda: modality_gap(A[:0], B), "vectors of pictures: there are none"),
    (lambda: uniformity(spoiled(A)), "not finite"),
    (lambda: within_top(spoiled(A), LABEL, 1), "vectors of scores: 1 of 4"),
    (lambda: within_top(A, np.array([0, 1, 2, 3]), 1), "labels of pictures go from 0 to 3, classes from 0 to 2"),
    (lambda: within_top(A, np.array([0, 1, 2, -1]), 1), "labels of pictures go from -1"),
    (lambda: neighbours_vote(A[:0], LABEL[:0], B, 2), "labels of training rows: the shape"),
    (lambda: linear_probe(A, LABEL + 1, B, 2), "labels of training rows go from 1 to 2, classes from 0 to 1"),
    (lambda: label_outcomes(A, LABEL * 0, B, LABEL * 0, A[:1]), r"1 class\(es\): there is nothing to tell apart"),
    (lambda: label_outcomes(A, LABEL, B[:0], LABEL[:0], A[:2]), "vectors of held-out pictures: there are none"),
    (lambda: label_outcomes(A, LABEL, B, LABEL, spoiled(A[:2])), "vectors of classes: 1 of 2"),
    (lambda: label_outcomes(A, LABEL[:3], B, LABEL, A[:2]), r"labels of training pictures: the shape is \(3,\), for 4"),
    (lambda: class_vectors(lambda texts: A[: len(texts)], []), "0 classes"),
    (lambda: class_vectors(lambda texts: A[: len(texts)], ["a"], ()), "0 prompts"),
    (lambda: class_vectors(lambda _: np.array([A[0], 0 * A[0]]), ["x", "y"], ("{}",)), "class 'y' have no direction"),
    (lambda: class_vectors(lambda _: np.array([A[0], -A[0]]), ["x"], ("{}", "a {}")), "class 'x' have no direction"),
    (lambda: class_vectors(lambda _: spoiled(A[:2]), ["x", "y"], ("{}",)), "prompts of classes: 1 of 2"),
    (lambda: rank_variance_rows(np.zeros((0, 3)), np.zeros((0, 3)), 5), "ranks by language: there are none"),
    (lambda: rank_variance_rows(np.ones((3, 1)), np.ones((3, 1)), 5), "at least two languages"),
    (lambda: rank_variance_rows(np.ones((3, 2)), np.ones((3, 3)), 5), r"shape \(3, 2\).*\(3, 3\)"),
    (lambda: mean_row("m", np.zeros(0, dtype=bool), np.arange(0), 0.5), "m: the values have the shape"),
    (lambda: mean_row("m", np.array([1.0, NAN]), np.arange(2), 0.0), "m: 1 of 2 values are not finite.*number 1"),
    (lambda: shuffled_frames("f", A, B, spoiled(B), OWN, list("abcd"), list("abcd")), "finite"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_no_figure_can_be_made_of_is_named(number: int) -> None:
    make, said = BAD[number]
    with pytest.raises(EvaluationError, match=said):
        make()
