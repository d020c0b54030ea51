"""What a policy asks of searches, against a store: for policies that are decided after the run, on what is stored.

`dedupe` of texts or of meanings needs a search that the recipe of the last run asked for. `decontaminate` compares the
stored hashes, texts and embeddings of the pool with evaluation sets, which `tamis select` does by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa

from curation.policy import Decontaminate, Dedupe, PolicyItem
from pipelines.decontaminate import tables_with
from pipelines.evaluation_sets import open_set
from pipelines.looks import COLUMNS
from pipelines.search_checks import check_rule
from pipelines.select_duplicates import NEEDS
from pipelines.selections import selections
from pipelines.store import State, Store
from pipelines.yaml_place import RecipeError

Place = Callable[..., str]
"""Where a rule, by its number in the policy, or a field of it stands."""


def check_stored(policy: Sequence[PolicyItem], store: Store, types: Mapping[str, pa.DataType], place: Place) -> None:
    """Raises RecipeError for a rule whose search the store has not, StoreError for an evaluation set that it lacks."""
    state = store.state()
    for number, item in enumerate(policy):
        match item:
            case Dedupe() if item.of != "media" and NEEDS[item.of][0] not in state.tables:
                raise RecipeError(
                    f"{place(number)}: {item.name} is `of: {item.of}`, but the last run on this store did not look for "
                    f"them: add `duplicates: {{{item.of}: ...}}` to its recipe and run it again"
                )
            case Decontaminate():
                check_rule(item, types, partial(place, number))
                _check_sets(item, store, state, place(number))


def _check_sets(rule: Decontaminate, store: Store, state: State, place: str) -> None:
    columns = set(COLUMNS if rule.radius is not None else ())
    columns |= {rule.embedding} if rule.similarity is not None else set()
    for name in rule.against:
        described = open_set(store, name).manifest["signals"]
        for table in tables_with(store, state, columns):
            if described.get(table) != state.signal_keys.get(table):
                raise RecipeError(
                    f"{place}: evaluation set {name} was registered without the signal {table} as the store has it; "
                    "register it again with `tamis evalset add ... --replace --recipe RECIPE`"
                )


def check_found(policies: Sequence[Sequence[PolicyItem]], store: Store) -> None:
    """Raises RecipeError for a `decontaminate` whose matches are not stored: counting alone does not look for them."""
    state = store.state()
    present = state.tables.get("evaluation_matches")
    made_for = [
        item
        for each in selections(store)
        if present is not None and each.tables.get("evaluation_matches") == present
        for item in each.items()
    ]
    for item in (item for policy in policies for item in policy):
        if isinstance(item, Decontaminate) and item not in made_for:
            raise RecipeError(
                f"{item.name}: the store holds no matches of evaluation sets for this rule as it is here: "
                "`tamis select` with it finds them, and its own fields cannot be swept"
            )
