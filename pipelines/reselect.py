"""Select again: another policy on the stored signals. Nothing is downloaded or scored; only packing reads media.

Evaluation sets are compared anew where the policy names some, by what is stored of the pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from pipelines.decontaminate import decontaminate, rules_of
from pipelines.pack_names import own_name
from pipelines.policy_file import load_policy
from pipelines.pool_rows import Misaligned, PoolRows
from pipelines.recipe import Recipe, are_boxes
from pipelines.run import StageCall, audit, noted, record, run_stage
from pipelines.stage import Report, Run
from pipelines.store import Store, StoreError
from pipelines.workers import make_workers
from pipelines.yaml_place import RecipeError, load


def stored_rows(store: Store) -> PoolRows:
    """The rows of a store whose signals are complete. Raises StoreError where they are not."""
    if not store.texts_files():
        raise StoreError(f"{store.root} is empty: `tamis run` takes links in")
    try:
        return PoolRows(store, store.state())
    except Misaligned as error:
        raise StoreError(f"{store.root}: {error}") from error


def reselect(
    recipe: Path, folder: Path, policy: Path, name: str, address: str, say: Report, closing: Callable[[Run], str]
) -> None:
    """Decide by the policy in a file, and pack the version `name`; old decisions and versions stay.

    Of the recipe the seed and the packing are taken. Raises RecipeError or StoreError before anything runs.
    """
    store = Store.open(folder)
    rows = stored_rows(store)
    chosen, _ = load(recipe, Recipe)
    try:
        chosen = chosen.changed(name=name)
    except ValidationError as error:
        raise RecipeError(f"--name {name!r}: {error.errors()[0]['msg']}") from error
    if name == "latest":
        raise RecipeError("--name 'latest': that is what the present selection and version are called, whichever it is")
    items = load_policy(policy, store, rows.types)
    check_pack(recipe, chosen, rows.types)
    started = time.time()
    with store.locked():
        run = Run(
            chosen.changed(policy=items, rounds=[], train=None),
            store,
            make_workers(address),
            store.state(),
            say=say,
        )
        outcome = "failed"
        try:
            if rules_of(run):
                noted(run, "dedupe", "dedupe", lambda: find_stored_matches(run))
            else:
                find_stored_matches(run)
            for stage in ("select", "pack"):
                run_stage(run, StageCall(stage, 0, run.round.name))
            audit(run)
            outcome = "complete"
            say(closing(run))
        finally:
            run.workers.close()
            record(run, started, outcome)


def find_stored_matches(run: Run) -> dict[str, Any]:
    """Compare the pool with the evaluation sets that the policy names, by stored columns; matches of others leave the
    views. Returns counts."""
    run.state.tables.pop("evaluation_matches", None)
    return decontaminate(run) if rules_of(run) else {}


def check_pack(path: Path, recipe: Recipe, types: Mapping[str, pa.DataType]) -> None:
    """Raises RecipeError where the recipe's packing asks for a column that the store has not (`types`)."""
    known = set(types) | {"keep_probability", "sampling_weight"}
    for at, column in recipe.pack.column_names():
        if column not in known:
            field = ".".join(("pack", *at))
            raise RecipeError(f"{path}: {field}: the store has no column {column!r}: `tamis run` makes it")
        if (wrong := own_name(at[-1], column, types)) is not None:
            raise RecipeError(f"{path}: {'.'.join(('pack', *at))}: {wrong}")
    if recipe.pack.blur_faces and not are_boxes(types[recipe.pack.blur_faces.boxes]):
        raise RecipeError(f"{path}: pack.blur_faces: {recipe.pack.blur_faces.boxes!r} is no column of boxes")
