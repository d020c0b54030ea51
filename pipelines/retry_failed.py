"""Trying again, alone, the links whose failure may have passed: DNS, connections, 429, 5xx, timeouts, open circuits.

Where a run asks for it, and after an outage (`pipelines.outage`), also those whose name did not exist.

Rows that end differently this time make a successor of their part (`pipelines.successors`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from curation.reasons import Reason, ReasonClass, reason_class
from curation.table import open_part, read_part
from pipelines.download import download, retry_key
from pipelines.download_options import Download
from pipelines.draft import Draft
from pipelines.fetch_parts import OpenPart, fetch_parts
from pipelines.outage import is_unreached
from pipelines.stage import Run
from pipelines.successors import links_again, newest_parts, replace_parts, with_replaced

COUNTS = ("rows_retried", "rows_changed", "rows_failed_again", "parts_retried")


def is_worth_retrying(reason: str | None) -> bool:
    """Whether a row that ended so may end otherwise next time."""
    return reason is not None and reason_class(reason) is ReasonClass.TRANSIENT


def download_and_retry(run: Run) -> dict[str, Any]:
    """Download what is not there; where the run asks for it, or the last one met an outage, try the failures of earlier
    runs again."""
    if not (run.retry_failed or run.state.outage):
        return download(run)
    may_pass, retry = (is_unreached, retry_after_outage) if run.state.outage else (is_worth_retrying, retry_part)
    failed = [part for part in newest_parts(run) if any(map(may_pass, part.stats["reasons"]))]
    counts = replace_parts(run, "retry", failed, retry, COUNTS)
    return with_replaced(download(run), counts, counts["parts_retried"])


def retry_part(before: Path, links: Path, settings: Download, num_workers: int, run_id: str) -> dict[str, int]:
    """Fetch the transient failures of the part `before` again; publish its successor if any ended differently."""
    return _retry(before, links, settings, num_workers, run_id, is_worth_retrying)


def retry_after_outage(before: Path, links: Path, settings: Download, num_workers: int, run_id: str) -> dict[str, int]:
    """As `retry_part`, with the names that did not exist."""
    return _retry(before, links, settings, num_workers, run_id, is_unreached)


def _retry(
    before: Path,
    links: Path,
    settings: Download,
    num_workers: int,
    run_id: str,
    may_pass: Callable[[str | None], bool],
) -> dict[str, int]:
    part = open_part(before)
    reasons = read_part(before, ["reason"]).column(0).to_pylist()
    again = [i for i, reason in enumerate(reasons) if may_pass(reason)]
    wanted = links_again(before, links, again)
    changed: list[int] = []
    num_failed = 0
    with Draft(before.parent, len(reasons)) as draft:

        def put(position: int, row: dict[str, Any]) -> None:
            nonlocal num_failed
            i = again[position]
            num_failed += may_pass(row["reason"])
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
    done = {"rows_retried": len(again), "rows_changed": len(changed), "rows_failed_again": num_failed}
    return {**done, "parts_retried": int(bool(changed))}
