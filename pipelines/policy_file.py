"""Policies from files: of their own, or those of recipes; checked against the columns that a store has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import yaml

from curation.policy import Policy, PolicyItem
from curation.step import Step
from pipelines.policy_checks import check_policy
from pipelines.recipe import Recipe, require_media
from pipelines.store import Store
from pipelines.stored_searches import check_stored
from pipelines.yaml_place import Places, RecipeError, load


class PolicyFile(Step):
    """A policy alone."""

    name: str = ""
    description: str = ""
    policy: Policy


def load_policy(path: Path, store: Store, types: Mapping[str, pa.DataType]) -> list[PolicyItem]:
    """The policy of a file: its `policy`, or that of a recipe's last round.

    Raises RecipeError, with the place, where it asks for a column that is not among `types` (the stored ones), or for a
    search that the store has not.
    """
    policy, places, prefix = _read(path)
    check_policy(policy, types, places, prefix)
    first = places.length(*prefix, "policy") - len(policy)  # `downloaded` may not be in the file
    check_stored(policy, store, types, lambda number, *field: places(*prefix, "policy", max(0, number + first), *field))
    return policy


def _read(path: Path) -> tuple[list[PolicyItem], Places, tuple[int | str, ...]]:
    if _keys(path) <= set(PolicyFile.model_fields):
        alone, places = load(path, PolicyFile)
        require_media(alone.policy)
        return alone.policy, places, ()
    recipe, places = load(path, Recipe)
    prefix: tuple[int | str, ...] = ("rounds", len(recipe.rounds) - 1) if recipe.rounds else ()
    return recipe.all_rounds()[-1].policy, places, prefix


def _keys(path: Path) -> set[str]:
    """Fields at the top of a YAML file; empty where it has none, for `load` to say so."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return set()
    return set(map(str, values)) if isinstance(values, dict) else set()


def parse_value(text: str) -> object:
    """One value as a YAML scalar: 0.28, 10, true, drop. Raises RecipeError for anything else."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{text!r} is no value: {error}") from error
    if not isinstance(value, bool | int | float | str):
        raise RecipeError(f"{text!r} is no number, text or truth value")
    return value
