"""What a version says of its decontamination: which evaluation sets it was checked against, how, and what fell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.file_digest import file_digest
from curation.rows_digest import json_digest
from curation.step import digest
from curation.table import write_part
from pipelines import database
from pipelines.decontaminate import rules_of
from pipelines.evaluation_sets import open_set
from pipelines.stage import Run
from pipelines.views import open_store

FOLDER = "decontamination"
"""Beside the shards, so that what reads all Parquet files of a version's folder sees shards only."""
MISSING, COMPLETE, INCOMPLETE = "missing", "complete", "incomplete"
"""Status: no rule asked for it; every item of every set was compared; some items could not be read when a set was
registered (`num_failed`). Training asks for `complete` (`manifest["decontamination"]["status"]`)."""


def removed_rows(run: Run) -> pa.Table:
    """Every text that a rule rejected for what an evaluation set holds, whatever else rejects it; and the item."""
    con = open_store(run.store, run.state)
    table = database.arrow(
        con,
        "select text_uid, sample_uid, evaluation_set, evaluation_item, evaluation_match, evaluation_distance, "
        "evaluation_similarity from decisions where evaluation_set is not null order by text_uid",
    )
    con.close()
    return table


def facts(run: Run, removed: pa.Table) -> dict[str, Any]:
    """The entry `decontamination` of the manifest."""
    rules, checked = [], set()
    for rule in rules_of(run):
        sets = [open_set(run.store, name) for name in rule.against]
        checked |= {one.name for one in sets}
        rules.append(
            {
                **rule.model_dump(),
                "against": [
                    {"name": one.name, "digest": one.digest,
                     **{name: one.manifest[name] for name in ("num_pictures", "num_texts", "num_failed")}}
                    for one in sets
                ],
            }
        )  # fmt: skip
    failed = any(one["num_failed"] for rule in rules for one in rule["against"])
    status = MISSING if not rules else INCOMPLETE if failed else COMPLETE
    fell = {name: _counts(removed.filter(pc.equal(removed.column("evaluation_set"), name))) for name in sorted(checked)}
    found = {"status": status, "rules": rules, "removed": fell}
    return {**found, "removed_digest": json_digest(removed)} if removed.num_rows else found


def _counts(rows: pa.Table) -> dict[str, int]:
    return {"texts": rows.num_rows, "samples": pc.count_distinct(rows.column("sample_uid")).as_py()}


def write_removed(folder: Path, removed: pa.Table, found: dict[str, Any]) -> dict[str, Any]:
    """Write the table beside the shards; the manifest's entry with its file, or as it was where nothing fell."""
    if not removed.num_rows:
        return found
    part = write_part(folder / FOLDER, 0, digest("decontamination", found["removed_digest"]), removed)
    return {**found, "file": f"{FOLDER}/{part.path.name}", "sha256": file_digest(part.path)}


def check_removed(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """What is wrong with the table of a version, as lines."""
    found = manifest.get("decontamination") or {}
    if "file" not in found:
        return []
    path = folder / found["file"]
    if not path.is_file():
        return ["is missing"]
    return [] if file_digest(path) == found["sha256"] else ["its SHA-256 is not the manifest's"]
