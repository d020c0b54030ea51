"""What all stages share: the context of a run, and running one task for each part that is not there yet."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.table import Part, find_part
from pipelines.store import State, Store
from pipelines.workers import Task, Workers

if TYPE_CHECKING:
    from pipelines.recipe import Recipe, Round  # workers, who read no recipe, do without its imports

Report = Callable[[str], None]


@dataclass
class Run:
    """One run of a recipe on a store: what every stage is given."""

    recipe: Recipe
    store: Store
    workers: Workers
    state: State
    round_index: int = 0
    say: Report = print
    """Where progress goes, one line at a time."""
    stages: list[dict[str, Any]] = field(default_factory=list)
    """What each stage did: name, round, seconds, parts run and reused, counts."""

    retry_failed: bool = False
    """Whether rows whose failure may have passed (`curation.reasons`, class transient) are tried again."""
    refresh: bool = False
    """Whether pictures that are there are asked for again."""
    outage: str = ""
    """What to say at the end, where (nearly) no link was reached (`pipelines.outage`)."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Tells this run from others in the same processes; no result depends on it."""

    began_s: float = field(default_factory=time.monotonic)
    """When it began, by the clock that is never set back."""
    trained: dict[str, Path] = field(default_factory=dict)
    """Round -> folder of the model that it trained."""

    @property
    def round(self) -> Round:
        return self.recipe.all_rounds()[self.round_index]

    @property
    def label(self) -> str:
        """What the round's decisions and version are called: the recipe's name, with several rounds the round's too."""
        return self.recipe.name if len(self.recipe.all_rounds()) == 1 else f"{self.recipe.name}-{self.round.name}"


@dataclass(frozen=True)
class Wanted:
    """One part that a stage wants: the folder of its table, its number and key, and the task that makes it."""

    folder: Path
    index: int
    key: str
    task: Task


class AccountingError(RuntimeError):
    """The accounts do not close: something was lost, doubled or contradicts itself."""


class Missing(RuntimeError):
    """A task ended without publishing the part that it was for."""


def run_parts(run: Run, what: str, wanted: Iterable[Wanted]) -> tuple[list[Part], dict[str, Any]]:
    """Make the parts that do not exist, reuse the others; returns all of them in order, and counts.

    One task may make several of the wanted parts (signals that share one pass over the media): it is run once.
    """
    wanted = list(wanted)
    missing = [each for each in wanted if find_part(each.folder, each.index, each.key) is None]
    tasks = list({id(each.task): each.task for each in missing}.values())
    started, last_said, rows = time.monotonic(), 0.0, 0
    stats: dict[str, Any] = {}
    for done, (_, result) in enumerate(run.workers.run(tasks) if tasks else (), start=1):
        rows += int(result.get("rows", 0))
        for name, value in result.items():
            if isinstance(value, int | float):
                stats[name] = stats.get(name, 0) + value
        elapsed = time.monotonic() - started
        if elapsed - last_said > 2 or done == len(tasks):
            last_said = elapsed
            rate = f", {rows / elapsed:,.0f} rows/s" if rows and elapsed > 0 else ""
            run.say(f"  {what}: {done} of {len(tasks)} {'parts' if len(tasks) == len(missing) else 'tasks'}{rate}")
    parts = []
    for each in wanted:
        part = find_part(each.folder, each.index, each.key)
        if part is None:
            raise Missing(f"{what}: part {each.index} in {each.folder} is missing after its task ended")
        parts.append(part)
    return parts, {**stats, "parts_run": len(missing), "parts_reused": len(wanted) - len(missing)}
