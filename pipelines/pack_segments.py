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
import pyarrow.parquet as pq

from curation.av.packing import PackMedia, packed
from curation.media.av_types import AvLimits
from curation.table import write_part
from pipelines.plan_file import num_texts, stored_bytes, without_places
from pipelines.segment import av_decoder

FIXED = (
    "sample_uid", "media_uid", "source_uid", "url", "start_s", "end_s", "duration_s", "has_video", "has_audio",
    "has_text", "container", "video_codec", "width_px", "height_px", "num_frames", "frame_rate_hz", "audio_codec",
    "sample_rate_hz", "num_channels", "media_sha256", "texts",
)  # fmt: skip
"""Columns that every such version has, beside those with bytes."""
MODALITIES = ("video", "audio", "image")


def pack_segment_shard(
    plan: Path, root: Path, folder: Path, index: int, key: str, media: PackMedia, limits: AvLimits
) -> dict[str, Any]:
    """Bring the bytes of one shard's segments together and publish it. Runs in a worker.

    plan: the file of the shard's plan; root: folder of the store. Raises ValueError where stored bytes are not those
    that were cut.
    """
    planned = pq.read_table(plan)
    rows = without_places(planned)
    schema = rows.schema
    for name in MODALITIES:
        schema = schema.insert(schema.get_field_index("texts"), pa.field(name, pa.binary()))
    decoder = av_decoder(limits)
    sizes = [0]

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, rows.num_rows, media.row_group_rows):
            group, places = (table.slice(start, media.row_group_rows) for table in (rows, planned))
            stored = zip(stored_bytes(root, places), stored_bytes(root, places, "frame_"), strict=True)
            made = [
                _one(row, body, frame, partial(packed, decoder, wanted=media))
                for row, (body, frame) in zip(group.to_pylist(), stored, strict=True)
            ]
            sizes[0] += sum(len(body) for each in made for body in each.values() if body is not None)
            columns = {name: pa.array([each[name] for each in made], pa.binary()) for name in MODALITIES}
            columns |= {name: group.column(name).combine_chunks() for name in group.column_names}
            yield pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    part = write_part(folder, index, key, reader, stats={"num_texts": num_texts(planned)}, plain=MODALITIES)
    return {"rows": part.num_rows, "bytes": sizes[0]}


def _one(row: dict[str, Any], body: bytes | None, frame: bytes | None, pack: Any) -> dict[str, bytes | None]:
    if body is None or hashlib.sha256(body).hexdigest() != row["media_sha256"]:
        raise ValueError(f"the bytes of segment {row['sample_uid']} are not those that were stored")
    made = pack(body, frame, row["has_video"], row["has_audio"])
    return {name: getattr(made, name) for name in MODALITIES}
