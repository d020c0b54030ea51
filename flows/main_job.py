"""The main job: a recipe's stages, the training between its rounds, and the audit at the end, as one list of steps.

The Prefect flow and the direct run walk the same list, so they do the same things in the same order.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from curation.policy import Decontaminate
from flows.figures import figures
from pipelines import outage
from pipelines.decontaminate import check_sets
from pipelines.recipe import Columns, Recipe, Round, load_recipe
from pipelines.run import audit, noted, record, run_stage, stage_calls
from pipelines.stage import Report, Run
from pipelines.store import Store
from pipelines.summary import failures, report_rows
from pipelines.views import open_store
from pipelines.workers import make_workers
from pipelines.yaml_place import RecipeError

if TYPE_CHECKING:
    from pretrain.stages import Stage


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
    retry_failed: bool = False
    refresh: bool = False


def arguments(options: Options) -> list[str]:
    """What `tamis` is given to run this from any folder: `run RECIPE --store ...`, but for the address."""
    found = ["run", str(options.recipe.absolute()), "--store", str(options.store.absolute())]
    for link in options.links:
        found += ["--links", str(link.absolute())]
    if options.columns:
        found += ["--columns", options.columns]
    for network in options.allow_net:
        found += ["--allow-net", network]
    if options.retry_failed:
        found.append("--retry-failed")
    if options.refresh:
        found.append("--refresh")
    return found


def load(options: Options) -> Recipe:
    """The recipe with the command line's sources, columns and networks. Raises RecipeError, or AddressError."""
    recipe = load_recipe(options.recipe, lambda recipe: _with_source(recipe, options))
    if not options.address.startswith(("http://", "https://")):
        make_workers(options.address)  # names an unknown address; nothing starts before the first task
    for index, each in enumerate(recipe.all_rounds()):
        if each.train is not None:
            _check_training(
                each, f"{options.recipe}: rounds[{index}].train" if recipe.rounds else f"{options.recipe}: train"
            )
    return with_networks(recipe, options.allow_net)


def _check_extra(recipe: Recipe, columns: Columns) -> None:
    """Raises RecipeError where a column of the links has the name of one that a signal writes."""
    signals = recipe.signals_until(len(recipe.all_rounds()) - 1)
    written = {name.lower() for signal in signals for name in signal.writes().names}
    for name in columns.extra:
        if name.lower() in written:
            raise RecipeError(f"--columns: extra={name}: a signal of the recipe writes {name!r}: rename the column")


def _check_training(each: Round, where: str) -> None:
    """Raises RecipeError where the round's training config is wrong, or asks for evaluation sets that its policy does
    not keep out. where: file and field, for messages."""
    from pretrain.config import ConfigError
    from pretrain.preflight import check_parts
    from pretrain.stages import stages_of

    is_checked = any(isinstance(item, Decontaminate) for item in each.policy)
    try:
        for stage in stages_of(each.train or {}, where):
            if stage.config.decontamination == "required" and not is_checked:
                raise ConfigError(
                    f"{where}: the policy has no `decontaminate`, so evaluation sets may be trained on; "
                    "add it with the sets that you evaluate on, or say `decontamination: waived` here"
                )
            # parts that do not fit together are found when they are put together: now, not after the curation
            check_parts(stage.config)
    except ConfigError as error:
        raise RecipeError(str(error)) from error
    except ValueError as error:
        raise RecipeError(f"{where}: {error}") from error


def with_networks(recipe: Recipe, networks: tuple[str, ...]) -> Recipe:
    """The recipe with networks that may be fetched from besides its own. Raises RecipeError."""
    if not networks:
        return recipe
    fetch = recipe.download.fetch
    allowed = tuple(dict.fromkeys([*fetch.allow_networks, *networks]))
    try:
        fetch = type(fetch).model_validate({**fetch.model_dump(), "allow_networks": allowed})
    except ValidationError as error:
        raise RecipeError(f"--allow-net: {error.errors()[0]['msg']}") from error
    return recipe.changed(download=recipe.download.changed(fetch=fetch))


def _with_source(recipe: Recipe, options: Options) -> Recipe:
    """The recipe with the command line's link tables and columns. Raises RecipeError."""
    source = recipe.source
    if options.columns:
        source = source.changed(columns=with_columns(source.columns, options.columns))
        _check_extra(recipe, source.columns)
    return recipe.changed(source=source.changed(links=[path.absolute() for path in options.links] or source.links))


def with_columns(columns: Columns, text: str) -> Columns:
    """`columns` with what the command line says of them. Raises RecipeError."""
    try:
        return columns.changed(**parse_columns(text))
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise RecipeError(f"--columns {text!r}: {said}") from error


_COLUMN_NAMES = ("url", "text", "language", "hash", "extra", "picture", "sha256", "md5")


def parse_columns(text: str) -> dict[str, Any]:
    """`url=URL,text=TITLE,text=ALT,language=LANG,extra=split` as the fields of `Columns`; raises RecipeError."""
    fields: dict[str, Any] = {}
    for pair in text.split(","):
        name, equals, column = pair.partition("=")
        if not equals or not column or name.strip() not in _COLUMN_NAMES:
            raise RecipeError(
                f"--columns: {pair!r} is not NAME=COLUMN; valid names: {', '.join(_COLUMN_NAMES[:6])} "
                "(text and extra may be given several times)"
            )
        if name.strip() in ("text", "extra"):
            fields.setdefault(name.strip(), []).append(column.strip())
        elif name.strip() in fields:
            raise RecipeError(f"--columns: {name.strip()} is given twice; only text and extra may be")
        else:
            fields[name.strip()] = column.strip()
    return fields


