"""Byte index: for each shard of a version, where each sample's picture (sound, film) lies, in a small table beside it.

With it a random row is one ranged read (`pretrain.rows`), and the shards stay ordinary Parquet. It follows from the
shards' bytes alone, so it is not part of the version's name.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from curation.byte_ranges import byte_ranges
from curation.step import digest
from curation.table import Part, part_path, read_part, write_part

FOLDER = "ranges"
"""Beside the shards, so that what reads all Parquet files of a version's folder sees shards only."""


def write_index(folder: Path, shard: Part, column: str = "image") -> str:
    """Write the index of one shard, unless it is there; returns its path relative to the version's folder."""
    key = digest("ranges", shard.key, column)
    path = part_path(folder / FOLDER, shard.index, key)
    if not path.exists():
        write_part(path.parent, shard.index, key, byte_ranges(shard.path, column))
    return f"{FOLDER}/{path.name}"


def index_fault(index: Path, shard: Path, column: str = "image") -> str | None:
    """What is wrong with the index of a shard, which is whole; None where nothing is."""
    try:
        is_right = read_part(index).equals(byte_ranges(shard, column))
    except FileNotFoundError:
        return "is missing; `tamis run` makes it again"
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        return f"{str(error).splitlines()[0]}; delete it, and `tamis run` makes it again"
    return None if is_right else "is not that of its shard; delete it, and `tamis run` makes it again"
