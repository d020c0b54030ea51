"""Download: fetch each link of a part through the guarded fetcher and look at the bytes in a limited child.

Every link becomes one row of `media`, whatever became of it: `status` ok, failed or refused, and a reason code.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.media.decode import DecodeLimits, Decoder
from curation.reasons import Reason
from curation.schema import MEDIA, OUTCOME
from curation.step import digest
from curation.table import Part, open_part, read_part, write_part
from pipelines.fetch import Fetched, Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.recipe import Download
from pipelines.stage import Run, Wanted, run_parts
from pipelines.store import PoolPart
from pipelines.workers import Task

VERSION = 1
"""Of the rules in this file that decide a row's status."""
MAX_DETAIL_CHARS = 300
NOT_IN_KEY = {"max_connections", "max_connections_per_host"}
"""Options that decide how fast a part is fetched, not what comes of it."""


def download_key(settings: Download) -> str:
    """Key of the step: every limit that may decide whether a link is accepted."""
    fetch = settings.fetch.model_dump(exclude=NOT_IN_KEY)
    return digest("download", VERSION, fetch, dataclasses.asdict(settings.decode))


def wanted_parts(run: Run) -> list[Wanted]:
    """One wanted part of `media` for each part of the pool."""
    step = download_key(run.recipe.download)
    return [_wanted(run, each, digest(step, each.links.identity)) for each in run.store.pool()]


def _wanted(run: Run, each: PoolPart, key: str) -> Wanted:
    arguments = {
        "links": each.links.path,
        "folder": run.store.table("media"),
        "index": each.index,
        "key": key,
        "settings": run.recipe.download,
        "num_workers": run.workers.count,
    }
    return Wanted(
        run.store.table("media"), each.index, key, Task(f"download of part {each.index}", download_part, arguments)
    )


def download(run: Run) -> dict[str, Any]:
    """Fetch every part of the pool that has not been fetched with these limits."""
    parts, stats = run_parts(run, "download", wanted_parts(run))
    run.state.tables["media"] = [run.store.relative(part.path) for part in parts]
    outcome: Counter[str] = Counter()
    for part in parts:
        outcome.update(part.stats["status"])
    return {**stats, "media": sum(part.num_rows for part in parts), **outcome}


def media_parts(run: Run) -> list[Part]:
    """The parts of `media` as the state has them, by number."""
    return [open_part(path) for path in run.store.files(run.state, "media")]


@lru_cache(maxsize=2)
def _fetcher(options: FetchOptions) -> Fetcher:
    return Fetcher(options)


@lru_cache(maxsize=2)
def decoder(limits: DecodeLimits) -> Decoder:
    """This process's decoder child, started at first use."""
    return Decoder(limits)


def download_part(
    links: Path, folder: Path, index: int, key: str, settings: Download, num_workers: int
) -> dict[str, Any]:
    """Fetch one part's links and publish its part of `media`. Runs in a worker."""
    rows = read_part(links).to_pylist()
    # each worker keeps to its share, so that a host sees no more connections however many workers there are
    share = max(1, settings.fetch.max_connections_per_host // max(1, num_workers))
    fetcher = _fetcher(settings.fetch.model_copy(update={"max_connections_per_host": share}))
    todo = [i for i, row in enumerate(rows) if row["url_canonical"] is not None]
    fetched: dict[int, Fetched] = dict(
        zip(todo, fetcher.fetch_many([rows[i]["url_canonical"] for i in todo]), strict=True)
    )
    media = [_media_row(row, fetched.get(i), settings.decode) for i, row in enumerate(rows)]
    table = pa.Table.from_pylist(media, schema=MEDIA)
    status = Counter(row["status"] for row in media)
    reasons = Counter(row["reason"] for row in media if row["reason"])
    part = write_part(
        folder,
        index,
        key,
        table,
        identity=digest("outcome", table.select(OUTCOME).to_pylist()),
        stats={"status": dict(status), "reasons": dict(reasons)},
        plain=["bytes"],
    )
    return {"rows": part.num_rows, "fetched_bytes": sum(row["size_bytes"] or 0 for row in media)}


def _media_row(link: dict[str, Any], fetched: Fetched | None, limits: DecodeLimits) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(MEDIA.names)
    row |= {name: link[name] for name in ("media_uid", "sample_uid", "role", "modality", "url")}
    if fetched is None:
        return row | {"status": "refused", "reason": link["url_reason"]}
    row |= {
        "final_url": fetched.final_url,
        "status": fetched.status,
        "reason": fetched.reason,
        "detail": fetched.detail,
        "http_status": fetched.http_status,
        "content_type": fetched.content_type,
        "sha256": fetched.sha256,
    }
    if fetched.status == "ok" and fetched.body is not None:
        row |= _looked_at(fetched.body, limits)
        row["size_bytes"] = len(fetched.body)
        if link["expected_sha256"] is not None and link["expected_sha256"] != fetched.sha256:
            row |= {"status": "failed", "reason": Reason.POLICY_HASH_MISMATCH.value, "detail": "sha256 differs"}
        row["bytes"] = fetched.body if row["status"] == "ok" else None
    if row["detail"]:
        row["detail"] = row["detail"][:MAX_DETAIL_CHARS]
    return row


def _looked_at(body: bytes, limits: DecodeLimits) -> dict[str, Any]:
    """Format, size and reason of the bytes, fully decoded once so that a truncated picture is found here."""
    seen = decoder(limits).decode(body, pixels=False)
    columns: dict[str, Any] = {
        "image_format": seen.format,
        "width_px": seen.width_px,
        "height_px": seen.height_px,
        "num_frames": seen.num_frames,
        "has_alpha": seen.has_alpha,
    }
    if seen.reason is not None:
        columns |= {"status": "failed", "reason": seen.reason, "detail": seen.detail}
    return columns
