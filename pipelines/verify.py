"""Verify: every byte of a store against its checksums, and every audit."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.run import audit_store
from pipelines.sources import file_digest
from pipelines.stage import Report
from pipelines.store import Store
from pipelines.views import open_store


def verify_store(store: Store, say: Report) -> list[str]:
    """One line for each damaged or missing file and each audit that returns rows; empty for a healthy store."""
    problems: list[str] = []
    state = store.state()
    files = {path for table in state.tables for path in store.files(state, table)}
    try:
        files |= {path for each in store.pool() for path in (each.links.path, each.texts.path)}
    except (pa.ArrowException, OSError, ValueError) as error:
        problems.append(f"pool: {error}")
    for path in sorted(files):
        problems += _check_part(path)
    say(f"parts: {len(files)} read, {len(problems)} damaged")
    shards = 0
    for manifest_path in sorted((store.root / "versions").glob("*/manifest.json")):
        for shard in json.loads(manifest_path.read_text())["shards"]:
            shards += 1
            path = manifest_path.parent / shard["name"]
            if not path.is_file():
                problems.append(f"{store.relative(path)}: is missing")
            elif file_digest(path) != shard["sha256"]:
                problems.append(f"{store.relative(path)}: its SHA-256 is not the manifest's")
    say(f"versions: {shards} shards compared with their manifests")
    if not problems:
        problems += audit_store(open_store(store, state))
        say("audits: done")
    return problems


def _check_part(path: Path) -> list[str]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError) as error:
        return [f"{path}: {str(error).splitlines()[0]}"]
    return []
