"""`tamis run --refresh`: every picture that is there is asked for again, with what its server said of it last time.

304, or the same bytes again: the row stays as it is. Other bytes, or an answer that will last (gone, refused by an
opt-out): the new row takes its place, with the digest of the bytes that were there before; so a source that withdraws a
picture is heard. A failure that may pass changes nothing. As with `pipelines.retry_failed`, a part never changes: rows
that differ make its successor, which later runs take.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from curation.reasons import ReasonClass, reason_class
from curation.table import Part, find_part, open_part, read_part
from pipelines.download import refresh_key, wanted_parts
from pipelines.download_options import Download
from pipelines.draft import Draft
from pipelines.fetch_parts import OpenPart, fetch_parts
from pipelines.fetched import Validators
from pipelines.media_row import UNCHANGED
from pipelines.retry_failed import download_and_retry
from pipelines.stage import Run
from pipelines.workers import Task

KNOWN = ["media_uid", "status", "final_url", "etag", "last_modified", "sha256"]
COUNTS = ("rows_refreshed", "rows_unchanged", "rows_changed", "rows_lost", "rows_not_reached", "parts_refreshed")


def download_stage(run: Run) -> dict[str, Any]:
    """Download what is not there; where the run asks for it, first refresh what is."""
    if not run.refresh:
        return download_and_retry(run)
    parts = [find_part(each.folder, each.index, each.key) for each in wanted_parts(run)]
    links = {each.index: each.links.path for each in run.store.pool()}
    tasks = [
        Task(f"refresh of part {part.index}", refresh_part, _arguments(run, part, links[part.index]))
        for part in parts
        if part is not None and part.stats["status"].get("ok")
    ]
    counts = dict.fromkeys(COUNTS, 0)
    for _, result in run.workers.run(tasks):
        for name in counts:
            counts[name] += result.get(name, 0)
    done = download_and_retry(run)
    made = counts["parts_refreshed"]
    return {**done, **counts, "parts_run": done["parts_run"] + made, "parts_reused": done["parts_reused"] - made}


def _arguments(run: Run, part: Part, links: Path) -> dict[str, Any]:
    return {
        "before": part.path,
        "links": links,
        "settings": run.recipe.download,
        "num_workers": run.workers.count,
        "run_id": run.id,
    }


def refresh_part(before: Path, links: Path, settings: Download, num_workers: int, run_id: str) -> dict[str, int]:
    """Ask for the pictures of the part `before` again; publish its successor if any is another one now."""
    part, known = open_part(before), read_part(before, KNOWN).to_pylist()
    again = [i for i, row in enumerate(known) if row["status"] == "ok"]
    wanted = read_part(links).take(again).to_pylist()
    if [known[i]["media_uid"] for i in again] != [link["media_uid"] for link in wanted]:
        raise ValueError(f"{before} and {links} do not hold the same media in the same order")
    counts: Counter[str] = Counter(rows_refreshed=len(again))
    with Draft(before.parent, len(known)) as draft:

        def put(position: int, row: dict[str, Any]) -> None:
            i = again[position]
            became = _became(row, known[i]["sha256"])
            counts[became] += 1
            if became in ("rows_changed", "rows_lost"):
                draft.put(i, row | {"replaced_sha256": known[i]["sha256"]})

        asked = OpenPart(part.index, wanted, put, lambda: None, validators=[_validators(known[i]) for i in again])
        fetch_parts(iter([asked]), settings, num_workers, run_id, before.parent)
        if counts["rows_changed"] or counts["rows_lost"]:
            draft.put_others_of(before)
            draft.publish(part.index, refresh_key(part))
            counts["parts_refreshed"] = 1
    return dict(counts)


def _validators(row: dict[str, Any]) -> Validators | None:
    return Validators(row["final_url"], row["etag"], row["last_modified"]) if row["final_url"] else None


def _became(row: dict[str, Any], sha256: str) -> str:
    if row["status"] == UNCHANGED or (row["status"] == "ok" and row["sha256"] == sha256):
        return "rows_unchanged"
    if row["status"] == "ok":
        return "rows_changed"
    return "rows_not_reached" if reason_class(row["reason"]) is ReasonClass.TRANSIENT else "rows_lost"
