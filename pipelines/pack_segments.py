"""Shards of a version of video and audio: one row a segment, its bytes by modality, in small row groups.

The bytes are columns of their own (`video`, `audio`, `image`), so a scan of the others reads none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.av.packing import PackMedia, packed
from curation.media.av_types import AvLimits
from curation.table import write_part
from pipelines.segment import av_decoder
from pipelines.spool import Place, Spool

FIXED = (
    "sample_uid", "media_uid", "source_uid", "url", "start_s", "end_s", "duration_s", "has_video", "has_audio",
    "has_text", "container", "video_codec", "width_px", "height_px", "num_frames", "frame_rate_hz", "audio_codec",
    "sample_rate_hz", "num_channels", "media_sha256", "texts",
)  # fmt: skip
"""Columns that every such version has, beside those with bytes."""
MODALITIES = ("video", "audio", "image")


def pack_segment_shard(
    plan: pa.Table, folder: Path, index: int, key: str, media: PackMedia, limits: AvLimits
) -> dict[str, Any]:
    """Bring the bytes of one shard's segments together and publish it. Runs in a worker.

    Raises ValueError where stored bytes are not those that were cut.
    """
    rows = plan.drop_columns(["file", "row_in_file"]).replace_schema_metadata(None)
    schema = rows.schema
    for name in MODALITIES:
        schema = schema.insert(schema.get_field_index("texts"), pa.field(name, pa.binary()))
    num_texts = int(pc.sum(pc.list_value_length(plan.column("texts"))).as_py() or 0)
    with Spool(folder) as spool:
        places = _collect(plan, spool)
        decoder = av_decoder(limits)
        sizes = [0]

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, rows.num_rows, media.row_group_rows):
                group = rows.slice(start, media.row_group_rows)
                made = [
                    _one(row, places[start + i], spool, partial(packed, decoder, wanted=media))
                    for i, row in enumerate(group.to_pylist())
                ]
                sizes[0] += sum(len(body) for each in made for body in each.values() if body is not None)
                columns = {name: pa.array([each[name] for each in made], pa.binary()) for name in MODALITIES}
                columns |= {name: group.column(name).combine_chunks() for name in group.column_names}
                yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

        reader = pa.RecordBatchReader.from_batches(schema, batches())
        part = write_part(folder, index, key, reader, stats={"num_texts": num_texts}, plain=MODALITIES)
    return {"rows": part.num_rows, "bytes": sizes[0]}


def _one(row: dict[str, Any], place: tuple[Place, Place | None], spool: Spool, pack: Any) -> dict[str, bytes | None]:
    body, frame = spool.get(place[0]), None if place[1] is None else spool.get(place[1])
    if hashlib.sha256(body).hexdigest() != row["media_sha256"]:
        raise ValueError(f"the bytes of segment {row['sample_uid']} are not those that were stored")
    made = pack(body, frame, row["has_video"], row["has_audio"])
    return {name: getattr(made, name) for name in MODALITIES}


def _collect(plan: pa.Table, spool: Spool) -> list[tuple[Place, Place | None]]:
    """Where in the spool the bytes and the frame of each row of the plan are; each row group is read once."""
    found: list[tuple[Place, Place | None]] = [(Place(0, 0), None)] * plan.num_rows
    by_file: dict[str, list[tuple[int, int]]] = {}
    at = zip(plan.column("file").to_pylist(), plan.column("row_in_file").to_pylist(), strict=True)
    for position, (file, row) in enumerate(at):
        by_file.setdefault(file, []).append((row, position))
    for file, wanted in sorted(by_file.items()):
        with pq.ParquetFile(file, page_checksum_verification=True) as source:
            first = 0
            for group in range(source.num_row_groups):
                size = source.metadata.row_group(group).num_rows
                inside = sorted((row - first, position) for row, position in wanted if first <= row < first + size)
                if inside:
                    table = source.read_row_group(group, columns=["bytes", "frame"])
                    for row, position in inside:
                        body, frame = (table.column(name)[row].as_py() for name in ("bytes", "frame"))
                        found[position] = spool.put(body), None if frame is None else spool.put(frame)
                first += size
    return found
