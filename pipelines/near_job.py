"""Pairs of looks as a search over the pool: buckets of hashes, and what one bucket yields.

64 bits are cut into one band more than the radius, so two hashes within the radius have an equal band. For each band,
each hash goes to the bucket of that band's bits; a pair is the business of the bucket of its first equal band, and of
no other.

Size of the bucketed files: 8 hashes a look x (radius + 1) bands x 33 bytes, about 2.4 KB a look at radius 8, less than
its thumbnail.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.crowds import Groups, search_crowds
from curation.near_duplicates import Bucket, Entries, NearDuplicates, entries_of, group_of, merged, search
from curation.table import write_part
from curation.thumbnail_match import KINDS, SURE
from pipelines.bucket_search import Cut, Job, Rows
from pipelines.looks import Looks, Thumbnails, digest_column, digests_of, hashes_of, read_hashes

NEAR_PAIRS = pa.schema(
    [
        ("look_a", pa.binary(16)),
        ("look_b", pa.binary(16)),
        ("kind", pa.string()),
        ("distance", pa.int32()),
        ("sure", pa.bool_()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class NearJob(Job):
    """Pairs of looks within the radius; an item is the first 8 bytes of a look's digest."""

    what = "near-duplicates"
    bucket_table = "near_buckets"
    entries_per_row = 8

    radius: int
    crowds: tuple[int, ...] = ()
    """Hashes whose looks are left out."""
    only_crowds: bool = False
    """Whether instead the pairs with a look of a crowd are looked for, new or old."""
    crowd_hashes: tuple[int, ...] = ()
    """All hashes of looks of crowds, where these are looked for."""

    @property
    def num_bands(self) -> int:
        return self.radius + 1

    def entries(self, path: Path, num_groups: int) -> pa.Table:
        table, rows = read_hashes(path)
        found = entries_of(hashes_of(table))
        items = np.frombuffer(digests_of(table.column("look")).astype("S8").tobytes(), ">u8").astype(np.uint64)
        groups = [group_of(found.value, self.num_bands, band, num_groups) for band in range(self.num_bands)]
        buckets = [band * num_groups + each for band, each in enumerate(groups)]
        columns = {
            "item": items[found.row],
            "row": rows[found.row].astype(np.int32),
            "role": found.role,
            "value": found.value,
            "own": found.own,
        }
        repeated = {name: np.tile(column, self.num_bands) for name, column in columns.items()}
        return pa.table({"bucket": np.concatenate(buckets).astype(np.int32), **repeated})

    def has_pairs(self, bucket: int, num_groups: int) -> bool:
        if not self.only_crowds:
            return True
        band, group = divmod(bucket, num_groups)
        return bool((group_of(np.array(self.crowd_hashes, np.uint64), self.num_bands, band, num_groups) == group).any())

    def for_tasks(self) -> NearJob:
        return replace(self, crowd_hashes=())

    def search_whole(self) -> dict[str, Any]:
        looks = Looks(self.files, self.num_old)
        found = self._pairs(entries_of(looks.hashes), looks.is_new, None, looks.thumbnails)
        return self._write(0, found, looks.digests[found.i], looks.digests[found.j])

    def search_rows(self, index: int, rows: Rows, cut: Cut) -> dict[str, Any]:
        role, value, own = (rows.columns.column(name).to_numpy() for name in ("role", "value", "own"))
        # a look that several parts have is there several times
        order = np.lexsort((value, role, rows.item))
        entries = Entries(role, value, rows.item, own).where(order)
        again = np.zeros(len(order), bool)
        again[1:] = np.logical_and.reduce([column[1:] == column[:-1] for column in entries[:3]])
        entries = entries.where(~again)
        thumbnails = Thumbnails(self.files, rows.places)
        band, group = divmod(cut.bucket, cut.num_groups)
        bucket = Bucket(self.num_bands, band, cut.num_groups, group)
        side = None if cut.one == cut.other else cut.slice_of(rows.items) == cut.other
        found = self._pairs(entries, rows.places[:, 0] >= self.num_old, side, thumbnails, bucket)
        ends = np.unique(np.concatenate([found.i, found.j]))
        digests = thumbnails.digests(ends)
        return self._write(
            index, found, digests[np.searchsorted(ends, found.i)], digests[np.searchsorted(ends, found.j)]
        )

    def _pairs(
        self,
        entries: Entries,
        is_new: np.ndarray,
        side: np.ndarray | None,
        thumbnails: Thumbnails,
        bucket: Bucket | None = None,
    ) -> NearDuplicates:
        """The pairs asked for among entries of looks, for each of which it is said whether it is new.

        With `side` (bool), of looks on two sides only.
        """
        in_crowd = np.isin(entries.own, np.array(self.crowds, np.uint64))
        first = in_crowd if self.only_crowds else is_new[entries.row] & ~in_crowd
        rest = ~in_crowd if self.only_crowds else ~is_new[entries.row] & ~in_crowd
        pairs: list[tuple[np.ndarray, np.ndarray | None]] = [(first, None), (first, rest)]
        if side is not None:
            other = side[entries.row]
            pairs = [(first & ~other, first & other), (first & ~other, rest & other), (rest & ~other, first & other)]
        groups = Groups(len(is_new))
        found = []
        for a, b in pairs:
            ends = entries.where(a), None if b is None else entries.where(b)
            if self.only_crowds:
                found.append(search_crowds(*ends, thumbnails, self.radius, bucket, groups))
            else:
                found.append(search(*ends, thumbnails, self.radius, bucket))
        return merged(found)

    def _write(self, index: int, found: NearDuplicates, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
        """Publish pairs of looks (digests a and b) in the order of these."""
        order = np.lexsort((b, a))
        table = pa.table(
            {
                "look_a": digest_column(a[order]),
                "look_b": digest_column(b[order]),
                "kind": pa.array([KINDS[kind] for kind in found.kind[order]], pa.string()),
                "distance": pa.array(found.distance[order].astype(np.int32)),
                "sure": pa.array(found.verdict[order] == SURE),
            },
            schema=NEAR_PAIRS,
        )
        write_part(self.folder, index, self.key, table, stats=self.stats)
        return {"pairs": len(found.i)}
