"""The plan of one shard as a worker reads it: its samples, and where their bytes lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

FILE = "tamis__file"
PLACE = (FILE, "tamis__start", "tamis__length", "tamis__frame_start", "tamis__frame_length")
"""Columns of a plan that say where a sample's bytes lie, and those of a segment's frame; no part of the version. No
column of a link table is named so."""


def without_places(plan: pa.Table) -> pa.Table:
    """The columns of the version."""
    return plan.drop_columns([name for name in PLACE if name in plan.column_names]).replace_schema_metadata(None)


def num_texts(plan: pa.Table) -> int:
    """How many texts its samples have together."""
    return int(pc.sum(pc.list_value_length(plan.column("texts"))).as_py() or 0)


def stored_bytes(root: Path, plan: pa.Table, prefix: str = "") -> Iterator[bytes | None]:
    """What lies at the places of a plan's rows, one ranged read each; None where there is nothing.

    root: folder of the store. prefix: `frame_` for the frames of segments. Raises ValueError where a file ends before.
    """
    columns = (plan.column(name).to_pylist() for name in (FILE, f"tamis__{prefix}start", f"tamis__{prefix}length"))
    with ExitStack() as opened:
        files: dict[str, BinaryIO] = {}
        for name, start, length in zip(*columns, strict=True):
            if length is None or length < 0:
                yield None
                continue
            if name not in files:
                files[name] = opened.enter_context((root / name).open("rb", buffering=0))
            found = os.pread(files[name].fileno(), length, start)
            if len(found) != length:
                raise ValueError(f"{root / name}: ends before byte {start + length}")
            yield found
