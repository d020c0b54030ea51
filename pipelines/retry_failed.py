"""Trying again, alone, the links whose failure may have passed: DNS, connections, 429, 5xx, timeouts, open circuits.

What a part of `media` holds never changes. Rows that end differently this time make a part of their own, with the other
rows carried over as they are, and its key comes from the part that it follows: later runs take the newest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curation.reasons import Reason, ReasonClass, reason_class
from curation.table import Part, find_part, open_part, read_part
from pipelines.download import download, retry_key, wanted_parts
from pipelines.download_options import Download
from pipelines.draft import Draft
from pipelines.fetch_parts import OpenPart, fetch_parts
from pipelines.stage import Run
from pipelines.workers import Task


def is_worth_retrying(reason: str | None) -> bool:
    """Whether a row that ended so may end otherwise next time."""
    return reason is not None and reason_class(reason) is ReasonClass.TRANSIENT


def download_and_retry(run: Run) -> dict[str, Any]:
    """Download what is not there; where the run asks for it, try the transient failures of earlier runs again."""
    if not run.retry_failed:
        return download(run)
    earlier = [find_part(each.folder, each.index, each.key) for each in wanted_parts(run)]
    failed = [part for part in earlier if part is not None and any(map(is_worth_retrying, part.stats["reasons"]))]
    links = {each.index: each.links.path for each in run.store.pool()}
    tasks = [
        Task(f"retry of part {part.index}", retry_part, _arguments(run, part, links[part.index])) for part in failed
    ]
    counts = {"rows_retried": 0, "rows_changed": 0, "parts_retried": 0}
    for _, result in run.workers.run(tasks):
        for name in counts:
            counts[name] += result[name]
    done = download(run)
    made = counts["parts_retried"]
    return {**done, **counts, "parts_run": done["parts_run"] + made, "parts_reused": done["parts_reused"] - made}


def _arguments(run: Run, part: Part, links: Path) -> dict[str, Any]:
    return {
        "before": part.path,
        "links": links,
        "settings": run.recipe.download,
        "num_workers": run.workers.count,
        "run_id": run.id,
    }


def retry_part(before: Path, links: Path, settings: Download, num_workers: int, run_id: str) -> dict[str, int]:
    """Fetch the transient failures of the part `before` again; publish its successor if any ended differently."""
    part = open_part(before)
    reasons = read_part(before, ["reason"]).column(0).to_pylist()
    again = [i for i, reason in enumerate(reasons) if is_worth_retrying(reason)]
    wanted = read_part(links).take(again).to_pylist()
    uids = read_part(before, ["media_uid"]).take(again).column(0).to_pylist()
    if uids != [link["media_uid"] for link in wanted]:
        raise ValueError(f"{before} and {links} do not hold the same media in the same order")
    changed: list[int] = []
    with Draft(before.parent, len(reasons)) as draft:

        def put(position: int, row: dict[str, Any]) -> None:
            i = again[position]
            if row["reason"] == Reason.NET_HOST_CIRCUIT_OPEN:
                return  # its turn did not come: it has nothing new to say
            draft.put(i, row)
            if row["reason"] != reasons[i]:
                changed.append(i)

        fetched = OpenPart(part.index, wanted, put, lambda: None, failed_before=True)
        fetch_parts(iter([fetched]), settings, num_workers, run_id, before.parent)
        if changed:
            draft.put_others_of(before)
            draft.publish(part.index, retry_key(part))
    return {"rows_retried": len(again), "rows_changed": len(changed), "parts_retried": int(bool(changed))}
