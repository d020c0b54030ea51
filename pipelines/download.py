"""Download: fetch each link of a part through the guarded fetcher and look at the bytes in a limited child.

Every link becomes one row of `media`, whatever became of it: `status` ok, failed or refused, and a reason code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.media.decode import DecodeLimits, Decoder
from curation.media.image_output import ImageOutput
from curation.reasons import Reason
from curation.schema import MEDIA, OUTCOME
from curation.step import digest
from curation.table import Part, find_part, open_part, read_part, write_part
from pipelines import img2dataset_engine
from pipelines.behind import Behind, give_memory_back
from pipelines.deny import expected_digest_differs
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched
from pipelines.recipe import Download
from pipelines.stage import Run, Wanted, run_parts
from pipelines.store import PoolPart
from pipelines.workers import Task

VERSION = 2
"""Of the rules in this file that decide a row's status."""
MAX_DETAIL_CHARS = 300


def download_key(settings: Download) -> str:
    """Key of the step: every limit that may decide whether a link is accepted."""
    return digest(
        "download", VERSION, settings.fetch, dataclasses.asdict(settings.decode), settings.image, settings.engine
    )


def wanted_parts(run: Run) -> list[Wanted]:
    """One wanted part of `media` for each part of the pool: where rows were tried again later, the newest one."""
    step, folder = download_key(run.recipe.download), run.store.table("media")
    wanted = []
    for each in run.store.pool():
        key = digest(step, each.links.identity)
        while (part := find_part(folder, each.index, key)) is not None:
            if find_part(folder, each.index, retry_key(part)) is None:
                break
            key = retry_key(part)
        wanted.append(_wanted(run, each, key))
    return wanted


def retry_key(part: Part) -> str:
    """Key of the part that takes the place of `part` once its transient failures have been tried again."""
    return digest("retry", part.key, part.identity)


def _wanted(run: Run, each: PoolPart, key: str) -> Wanted:
    arguments = {
        "links": each.links.path,
        "folder": run.store.table("media"),
        "index": each.index,
        "key": key,
        "settings": run.recipe.download,
        "num_workers": run.workers.count,
        "run_id": run.id,
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
def _fetcher(options: FetchOptions, num_workers: int, _run_id: str, spool: Path) -> Fetcher:
    """This worker's fetcher: what it learns of hosts holds for one run."""
    return Fetcher(options, max(1, num_workers), spool)


@lru_cache(maxsize=4)
def decoder(limits: DecodeLimits, output: ImageOutput | None = None) -> Decoder:
    """This process's decoder child, started at first use."""
    return Decoder(limits, output=output)


def download_part(
    links: Path, folder: Path, index: int, key: str, settings: Download, num_workers: int, run_id: str
) -> dict[str, Any]:
    """Fetch one part's links and publish its part of `media`. Runs in a worker."""
    media = fetched_rows(read_part(links).to_pylist(), settings, num_workers, run_id, folder)
    part = publish(folder, index, key, media)
    give_memory_back()
    return {"rows": part.num_rows, "fetched_bytes": sum(row["size_bytes"] or 0 for row in media)}


def fetched_rows(
    links: list[dict[str, Any]],
    settings: Download,
    num_workers: int,
    run_id: str,
    spool: Path,
    failed_before: bool = False,
) -> list[dict[str, Any]]:
    """A row of `media` for each row of links, in their order. spool: folder for bodies too large for memory."""
    media = [_media_row(row, None, settings) for row in links]
    todo = [i for i, row in enumerate(links) if row["url_canonical"] is not None]
    if settings.engine == "img2dataset":
        found = img2dataset_engine.run_part([links[i] for i in todo], settings)
        for i, columns in zip(todo, found, strict=True):
            media[i] |= {"reason": None, **columns}
        return media
    fetcher = _fetcher(settings.fetch, num_workers, run_id, spool)

    def finish(index: int, fetched: Fetched) -> None:
        media[todo[index]] = _media_row(links[todo[index]], fetched, settings)
        fetched.drop_body()  # what is kept of it stands in the row

    with Behind(finish) as behind:
        fetcher.fetch_many([links[i]["url_canonical"] for i in todo], behind.put, failed_before)
    return media


def publish(folder: Path, index: int, key: str, media: list[dict[str, Any]]) -> Part:
    """Publish rows as a part of `media`, which later steps take for the same if the outcome is the same."""
    table = pa.table({field.name: _column(media, field) for field in MEDIA}, schema=MEDIA)
    return write_part(
        folder,
        index,
        key,
        table,
        identity=digest("outcome", table.select(OUTCOME).to_pylist()),
        stats={
            "status": dict(Counter(row["status"] for row in media)),
            "reasons": dict(Counter(row["reason"] for row in media if row["reason"])),
        },
        plain=["bytes"],
    )


def _column(media: list[dict[str, Any]], field: pa.Field) -> pa.Array:
    """One column of the rows, which give their bytes away: of those there is one copy, where `pa.array` makes three."""
    if field.name != "bytes":
        return pa.array([row[field.name] for row in media], field.type)
    values = [row.pop("bytes") for row in media]
    is_valid = pa.array([value is not None for value in values], pa.bool_()).buffers()[1]
    ends = itertools.accumulate((len(value or b"") for value in values), initial=0)
    offsets = pa.array(ends, pa.int32()).buffers()[1]  # a part of over 2 GB raises here
    joined = b"".join(value or b"" for value in values)
    return pa.Array.from_buffers(field.type, len(values), [is_valid, offsets, pa.py_buffer(joined)])


def _media_row(link: dict[str, Any], fetched: Fetched | None, settings: Download) -> dict[str, Any]:
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
        "consent": fetched.consent,
        "sha256": fetched.sha256,
    }
    if fetched.status == "ok":
        promised = link["expected_hash"]
        differs = None if promised is None else expected_digest_differs(fetched, promised)
        body = fetched.take_body() or b""
        row["size_bytes"] = len(body)
        columns, stored = _looked_at(body, settings)
        row |= columns
        if differs is not None:
            row |= {"status": "failed", "reason": Reason.POLICY_HASH_MISMATCH.value, "detail": f"{differs} differs"}
        if row["status"] == "ok":
            digest_stored = fetched.sha256 if stored is body else hashlib.sha256(stored).hexdigest()
            row |= {"bytes": stored, "size_bytes": len(stored), "stored_sha256": digest_stored}
    if row["detail"]:
        row["detail"] = row["detail"][:MAX_DETAIL_CHARS]
    return row


def _looked_at(body: bytes, settings: Download) -> tuple[dict[str, Any], bytes]:
    """Columns of the picture, and the bytes to store; fully decoded once, so that a truncated picture is found here."""
    seen = decoder(settings.decode, settings.image).convert(body)
    columns: dict[str, Any] = {
        "image_format": seen.out_format or seen.format,
        "width_px": seen.out_width_px or seen.width_px,
        "height_px": seen.out_height_px or seen.height_px,
        "original_width_px": seen.width_px,
        "original_height_px": seen.height_px,
        "num_frames": seen.num_frames,
        "has_alpha": seen.has_alpha,
    }
    if seen.reason is not None:
        columns |= {"status": "failed", "reason": seen.reason, "detail": seen.detail}
    return columns, seen.stored or body
