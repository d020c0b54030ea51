"""Retrieval in both directions between any two kinds of things (texts, pictures, sounds, films), and the geometry of
their vectors.

Shape suffixes: A B things of the two sides, N items, K languages, P pictures, T texts, D dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pretrain.checked import EvaluationError, check_positives, check_vectors
from pretrain.diagnostics import rank_variance_rows
from pretrain.found import RANK, Found
from pretrain.geometry import geometry_rows
from pretrain.metrics import first_ranks, retrieval_rows
from pretrain.suites import Suite

MIN_PER_LANGUAGE = 20
"""Queries that a language needs for figures of its own."""
_QUERY_CHUNK = 1000


@dataclass(frozen=True)
class Side:
    """Things of one kind. kind: image, text, audio or video; items: names; cluster: uid of the sample of each.

    languages: of texts, those in which each is a caption.
    """

    kind: str
    vectors_ND: np.ndarray
    items: Sequence[str]
    clusters: Sequence[str]
    languages: Sequence[tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        check_vectors(self.kind, self.vectors_ND)
        for name in ("items", "clusters", "languages"):
            own = getattr(self, name)
            if own is not None and len(own) != len(self.vectors_ND):
                raise EvaluationError(f"{self.kind}: {len(own)} {name} for {len(self.vectors_ND)} vectors")


RankBy = Callable[[Side, Side, np.ndarray], np.ndarray]
"""(queries, candidates, positive_QN) -> (Q,) ranks, where they are not those by the vectors' dot products."""


def match(
    suite: str, a: Side, b: Side, positive_AB: np.ndarray, rank_by: RankBy | None = None
) -> tuple[Found, np.ndarray]:
    """R@1, R@5, R@10 and median rank of both directions, and of each language with enough queries; the (A,) ranks of
    a's queries. positive_AB: what belongs together; every row and every column has at least one.

    Raises EvaluationError where the three do not fit together.
    """
    check_vectors(b.kind, b.vectors_ND, a.vectors_ND.shape[1])
    check_positives(positive_AB, len(a.items), len(b.items))
    check_positives(positive_AB.T, len(b.items), len(a.items))
    found = Found()
    ranks = [_one_way(found, suite, a, b, positive_AB, rank_by), _one_way(found, suite, b, a, positive_AB.T, rank_by)]
    return found, ranks[0]


def _one_way(
    found: Found, suite: str, query: Side, candidate: Side, positive_QN: np.ndarray, rank_by: RankBy | None = None
) -> np.ndarray:
    direction, num_candidates = f"{query.kind}_to_{candidate.kind}", len(candidate.items)
    if rank_by is None:
        ranks_Q = ranks(query.vectors_ND, candidate.vectors_ND, positive_QN)
    else:
        ranks_Q = rank_by(query, candidate, positive_QN)
    positives_Q = positive_QN.sum(axis=1)
    cluster_Q = np.unique(np.array(query.clusters), return_inverse=True)[1]
    fixed = {"suite": suite, "direction": direction}
    sized = {**fixed, "num_candidates": num_candidates}
    found.add_figures(retrieval_rows(ranks_Q, positives_Q, num_candidates, cluster_Q), **sized)
    found.add_outcomes(ranks_Q, query.items, query.clusters, query.languages, **fixed, measure=RANK)
    for language in sorted({name for spoken in query.languages or () for name in spoken}):
        chosen = np.array([language in spoken for spoken in query.languages or ()])
        if chosen.sum() >= MIN_PER_LANGUAGE:
            rows = retrieval_rows(ranks_Q[chosen], positives_Q[chosen], num_candidates, cluster_Q[chosen])
            found.add_figures(rows, **sized, language=language)
    return ranks_Q


def ranks(query_QD: np.ndarray, candidate_ND: np.ndarray, positive_QN: np.ndarray) -> np.ndarray:
    """(Q,) ranks of the queries' best positives, a thousand queries at a time."""
    parts = [
        first_ranks(query_QD[start : start + _QUERY_CHUNK] @ candidate_ND.T, positive_QN[start : start + _QUERY_CHUNK])
        for start in range(0, len(query_QD), _QUERY_CHUNK)
    ]
    return np.concatenate(parts)


