"""Verify: every byte of a store against its checksums, and every audit."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.file_digest import file_digest
from curation.table import open_part, part_path
from pipelines import database
from pipelines.byte_index import index_fault
from pipelines.decontamination_record import check_removed
from pipelines.evaluation_sets import damaged_sets
from pipelines.pack import NAME_DIGITS
from pipelines.run import audit_store
from pipelines.selections import selections
from pipelines.stage import Report
from pipelines.store import State, Store, StoreError
from pipelines.takedown import still_there
from pipelines.views import open_store


def verify_store(store: Store, say: Report) -> list[str]:
    """One line for each damaged or missing file and each audit that returns rows; empty for a healthy store."""
    problems: list[str] = []
    state = store.state()
    files = {path for table in state.tables for path in store.files(state, table)}
    try:
        files |= {path for each in selections(store) for path in each.files(store, "decisions")}
    except StoreError as error:
        problems.append(str(error))
    try:
        files |= {path for each in store.pool() for path in (each.links.path, each.texts.path)}
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.append(f"pool: {error}")
    for path in sorted(files):
        problems += _check_part(path)
    say(f"parts: {len(files)} read, {len(problems)} damaged")
    problems += _versions(store, say)
    problems += damaged_sets(store)
    return problems or still_there(store) + _audits(store, state, files, say)


def _versions(store: Store, say: Report) -> list[str]:
    """What is wrong with the versions and their manifests."""
    problems: list[str] = []
    shards = 0
    for path in sorted((store.root / "versions").glob("*/manifest.json")):
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            problems += _check_version(store, path.parent, manifest)
            shards += len(manifest["shards"])
        except (ValueError, KeyError, TypeError) as error:
            problems.append(f"{store.relative(path)}: is damaged: {type(error).__name__}: {error}")
    say(f"versions: {shards} shards compared with their manifests")
    return problems


def _audits(store: Store, state: State, files: Iterable[Path], say: Report) -> list[str]:
    """What the audits find in a store whose `files` are whole; decisions that are about other texts are left out."""
    if _decided_before(store, state):
        if len(state.tables.get("media", [])) < len(store.pool()):
            say("audits: not done, for links were taken in that no run has fetched yet: `tamis run` goes on")
            return []
        say("decisions: made about other texts than there are now (a run ended before `select`, or a gate closed)")
        state = replace(state, tables={name: names for name, names in state.tables.items() if name != "decisions"})
    try:
        problems = audit_store(open_store(store, state))
    except database.SqlError as error:
        return _refused(files) or [f"audits: {str(error).splitlines()[0]}"]
    say("audits: done")
    return problems


def _decided_before(store: Store, state: State) -> bool:
    """Whether the present decisions were made before texts came or went."""
    present = next((each for each in selections(store) if each.name == state.selection), None)
    now = [store.relative(path) for path in store.texts_files(state)]
    return present is not None and present.tables.get("texts") != now


def _refused(files: Iterable[Path]) -> list[str]:
    """Parts that pyarrow reads and DuckDB does not: no checksum guards the header of a page."""
    problems, con = [], database.connect()
    for path in sorted(files):
        try:
            database.create_view(con, "part", [path])
            for _ in database.batches(con, "select * from part", 10_000):
                pass
        except database.SqlError as error:
            problems.append(f"{path}: DuckDB cannot read it: {str(error).splitlines()[0]}")
        con.execute("drop view if exists part")
    return problems


def _check_part(path: Path) -> list[str]:
    try:
        part = open_part(path)
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        return [f"{path}: {str(error).splitlines()[0]}"]
    if part_path(path.parent, part.index, part.key) != path:
        return [f"{path}: its name is not that of its key"]
    return []


def _check_version(store: Store, folder: Path, manifest: dict[str, Any]) -> list[str]:
    """Shards against the manifest, and the manifest's own counts and name against its shards."""
    problems, rows, texts = [], 0, 0
    for shard in manifest["shards"]:
        path = folder / shard["name"]
        if not path.is_file():
            problems.append(f"{store.relative(path)}: is missing")
        elif file_digest(path) != shard["sha256"] or path.stat().st_size != shard["size_bytes"]:
            problems.append(f"{store.relative(path)}: its SHA-256 or size is not the manifest's")
        else:
            part = open_part(path)
            rows, texts = rows + part.num_rows, texts + int(part.stats["num_texts"])
            if (part.num_rows, part.stats["num_texts"]) != (shard["num_samples"], shard["num_texts"]):
                problems.append(f"{store.relative(path)}: holds other counts than the manifest says")
            indexes = {"image": shard["ranges"]} if "ranges" in shard else {}  # older versions have none
            for column, name in {**indexes, **shard.get("media_ranges", {})}.items():
                if (fault := index_fault(folder / name, path, column)) is not None:
                    problems.append(f"{store.relative(folder / name)}: {fault}")
    problems += [
        f"{store.relative(folder)}: table of removed texts: {each}" for each in check_removed(folder, manifest)
    ]
    name = f"{folder.name.rpartition('-')[0]}-{manifest['digest'][:NAME_DIGITS]}"
    if manifest["name"] != folder.name or name != folder.name:
        problems.append(f"{store.relative(folder)}: its manifest is that of another version")
    if not problems and (manifest["num_samples"], manifest["num_texts"]) != (rows, texts):
        problems.append(f"{store.relative(folder)}: its manifest counts other samples or texts than its shards hold")
    return problems
