"""Download: fetch each link through the guarded fetcher and look at the bytes in a limited child.

Every link becomes one row of `media`, whatever became of it: `status` ok, failed or refused, and a reason code.
"""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.reasons import DECODER_DEATHS
from curation.step import digest
from curation.table import Part, find_part, open_part, read_part
from pipelines.behind import give_memory_back
from pipelines.download_options import Download
from pipelines.draft import Draft
from pipelines.fetch_parts import OpenPart, fetch_parts
from pipelines.media_row import quarantine
from pipelines.stage import Run, Wanted, run_parts
from pipelines.store import PoolPart
from pipelines.workers import Task

VERSION = 6
"""Of the rules that decide a row's status and the bytes that are stored."""
MAX_TASK_ROWS = 100_000
"""Rows of the parts that one task makes. Its hosts that hang leave the worker idle once for each task, not for each
part; more would make for workers that end long after the others."""


def download_key(settings: Download, modality: str = "image", has_pictures: bool = False) -> str:
    """Key of the step: every limit that may decide whether a link is accepted. has_pictures: beside sounds."""
    of_image = dataclasses.asdict(settings.decode), settings.image
    of_av = modality, dataclasses.asdict(settings.av)
    limits = of_image if modality == "image" else (*of_av, *(of_image if has_pictures else ()))
    return digest("download", VERSION, settings.fetch, *limits, settings.engine)


def wanted_parts(run: Run) -> list[Wanted]:
    """One wanted part of `media` for each part of the pool: where rows were tried again, refreshed or taken down later,
    the newest one."""
    source = run.recipe.source
    step = download_key(run.recipe.download, source.modality, source.columns.picture is not None)
    folder = run.store.table("media")
    wanted = []
    for each in run.store.pool():
        key = digest(step, each.links.identity)
        while (part := find_part(folder, each.index, key)) is not None:
            keys = (retry_key(part), refresh_key(part), takedown_key(part))
            later = [k for k in keys if find_part(folder, each.index, k) is not None]
            if not later:
                break
            key = later[0]
        wanted.append(_wanted(run, each, key))
    return wanted


def retry_key(part: Part) -> str:
    """Key of the part that takes the place of `part` once its transient failures have been tried again."""
    return digest("retry", part.key, part.identity)


def refresh_key(part: Part) -> str:
    """Key of the part that takes the place of `part` once a refresh has found other bytes."""
    return digest("refresh", part.key, part.identity)


def takedown_key(part: Part) -> str:
    """Key of the part that takes the place of `part` once some of its media have been taken down."""
    return digest("takedown", part.key, part.identity)


def _wanted(run: Run, each: PoolPart, key: str) -> Wanted:
    return Wanted(run.store.table("media"), each.index, key, _task(run, [(each.index, key, each.links.path)]))


def fatal_bytes(parts: Iterable[Part]) -> dict[str, tuple[str, str | None]]:
    """SHA-256 of the bytes of which decoders died twice while these parts were made -> reason and detail of their rows.

    A copy of them gets the same, untried: so a run that goes on ends as one that was not disturbed.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for part in parts:
        if not DECODER_DEATHS.isdisjoint(part.stats["reasons"]):
            rows = read_part(part.path, ["sha256", "reason", "detail"]).to_pylist()
            dead = [row for row in rows if row["reason"] in DECODER_DEATHS and row["sha256"] is not None]
            found |= {row["sha256"]: (row["reason"], row["detail"]) for row in dead}
    return found


def _task(
    run: Run, parts: Sequence[tuple[int, str, Path]], fatal: Mapping[str, tuple[str, str | None]] | None = None
) -> Task:
    """The task that makes the parts: number, key and the part of links."""
    arguments = {
        "parts": parts,
        "folder": run.store.table("media"),
        "settings": run.recipe.download,
        "num_workers": run.workers.count,
        "run_id": run.id,
        "fatal": dict(fatal or {}),
    }
    last = f" to {parts[-1][0]}" if len(parts) > 1 else ""
    return Task(f"download of part {parts[0][0]}{last}", download_parts, arguments)


def download_tasks(run: Run) -> list[Wanted]:
    """The wanted parts, those that are missing with tasks that make several of them."""
    wanted = wanted_parts(run)
    missing = [each for each in wanted if find_part(each.folder, each.index, each.key) is None]
    for_each_worker = -(-len(missing) // max(1, run.workers.count))
    size = max(1, min(for_each_worker, MAX_TASK_ROWS // run.recipe.samples_per_part))
    made = [find_part(each.folder, each.index, each.key) for each in wanted] if missing else []
    fatal = fatal_bytes(part for part in made if part is not None)
    tasks: dict[int, Task] = {}
    for start in range(0, len(missing), size):
        group = missing[start : start + size]
        task = _task(run, [part for each in group for part in each.task.arguments["parts"]], fatal)
        tasks |= {each.index: task for each in group}
    return [dataclasses.replace(each, task=tasks.get(each.index, each.task)) for each in wanted]


def download(run: Run) -> dict[str, Any]:
    """Fetch every part of the pool that has not been fetched with these limits."""
    parts, stats = run_parts(run, "download", download_tasks(run))
    run.state.tables["media"] = [run.store.relative(part.path) for part in parts]
    for of_segments in ("sources", "texts"):  # until `segment` has cut these parts and `enrich` written about them
        run.state.tables.pop(of_segments, None)
    outcome: Counter[str] = Counter()
    for part in parts:
        outcome.update(part.stats["status"])
    return {**stats, "media": sum(part.num_rows for part in parts), **outcome}


def media_parts(run: Run) -> list[Part]:
    """The parts of `media` as the state has them, by number."""
    return [open_part(path) for path in run.store.files(run.state, "media")]


def download_parts(
    parts: Sequence[tuple[int, str, Path]],
    folder: Path,
    settings: Download,
    num_workers: int,
    run_id: str,
    fatal: Mapping[str, tuple[str, str | None]],
) -> dict[str, Any]:
    """Fetch the links of some parts and publish each part of `media` as its last row ends. Runs in a worker.

    parts: number, key and the part of links of each. fatal: see `fatal_bytes`.
    """
    if fatal:
        quarantine(settings, fatal)
    done = {"rows": 0, "fetched_bytes": 0}
    lock = threading.Lock()  # a part may end in the fetching thread or in the one behind it

    def opened() -> Iterator[OpenPart]:
        for index, key, path in parts:
            if find_part(folder, index, key) is None:  # else: made by an attempt that then failed at a later part
                yield _open(index, key, path)

    def _open(index: int, key: str, path: Path) -> OpenPart:
        links = read_part(path).to_pylist()
        draft = Draft(folder, len(links))

        def end() -> None:
            with lock:
                done["fetched_bytes"] += draft.num_bytes
                done["rows"] += draft.publish(index, key).num_rows
            give_memory_back()

        return OpenPart(index, links, draft.put, end, takes_held=True)

    fetch_parts(opened(), settings, num_workers, run_id, folder)
    return done
