"""The main job: a recipe's stages, the training between its rounds, and the audit at the end, as one list of steps.

The Prefect flow and the direct run walk the same list, so they do the same things in the same order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.recipe import Recipe, load_recipe
from pipelines.run import StageCall, audit, noted, record, run_stage, stage_calls
from pipelines.stage import Report, Run
from pipelines.store import Store
from pipelines.workers import make_workers
from pipelines.yaml_place import RecipeError
from pretrain.config import TrainConfig
from pretrain.run import evaluate, train


@dataclass(frozen=True)
class Step:
    """One step: its name (the Prefect task's name), and what it does; returns counts."""

    name: str
    work: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Options:
    """What the command line may change of a recipe, and where it runs."""

    recipe: Path
    store: Path
    links: tuple[Path, ...] = ()
    columns: str | None = None
    allow_net: tuple[str, ...] = ()
    address: str = "local"


def load(options: Options) -> Recipe:
    """The recipe with the command line's sources, columns and networks. Raises RecipeError."""
    recipe = load_recipe(options.recipe)
    source = recipe.source
    if options.links:
        source = source.changed(links=[path.absolute() for path in options.links])
    if options.columns:
        source = source.changed(columns=source.columns.changed(**parse_columns(options.columns)))
    fetch = recipe.download.fetch
    if options.allow_net:
        networks = tuple(dict.fromkeys([*fetch.allow_networks, *options.allow_net]))
        fetch = fetch.changed(allow_networks=networks)
    for index, each in enumerate(recipe.all_rounds()):
        if each.train is not None:
            where = f"{options.recipe}: rounds[{index}].train" if recipe.rounds else f"{options.recipe}: train"
            TrainConfig.parse(each.train, where)
    return recipe.changed(source=source, download=recipe.download.changed(fetch=fetch))


def parse_columns(text: str) -> dict[str, Any]:
    """`url=URL,text=TITLE,text=ALT,language=LANG,extra=split` as the fields of `Columns`; raises RecipeError."""
    fields: dict[str, Any] = {}
    for pair in text.split(","):
        name, equals, column = pair.partition("=")
        if not equals or not column or name.strip() not in ("url", "text", "language", "sha256", "extra"):
            raise RecipeError(
                f"--columns: {pair!r} is not NAME=COLUMN; valid names: url, text, language, sha256, extra "
                "(text and extra may be given several times)"
            )
        if name.strip() in ("text", "extra"):
            fields.setdefault(name.strip(), []).append(column.strip())
        else:
            fields[name.strip()] = column.strip()
    return fields


@contextmanager
def running(options: Options, say: Report) -> Iterator[Run]:
    """A run with its store held, its workers ready and its record written at the end, whatever the end."""
    recipe = load(options)
    store = Store.create(options.store)
    started = time.time()
    with store.locked():
        run = Run(recipe, store, make_workers(options.address), store.state(), say=say)
        outcome = "failed"
        try:
            yield run
            outcome = "complete"
        finally:
            run.workers.close()
            record(run, started, outcome)


def steps(run: Run, address: str) -> list[Step]:
    """The steps of the main job in order. A round that trains makes its model known to the rounds after it."""
    found: list[Step] = []
    calls = stage_calls(run)
    for index, each in enumerate(run.recipe.all_rounds()):
        for call in calls:
            if call.round_index == index:
                found.append(Step(call.label, lambda call=call: _stage(run, call)))  # type: ignore[misc]
        if each.train is not None:
            suffix = "" if index == 0 else f" ({each.name})"
            config, name = each.train, each.name
            found.append(Step(f"train{suffix}", lambda c=config, n=name: _train(run, c, n, address)))  # type: ignore[misc]
            found.append(Step(f"evaluate{suffix}", lambda c=config, n=name: _evaluate(run, c, n)))  # type: ignore[misc]
    return [*found, Step("audit", lambda: _audit(run))]


def _stage(run: Run, call: StageCall) -> dict[str, Any]:
    return run_stage(run, call)
