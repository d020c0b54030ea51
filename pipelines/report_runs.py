"""The report's last sections: trained models with their evaluations, the runs, the commands that make it again."""

from __future__ import annotations

import json
import math
import shlex
from pathlib import Path
from typing import Any

from curation.table import read_part
from pipelines import database, report_charts
from pipelines.database import Connection
from pipelines.store import Store, read_json

Rows = list[dict[str, Any]]
RUNS = 10
SHOWN_METRICS = ("recall_at_1", "recall_at_5", "recall_at_10", "median_rank")
LANGUAGE_METRIC = "recall_at_5"
"""The figure that is shown for each language."""


def models(store: Store) -> Rows:
    """Each finished model: its facts, its loss curve, its evaluations."""
    found = []
    for path in sorted((store.root / "models").glob("*/result.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        evaluations = [_evaluation(each) for each in sorted(path.parent.glob("evaluation-*.parquet"))]
        found.append({"name": path.parent.name, **_curve(path.parent), "result": result, "evaluations": evaluations})
    return found


def _curve(folder: Path) -> dict[str, Any]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    metrics = [json.loads(line) for line in lines]
    points = [(float(each["step"]), float(each["loss"])) for each in metrics if math.isfinite(each["loss"])]
    if len(points) < 2:
        return {"chart": None, "first_loss": None, "last_loss": None}
    return {"chart": report_charts.losses(points), "first_loss": points[0][1], "last_loss": points[-1][1]}


def _evaluation(path: Path) -> dict[str, Any]:
    """The suites of one evaluation: figures of the whole suite beside chance, and one figure for each language."""
    suites: dict[tuple[str, str], dict[str, Any]] = {}
    for row in read_part(path).to_pylist():
        if row["metric"] not in SHOWN_METRICS:
            continue
        key = (row["suite"], row["direction"])
        suite = suites.setdefault(key, {"suite": key[0], "direction": key[1], "figures": [], "languages": []})
        if row["language"] is None:
            suite["figures"].append(row)
        elif row["metric"] == LANGUAGE_METRIC:
            suite["languages"].append(row)
    for suite in suites.values():
        recalls = [each for each in suite["figures"] if each["metric"].startswith("recall")]
        highest = max((each["hi"] for each in recalls), default=1.0)
        # a scale that ends at a round tenth: small figures stay readable, and the end is named beside the bars
        suite["scale"] = min(1.0, max(0.1, math.ceil(highest * 10) / 10))
        suite["languages"].sort(key=lambda each: (-each["value"], each["language"]))
    return {"name": path.stem, "suites": list(suites.values())}


def runs(con: Connection) -> Rows:
    """The last runs, newest first: when, how long, outcome, parts made and reused, and each stage of them."""
    rows = database.rows(
        con,
        "select run, started_at, recipe, outcome, seconds, coalesce(sum(parts_run), 0)::bigint as made, "
        "coalesce(sum(parts_reused), 0)::bigint as reused from runs group by all order by run desc limit $most",
        {"most": RUNS},
    )
    for row in rows[:1]:
        stages = database.rows(
            con,
            "select stage, round, stage_seconds, parts_run, parts_reused, counts from runs "
            "where run = $run and stage is not null",
            {"run": row["run"]},
        )
        longest = max((stage["stage_seconds"] for stage in stages), default=0) or 1
        for stage in stages:
            stage["share"] = stage["stage_seconds"] / longest
            counts = {name: n for name, n in json.loads(stage["counts"]).items() if not name.startswith("parts_")}
            stage["counts"] = {name: n for name, n in counts.items() if isinstance(n, int | float | str)}
        row["stages"] = stages
    return rows


def commands(store: Store) -> list[tuple[str, str]]:
    """What to type to make this again, to check it and to ask it more: (command, what it does)."""
    root = shlex.quote(str(store.root))
    records = (read_json(path, "stages") for path in sorted((store.root / "runs").glob("*.json"), reverse=True))
    run = next((record["command"] for record in records if record.get("command")), f"tamis run RECIPE --store {root}")
    return [
        (
            run,
            "the last run again: whatever is there is reused, a changed threshold runs select and pack only",
        ),
        (f"tamis verify {root}", "check every part and shard against its checksums, and the accounts"),
        (f"tamis why {root} UID", "one sample's whole story; the uids stand below the pictures"),
        (f"tamis sql {root} --list", "the stored queries and the views"),
        (f"tamis sql {root} 'select * from ledger' -o ledger.parquet", "every text of the pool and what became of it"),
    ]
