"""The rows of one part as signals read them: its base table beside other signals, and texts beside their medium."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.schema import SEGMENTS, UNSEEN
from curation.signal import Level
from curation.table import read_part

UID = {"media": "media_uid", "text": "text_uid"}
MEDIA_COLUMNS = [name for name in SEGMENTS.names if name not in ("bytes", *UNSEEN)]
"""Columns of media that signals may read; those beyond `MEDIA` are of segments."""


def media_rows(
    media: Path, upstream: dict[str, Path], levels: dict[str, Level], wanted: Collection[str] | None = None
) -> pa.Table:
    """Media with the columns of the media signals in `upstream` (table -> file); `wanted` leaves out all others."""
    there = set(pq.read_schema(media).names)
    names = [name for name in MEDIA_COLUMNS if name in there]
    names = [name for name in names if wanted is None or name in {*wanted, "media_uid", "sample_uid"}]
    return joined(read_part(media, names), upstream, levels, "media", wanted)


def text_rows(
    texts: Path,
    media: pa.Table,
    upstream: dict[str, Path],
    levels: dict[str, Level],
    wanted: Collection[str] | None = None,
) -> pa.Table:
    """Texts with the columns of the text signals in `upstream` and those of their sample's medium."""
    names = [
        name for name in pq.read_schema(texts).names if wanted is None or name in {*wanted, "text_uid", "sample_uid"}
    ]
    return with_media(joined(read_part(texts, names), upstream, levels, "text", wanted), media)


def joined(
    base: pa.Table,
    upstream: dict[str, Path],
    levels: dict[str, Level],
    level: str,
    wanted: Collection[str] | None = None,
) -> pa.Table:
    """`base` with the columns of the signals of its level: their parts hold the same rows in the same order."""
    uid = UID[level]
    for table in sorted(upstream):
        if levels[table] != level:
            continue
        names = [n for n in pq.read_schema(upstream[table]).names if wanted is None or n in {*wanted, uid}]
        extra = read_part(upstream[table], names)
        if not extra.column(uid).combine_chunks().equals(base.column(uid).combine_chunks()):
            raise ValueError(f"{upstream[table]} does not hold the rows of its part in order")
        for name in extra.column_names:
            if name not in (uid, "reason"):
                base = base.append_column(name, extra.column(name))
    return base


def with_media(texts: pa.Table, media: pa.Table) -> pa.Table:
    """Each text with the columns of its sample's medium."""
    row = {sample: i for i, sample in enumerate(media.column("sample_uid").to_pylist())}
    take = pa.array([row[sample] for sample in texts.column("sample_uid").to_pylist()], pa.int64())
    for name in media.column_names:
        if name not in texts.column_names:
            texts = texts.append_column(name, pc.take(media.column(name), take))
    return texts