def of_suite(suite: Suite, image_PD: np.ndarray, text_TD: np.ndarray) -> Found:
    """All that the vectors of a suite tell: retrieval, the variance of ranks over languages, geometry."""
    uids = suite.uids or [str(row) for row in suite.rows]
    picture_T = suite.picture_T
    texts = Side("text", text_TD, suite.texts, [uids[picture] for picture in picture_T], suite.languages)
    found, ranks_T = match(suite.name, texts, Side("image", image_PD, uids, uids), suite.positive_TP)
    places = common_languages(suite)
    if places is not None:
        query_NK, languages = places
        rows = rank_variance_rows(
            ranks_T[query_NK], suite.positive_TP.sum(axis=1)[query_NK], num_candidates=len(suite.rows)
        )
        fixed = {"suite": suite.name, "direction": "text_to_image", "language": "+".join(languages)}
        found.add_figures(rows, **fixed, num_candidates=len(suite.rows))
    found.add_figures(geometry_rows(image_PD, text_TD, suite.positive_TP), suite=suite.name)
    found += across_languages(suite, text_TD)
    return found


def across_languages(suite: Suite, text_TD: np.ndarray) -> Found:
    """Texts of all other languages against those of one language (the one most pictures have), as `text_to_text` of the
    suite `<its name>:texts_in_<language>`: right is what describes the same picture.

    A text that is also one of that language is no query: it would find itself. Nothing where fewer than
    `MIN_PER_LANGUAGE` queries are left.
    """
    pictures: dict[str, set[int]] = {}
    for spoken, picture in zip(suite.languages, suite.picture_T.tolist(), strict=True):
        for language in spoken:
            pictures.setdefault(language, set()).add(picture)
    if len(pictures) < 2:
        return Found()
    pivot = min(pictures, key=lambda name: (-len(pictures[name]), name))
    is_pivot = np.array([pivot in spoken for spoken in suite.languages])
    candidates = np.flatnonzero(is_pivot)
    shown_TP = suite.positive_TP.astype(np.float32)
    queries = np.flatnonzero(~is_pivot & np.array([bool(spoken) for spoken in suite.languages]))
    positive_QN = shown_TP[queries] @ shown_TP[candidates].T > 0
    has_any = positive_QN.any(axis=1)
    queries, positive_QN = queries[has_any], positive_QN[has_any]
    if len(queries) < MIN_PER_LANGUAGE:
        return Found()
    uids = suite.uids or [str(row) for row in suite.rows]

    def side(places: np.ndarray, languages: list[tuple[str, ...]] | None = None) -> Side:
        names = [suite.texts[place] for place in places]
        return Side("text", text_TD[places], names, [uids[suite.picture_T[place]] for place in places], languages)

    of_queries = [suite.languages[place] for place in queries]
    found = Found()
    _one_way(found, f"{suite.name}:texts_in_{pivot}", side(queries, of_queries), side(candidates), positive_QN)
    return found


def common_languages(suite: Suite) -> tuple[np.ndarray, list[str]] | None:
    """(N, K) places of texts, row n of one picture in K languages, and the languages: as many as leave enough pictures
    that have all of them, the commonest first. None where no two do."""
    first: dict[str, dict[int, int]] = {}
    for text, (spoken, picture) in enumerate(zip(suite.languages, suite.picture_T.tolist(), strict=True)):
        for language in spoken:
            first.setdefault(language, {}).setdefault(picture, text)
    chosen: list[str] = []
    pictures: set[int] = set()
    for language in sorted(first, key=lambda name: (-len(first[name]), name)):
        common = pictures & first[language].keys() if chosen else set(first[language])
        if len(common) >= MIN_PER_LANGUAGE:
            chosen, pictures = [*chosen, language], common
    if len(chosen) < 2:
        return None
    return np.array([[first[name][picture] for name in chosen] for picture in sorted(pictures)]), chosen
