"""Versions made of a version: shards that are the same file under another name, and what a manifest says of a shard."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from curation.file_digest import file_digest
from curation.table import Part
from pipelines.byte_index import write_index


def link(old: Path, new: Path) -> None:
    """The same file under another name; nothing where it is not there, or the other name is."""
    if not old.exists():
        return  # an index, which the next run makes again
    new.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.link(old, new)


def shard_entry(folder: Path, part: Part, before: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of a shard. before: what it said of the shard that this one is made of."""
    found = {
        "name": part.path.name,
        "num_samples": part.num_rows,
        "num_texts": part.stats["num_texts"],
        "size_bytes": part.path.stat().st_size,
        "sha256": file_digest(part.path),
        "ranges": write_index(folder, part),
    }
    more = {name: write_index(folder, part, name) for name in before.get("media_ranges", {})}
    return {**found, **({"media_ranges": more} if more else {})}
