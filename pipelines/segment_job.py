"""Copies among segments as a search over the pool: slices of segments against each other, each pair of slices a task.

An entry is a segment with its fingerprints. All that two segments say about each other is known wherever both are, so
a slice by segment needs no second round; the hashes that too many segments share are counted beforehand.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.av.copies import AUDIO_RULE, VIDEO_RULE, Asked, MatchRule, Track, common_hashes, copies, known_hashes
from curation.signals.media_fingerprint import audio_track, video_track
from curation.table import read_part, write_part
from pipelines.bucket_search import Cut, Job, Rows

Kind = Literal["video", "audio"]
COLUMNS = ("video_fingerprint", "video_known", "audio_fingerprint", "audio_known", "audio_start_s")
PAIRS = pa.schema(
    [
        ("media_uid", pa.string()),  # the smaller one of the two
        ("other_uid", pa.string()),
        ("offset_s", pa.float64()),
        ("overlap_s", pa.float64()),
        ("distance", pa.float64()),
    ]
)
COUNTED_AT_A_TIME = 1 << 25
"""Hashes among which common ones are counted in one go: 0.5 GB; more are counted in several."""


def rule_of(kind: Kind, min_share: float) -> MatchRule:
    """What makes two segments copies."""
    return dataclasses.replace(VIDEO_RULE if kind == "video" else AUDIO_RULE, min_share=min_share)


@dataclass(frozen=True, kw_only=True)
class SegmentJob(Job):
    """Pairs of segments that share a stretch of their pictures, or of their sound; an item is the first 8 bytes of a
    segment's uid. Its parts are those of the signal of fingerprints."""

    what = "copies of segments"
    bucket_table = "segment_buckets"
    num_bands = 1
    entries_per_row = 1

    kind: Kind
    min_share: float
    common: tuple[int, ...] = ()
    """Hashes that do not vote."""

    def entries(self, path: Path, num_groups: int) -> pa.Table:  # noqa: ARG002
        table = read_tracks(path, self.kind)
        rows = table.column("row").cast(pa.int32())
        bucket = pa.array(np.zeros(table.num_rows, np.int32))
        items = pa.array(_items(table.column("media_uid").to_pylist()))
        return table.set_column(table.schema.get_field_index("row"), "row", rows).append_column(
            "bucket", bucket
        ).append_column("item", items)  # fmt: skip

    def has_pairs(self, bucket: int, num_groups: int) -> bool:  # noqa: ARG002
        return bucket == 0

    def search_whole(self) -> dict[str, Any]:
        tables = [read_tracks(path, self.kind) for path in self.files]
        is_new = np.repeat(np.arange(len(tables)) >= self.num_old, [table.num_rows for table in tables])
        return self._compare(0, pa.concat_tables(tables), is_new, None)

    def search_rows(self, index: int, rows: Rows, cut: Cut) -> dict[str, Any]:
        once = np.searchsorted(rows.item, np.arange(len(rows.items)))
        is_new = rows.places[:, 0] >= self.num_old
        side = None if cut.one == cut.other else cut.slice_of(rows.items)
        return self._compare(index, rows.columns.take(pa.array(once)), is_new, side)

    def _compare(self, index: int, table: pa.Table, is_new: np.ndarray, side: np.ndarray | None) -> dict[str, Any]:
        """Compare, and publish the pairs in the order of their uids."""
        order = np.argsort(np.array(table.column("media_uid").to_pylist(), object), kind="stable")
        rows = table.take(pa.array(order)).to_pylist()
        asked = Asked(is_new[order], None if side is None else side[order])
        common = np.array(self.common, np.uint64)
        found = copies([_track(row, self.kind) for row in rows], rule_of(self.kind, self.min_share), asked, common)
        pairs = [
            {"media_uid": rows[match.a]["media_uid"], "other_uid": rows[match.b]["media_uid"],
             "offset_s": match.offset_s, "overlap_s": match.overlap_s, "distance": match.distance}
            for match in found
        ]  # fmt: skip
        made = pa.Table.from_pylist(pairs, schema=PAIRS)
        write_part(self.folder, index, self.key, made, stats=self.stats)
        return {"pairs": len(pairs)}


def read_tracks(path: Path, kind: Kind) -> pa.Table:
    """The segments of a part that have pictures (or sound): media_uid, its fingerprints, and `row`."""
    names = [name for name in COLUMNS if name.startswith(kind)]
    table = read_part(path, ["media_uid", *names])
    table = table.append_column("row", pa.array(np.arange(table.num_rows)))
    return table.filter(pc.fill_null(pc.greater(pc.binary_length(table.column(names[0])), 0), False))


def common_of(files: Sequence[Path], kind: Kind) -> list[int]:
    """The hashes that occur too often in all parts together to vote, rising; in bounded memory."""
    width = 8 if kind == "video" else 4
    num_hashes = sum(_uncompressed_bytes(path, f"{kind}_fingerprint") for path in files) // width
    found: list[int] = []
    num_turns = -(-num_hashes // COUNTED_AT_A_TIME) or 1
    for turn in range(num_turns):
        own = [values[values % np.uint64(num_turns) == turn] for values in _all_hashes(files, kind)]
        found += common_hashes(own).tolist()
    return sorted(found)


def _all_hashes(files: Sequence[Path], kind: Kind) -> Iterator[np.ndarray]:
    for path in files:
        for row in read_tracks(path, kind).to_pylist():
            yield known_hashes(_track(row, kind))


def _uncompressed_bytes(path: Path, column: str) -> int:
    with pq.ParquetFile(path) as file:
        place = file.schema_arrow.get_field_index(column)
        groups = range(file.num_row_groups)
        return sum(file.metadata.row_group(k).column(place).total_uncompressed_size for k in groups)


def _track(row: dict[str, Any], kind: Kind) -> Track:
    if kind == "video":
        return video_track(row["video_fingerprint"], row["video_known"])
    return audio_track(row["audio_fingerprint"], row["audio_known"], row["audio_start_s"])


def _items(uids: Sequence[str]) -> np.ndarray:
    """uint64 [n]."""
    return np.array([int(uid[:16], 16) for uid in uids], np.uint64)
