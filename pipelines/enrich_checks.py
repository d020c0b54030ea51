"""Checks of a recipe's generators, with the place in the YAML of every mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation.generator import GENERATED
from curation.step import suggest
from pipelines.yaml_place import Places, RecipeError

if TYPE_CHECKING:
    from pipelines.recipe import Recipe


def check_generators(recipe: Recipe, places: Places) -> None:
    """Raises RecipeError where two sources of texts have one name, or a generator reads a column that is not kept."""
    columns = recipe.source.columns
    taken = dict.fromkeys(columns.text, "a text column of the links")
    for number, generator in enumerate(recipe.enrich):
        if generator.source in taken:
            raise RecipeError(
                f"{places('enrich', number, 'source')}: {generator.source!r} is already {taken[generator.source]}: a "
                "rule could not tell the two apart"
            )
        taken[generator.source] = "another generator's"
        missing = [name for name in generator.reads() if name not in columns.extra]
        if missing:
            raise RecipeError(
                f"{places('enrich', number)}: {type(generator).__name__} reads the column {missing[0]!r} of the link "
                f"tables, which is not among source.columns.extra; {suggest(missing[0], columns.extra)}"
            )
    hidden = [name for name in columns.extra if name in GENERATED.names] if recipe.enrich else []
    if hidden:
        raise RecipeError(
            f"{places('source', 'columns', 'extra')}: texts of generators have a column {hidden[0]!r} of their own: "
            "rename that of the link table"
        )
