"""`tamis run --refresh`: every picture that is there is asked for again, with what its server said of it last time.

304, or the same bytes again: the row stays as it is. Other bytes, or an answer that will last (gone, refused by an
opt-out): the new row takes its place, with the digest of the bytes that were there before; so a source that withdraws a
picture is heard. A failure that may pass changes nothing, nor does a name that does not exist: so says a resolver in an
outage, too. Rows that differ make a successor of their part (`pipelines.successors`).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from curation.table import open_part, read_part
from pipelines.download import refresh_key
from pipelines.download_options import Download
from pipelines.draft import Draft
from pipelines.fetch_parts import OpenPart, fetch_parts
from pipelines.fetched import Validators
from pipelines.media_folder import FILE
from pipelines.media_row import UNCHANGED
from pipelines.outage import is_unreached
from pipelines.retry_failed import download_and_retry
from pipelines.stage import Run
from pipelines.successors import links_again, newest_parts, replace_parts, with_replaced

KNOWN = ["url", "status", "final_url", "etag", "last_modified", "sha256"]
COUNTS = ("rows_refreshed", "rows_unchanged", "rows_changed", "rows_lost", "rows_not_reached", "parts_refreshed")


def download_stage(run: Run) -> dict[str, Any]:
    """Download what is not there; where the run asks for it, first refresh what is."""
    if not run.refresh:
        return download_and_retry(run)
    parts = [part for part in newest_parts(run) if part.stats["status"].get("ok")]
    counts = replace_parts(run, "refresh", parts, refresh_part, COUNTS)
    return with_replaced(download_and_retry(run), counts, counts["parts_refreshed"])


def refresh_part(before: Path, links: Path, settings: Download, num_workers: int, run_id: str) -> dict[str, int]:
    """Ask for the pictures of the part `before` again; publish its successor if any is another one now."""
    part, known = open_part(before), read_part(before, KNOWN).to_pylist()
    # what lies in a folder is not on the web: a file that changed is another sample (`pipelines.media_folder`)
    again = [i for i, row in enumerate(known) if row["status"] == "ok" and not row["url"].startswith(FILE)]
    wanted = links_again(before, links, again)
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
    return "rows_not_reached" if is_unreached(row["reason"]) else "rows_lost"