@contextmanager
def running(options: Options, say: Report) -> Iterator[Run]:
    """A run with its store held, its workers ready and its record written at the end, whatever the end.

    Raises Outage at the end where (nearly) no link was reached.
    """
    recipe = load(options)
    store = Store.create(options.store)
    check_sets(recipe, store)
    started = time.time()
    with store.locked():
        run = Run(
            recipe,
            store,
            make_workers(options.address),
            store.state(),
            say=say,
            retry_failed=options.retry_failed,
            refresh=options.refresh,
        )
        outcome = "failed"
        try:
            yield run
            outage.end(run)
            outcome = "complete"
        except outage.Outage:
            outcome = "outage"
            raise
        finally:
            run.workers.close()
            again = replace(options, retry_failed=False, refresh=False)
            # what failed is to be said, not that the disk which it filled takes no record of it either
            with suppress(OSError) if outcome == "failed" else nullcontext():
                record(run, started, outcome, shlex.join(["tamis", *arguments(again)]))


def steps(run: Run, address: str) -> list[Step]:
    """The steps of the main job in order. A round that trains makes its model known to the rounds after it."""
    found: list[Step] = []
    calls = stage_calls(run)
    for index, each in enumerate(run.recipe.all_rounds()):
        found += [Step(call.label, partial(run_stage, run, call)) for call in calls if call.round_index == index]
        if each.train is not None:
            suffix = "" if index == 0 else f" ({each.name})"
            found.append(Step(f"train{suffix}", partial(_train, run, each, f"train{suffix}", address)))
            found.append(Step(f"evaluate{suffix}", partial(_evaluate, run, each, f"evaluate{suffix}")))
    return [*found, Step("audit", partial(_audit, run))]


def perform(options: Options, say: Report) -> None:
    """Do the main job here, without Prefect, and print the funnel at its end. Raises Outage if nothing was reached."""
    with running(options, say) as run:
        for step in steps(run, options.address):
            step.work()
        say(closing(run))


def closing(run: Run) -> str:
    """What the run did and kept: the funnel, in plain text, and how much was reused."""
    con = open_store(run.store, run.state)
    funnel, failed = report_rows(con, "funnel"), failures(con, 5)
    width = max(len(str(row["step"])) for row in funnel)
    lines = ["", f"{'':{width}}  texts lost   texts left  samples left"]
    lines += [
        f"{row['step']:{width}}  {row['texts_lost']:>10,}   {row['texts_left']:>10,}  {row['samples_left']:>12,}"
        for row in funnel
    ]
    if failed:
        reasons = ", ".join(f"{row['reason']} {row['media']:,}" for row in failed)
        lines += ["", f"not downloaded, the most frequent reasons: {reasons}"]
    done = sum(stage.get("parts_run") or 0 for stage in run.stages)
    reused = sum(stage.get("parts_reused") or 0 for stage in run.stages)
    versions = ", ".join(run.state.versions[-len(run.recipe.all_rounds()) :])
    return "\n".join([*lines, "", f"parts made: {done:,}, reused: {reused:,}; dataset versions: {versions or 'none'}"])


def _train(run: Run, each: Round, label: str, address: str) -> dict[str, Any]:
    """Train on the version that the round packed, and tell later rounds where the model lies."""
    from pretrain.stages import train_stages

    def work() -> dict[str, Any]:
        if not run.state.versions:
            raise RecipeError(f"round {each.name!r} kept nothing, so there is nothing to train on: loosen its policy")
        run.workers.close()  # training needs the processors that idle workers would hold
        stages = _stages(run, each)
        try:
            result = train_stages(stages, run.store.root, None if address == "serial" else address, run.say)[-1]
        except FloatingPointError as error:
            raise RecipeError(f"training of round {each.name!r}: {error}") from error
        run.trained[each.name] = result.folder
        run.recipe = run.recipe.with_model(each.name, str(result.folder))
        return {"model": result.folder.name, "steps": result.num_steps, "parts_run": int(not result.reused),
                "parts_reused": int(result.reused)}  # fmt: skip

    return noted(run, "train", label, work)


def _evaluate(run: Run, each: Round, label: str) -> dict[str, Any]:
    """Evaluate the round's model on held-out pictures and languages of the version that it was trained on."""
    from pretrain.checked import EvaluationError
    from pretrain.evaluate import evaluate

    def work() -> dict[str, Any]:
        try:
            rows = evaluate(run.trained[each.name], run.store.root, progress=lambda line: run.say(f"  {line}"))
        except EvaluationError as error:
            raise RecipeError(f"evaluation of {run.trained[each.name]}: {error}") from error
        run.say(figures(rows))
        return {"suites": len({row["suite"] for row in rows})}

    return noted(run, "evaluate", label, work)


def _stages(run: Run, each: Round) -> list[Stage]:
    """The stages of the round's training config, on the version packed last."""
    from pretrain.stages import stages_of

    return stages_of(
        {"name": f"{run.recipe.name}-{each.name}", **(each.train or {}), "version": run.state.versions[-1]}
    )


def _audit(run: Run) -> dict[str, Any]:
    audit(run)
    return {}
