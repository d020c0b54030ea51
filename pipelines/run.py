"""A run: the stages of a recipe in order, what each did, and the audits that must return no rows at its end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from curation.table import replace_text
from pipelines import database, outage
from pipelines.duplicates import find_all
from pipelines.enrich import enrich
from pipelines.ingest import ingest
from pipelines.pack import pack
from pipelines.refresh import download_stage
from pipelines.score import score
from pipelines.segment_stage import segment
from pipelines.select import select
from pipelines.stage import AccountingError, Run
from pipelines.views import open_store

STAGES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "ingest": lambda run: ingest(run.recipe, run.store),
    "download": lambda run: outage.watched(run, download_stage),
    "segment": segment,
    "enrich": enrich,
    "score": score,
    "dedupe": find_all,
    "select": select,
    "pack": pack,
}
"""Every stage under its one name, in order."""
FIRST_ROUND_ONLY = ("ingest", "download", "segment", "enrich")
"""Later rounds begin at `score`: links and media are the same."""
ROWS_SHOWN = 5


@dataclass(frozen=True)
class StageCall:
    """One stage of one round."""

    stage: str
    round_index: int
    round_name: str

    @property
    def label(self) -> str:
        """`select` in the first round, `select (scored)` in a later one."""
        return self.stage if self.round_index == 0 else f"{self.stage} ({self.round_name})"


def stage_calls(run: Run) -> list[StageCall]:
    """What a run does, in order."""
    calls = []
    for index, each in enumerate(run.recipe.all_rounds()):
        names = [name for name in STAGES if index == 0 or name not in FIRST_ROUND_ONLY]
        names = [name for name in names if name != "segment" or run.recipe.segment is not None]
        names = [name for name in names if name != "enrich" or run.recipe.enrich]
        calls += [StageCall(name, index, each.name) for name in names]
    return calls


def run_stage(run: Run, call: StageCall) -> dict[str, Any]:
    """Run one stage, keep its state and note what it did; returns its counts."""
    run.round_index = call.round_index
    counts = noted(run, call.stage, call.label, lambda: STAGES[call.stage](run))
    if call.stage == "download":
        outage.end_where_nothing_is_there(run)
    return counts


def noted(run: Run, stage: str, label: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do `work`, say what it did in one line, note it for the run's record and save the store's state."""
    started = time.monotonic()
    run.say(f"{label} ...")
    counts = work()
    run.state.recipe = run.recipe.name
    run.store.save_state(run.state)
    seconds = time.monotonic() - started
    parts = {name: counts.get(name) for name in ("parts_run", "parts_reused")}
    run.stages.append(
        {"stage": stage, "round": run.round.name, "seconds": round(seconds, 3), **parts, "counts": counts}
    )
    shown = ", ".join(f"{name} {_readable(value)}" for name, value in counts.items() if not isinstance(value, dict))
    run.say(f"{label}: {shown} ({seconds:.1f} s)")
    return counts


def _readable(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def audit(run: Run) -> None:
    """Run every query of sql/audit; raises AccountingError naming those that return rows, with some of the rows."""
    problems = audit_store(open_store(run.store, run.state))
    if problems:
        raise AccountingError("the accounts do not close:\n" + "\n".join(problems))
    run.say(f"audit: {len(database.queries('audit'))} checks, nothing lost, nothing doubled")


def audit_store(con: database.Connection) -> list[str]:
    """One line for each audit that returns rows."""
    problems = []
    for name in database.queries("audit"):
        rows = database.rows(con, f"select * from ({database.query(name)}) limit {ROWS_SHOWN + 1}")
        if rows:
            many = f"more than {ROWS_SHOWN}" if len(rows) > ROWS_SHOWN else str(len(rows))
            problems.append(f"  {name} ({database.headline(name)}) {many} rows, such as {rows[:ROWS_SHOWN]}")
    return problems


def record(run: Run, started: float, outcome: str, command: str | None = None) -> None:
    """Write the run's record: for `tamis status`, the view `runs` and the report; nothing later depends on it.

    command: what makes the same run again, in a shell.
    """
    began = datetime.fromtimestamp(started, UTC)
    name = began.strftime("%Y%m%dT%H%M%S.%fZ")
    content = {
        "run": name,
        "started_at": began.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - run.began_s, 3),
        "recipe": run.recipe.name,
        "outcome": outcome,
        "command": command,
        "stages": run.stages,
    }
    replace_text(run.store.root / "runs" / f"{name}.json", json.dumps(content, indent=1) + "\n")
