"""Checks of a recipe's searches for duplicates, with the place in the YAML of every mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.policy import Decontaminate, Dedupe
from curation.schema import TEXTS
from curation.step import suggest
from pipelines.yaml_place import Places, RecipeError

if TYPE_CHECKING:
    from pipelines.recipe import Recipe


def check_searches(recipe: Recipe, types: Mapping[str, pa.DataType], places: Places) -> None:
    """Raises RecipeError for a column that cannot be compared, and for a rule whose search is not asked for."""
    signals = recipe.signals_until(len(recipe.all_rounds()) - 1)
    of_texts = {*TEXTS.names, *recipe.source.columns.extra}
    of_texts |= {name for signal in signals if signal.level == "text" for name in signal.writes().names}
    texts = recipe.duplicates.texts
    if texts is not None:
        choices = [name for name, kind in types.items() if pa.types.is_string(kind) and name in of_texts]
        if texts.column not in choices:
            raise RecipeError(
                f"{places('duplicates', 'texts', 'column')}: {texts.column!r} is no column of words of the texts; "
                f"{suggest(texts.column, choices)}"
            )
    semantic = recipe.duplicates.semantic
    if semantic is not None:
        choices = [name for name, kind in types.items() if _is_embedding(kind)]
        if semantic.embedding not in choices:
            raise RecipeError(
                f"{places('duplicates', 'semantic', 'embedding')}: {semantic.embedding!r} is no column of embeddings; "
                f"{suggest(semantic.embedding, choices)}"
            )
    asked = recipe.duplicates
    of_media = bool(asked.exact) or asked.perceptual or asked.segments is not None
    there = {"media": of_media, "texts": texts is not None, "semantic": semantic is not None}
    for index, each in enumerate(recipe.all_rounds()):
        prefix: tuple[int | str, ...] = ("rounds", index) if recipe.rounds else ()
        first = places.length(*prefix, "policy") - len(each.policy)  # `downloaded` may not be in the file
        for position, item in enumerate(each.policy, start=first):
            if isinstance(item, Dedupe) and not there[item.of]:
                say = {"media": "exact: [sha256]", "texts": "texts: {similarity: 0.8}",
                       "semantic": "semantic: {embedding: COLUMN, similarity: 0.95}"}[item.of]  # fmt: skip
                raise RecipeError(
                    f"{places(*prefix, 'policy', position)}: {item.name} is `of: {item.of}`, but the recipe does not "
                    f"look for them; say `duplicates: {{{say}}}`"
                )
            if isinstance(item, Decontaminate):
                check_rule(item, types, partial(places, *prefix, "policy", position))


def check_rule(item: Decontaminate, types: Mapping[str, pa.DataType], place: Callable[[str], str]) -> None:
    """Raises RecipeError for a rule about evaluation sets that compares a column which is not there."""
    if item.radius is not None and "look" not in types:
        raise RecipeError(
            f"{place('radius')}: {item.name} compares pictures, which needs the signal "
            "curation.signals.perceptual_hash.PerceptualHash; or say `radius: null`"
        )
    choices = [name for name, kind in types.items() if _is_embedding(kind)]
    if item.similarity is not None and item.embedding not in choices:
        raise RecipeError(
            f"{place('embedding')}: {item.embedding!r} is no column of embeddings; {suggest(item.embedding, choices)}"
        )


def _is_embedding(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list and pa.types.is_floating(kind.value_type))
