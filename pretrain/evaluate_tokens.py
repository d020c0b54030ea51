"""Retrieval by late interaction, for models that are trained with it: the suites `<suite>:tokens`.

Every pair of a picture and a text is a matrix of dot products, so a part of the suite is asked, the same one for every
model. Shape suffixes: T texts, P pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from curation.step import digest
from pretrain.config import TrainConfig
from pretrain.embed import TwoTowerScorer
from pretrain.embeddings.base import Tokens
from pretrain.found import Found
from pretrain.keyed import key
from pretrain.retrieval import Side, match
from pretrain.suites import Suite
from pretrain.targets.late_interaction import LateInteraction
from pretrain.token_cache import TokenSets, cached_tokens, late_ranks
from pretrain.vectors import Vectors

MAX_PICTURES, MAX_TEXTS = 200, 500
_BATCH = 64


def is_late(config: TrainConfig) -> bool:
    """Whether a target of the run compares the tokens of pictures and texts."""
    reads = config.model.sources()
    return any(
        isinstance(each.target, LateInteraction) and {reads[each.target.a], reads[each.target.b]} == {"image", "text"}
        for each in config.targets
    )


def by_tokens(suite: Suite, scorer: TwoTowerScorer, vectors: Vectors, pixels: np.ndarray, cache: Path) -> Found:
    """Recalls and ranks in both directions by single tokens, which are kept in files in `cache`. Nothing for an empty
    part. Raises EvaluationError."""
    part = part_of(suite)
    model, weights = scorer.model, scorer.weights_digest

    def pictures(places: Sequence[int]) -> Tokens:
        square_BSSC = torch.from_numpy(np.asarray(pixels[part.rows[list(places)]]))
        image_BCHW = square_BSSC.to(scorer.device).permute(0, 3, 1, 2).float().div_(255)
        return _tokens(scorer, model.stream_of("image"), image_BCHW)

    def texts(places: Sequence[int]) -> Tokens:
        return _tokens(scorer, model.stream_of("text"), [part.texts[place] for place in places])

    sets: dict[str, TokenSets] = {}
    for kind, items, encode in (("image", part.uids, pictures), ("text", part.texts, texts)):
        name = digest("tokens", weights, kind, list(items))
        sets[kind] = cached_tokens(cache / f"{kind}-{name[:16]}.parquet", items, encode, _BATCH)
    clusters = [part.uids[picture] for picture in part.picture_T]
    sides = (
        Side("text", vectors.texts(part.texts), part.texts, clusters, part.languages),
        Side("image", vectors.images(part.rows), part.uids, part.uids),
    )

    def ranks(query: Side, candidate: Side, positive_QN: np.ndarray) -> np.ndarray:
        return late_ranks(sets[query.kind], sets[candidate.kind], positive_QN)

    return match(f"{suite.name}:tokens", *sides, part.positive_TP, ranks)[0]


@torch.inference_mode()
def _tokens(scorer: TwoTowerScorer, stream: str, raw: torch.Tensor | list[str]) -> Tokens:
    placed = {name: value.to(scorer.device) for name, value in scorer.model.prepare(stream, raw).items()}
    return scorer.model.encode_with_tokens(stream, placed)[1]


def part_of(suite: Suite) -> Suite:
    """At most MAX_PICTURES of its pictures and MAX_TEXTS of their texts, by keyed hashes of their names."""
    uids = suite.uids or [str(row) for row in suite.rows]
    columns = sorted(sorted(range(len(uids)), key=lambda place: key("tokens", uids[place]))[:MAX_PICTURES])
    described = np.flatnonzero(suite.positive_TP[:, columns].any(axis=1)).tolist()
    kept = sorted(sorted(described, key=lambda place: key("tokens", suite.texts[place]))[:MAX_TEXTS])
    columns = [column for column in columns if suite.positive_TP[kept, column].any()]
    positive_TP = suite.positive_TP[np.ix_(kept, columns)]
    languages = [suite.languages[place] for place in kept]
    chosen = [uids[column] for column in columns]
    return Suite(
        suite.name, suite.rows[columns], [suite.texts[place] for place in kept], languages, positive_TP, chosen
    )
