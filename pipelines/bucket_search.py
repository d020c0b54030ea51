"""Searches for pairs over a whole pool: in one task where it fits into a worker, or else over bucketed files.

What is compared are *items* (looks of pictures, normal forms of texts), of which parts of the pool hold entries
(hashes, keys of bands). Items that may be a pair have an entry in one bucket. Each group of parts is bucketed once,
into one file whose rows stand in the order of the buckets; then each bucket is one task that reads its rows of all.
Nothing is exchanged between workers but files, and a bucket with too many rows is cut into slices by item, whose pairs
are tasks of their own. What is found is the same for every number of buckets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.step import digest
from curation.table import Part, open_part, write_part
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

VERSION = 2
"""Of the bucketed files."""
ROW_GROUP_ROWS = 1 << 16
"""More than in other tables: a bucket is read as a whole, and of each file only the row groups that it is in."""


Groups = tuple[tuple[Path, ...], ...]


class Cut(NamedTuple):
    """One bucket (of `num_groups` for each band), or of a bucket cut into slices the pairs of two slices."""

    bucket: int
    num_groups: int
    num_slices: int = 1
    one: int = 0
    other: int = 0

    def slice_of(self, items: np.ndarray) -> np.ndarray:
        """int64 (N)."""
        number: np.ndarray = (items % np.uint64(self.num_slices)).astype(np.int64)
        return number


class Rows(NamedTuple):
    """The entries of a bucket, in the order of their items and then of their places."""

    columns: pa.Table
    """Those that the job gave them."""
    items: np.ndarray
    """uint64 (items): the distinct items, rising."""
    item: np.ndarray
    """int64 (N): the position of each entry's item among them."""
    places: np.ndarray
    """int64 (items, 2): where the first entry of each is: position of the part, row. Old parts come first, so an item
    is new if its first entry is in a new part."""


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """One search: pairs of items of which at least one is new. Subclasses say what the items are."""

    what: ClassVar[str]
    """Names it in messages and in errors."""
    bucket_table: ClassVar[str]
    """Where its bucketed files go."""

    folder: Path
    """Of the table that the result goes to."""
    settings: str
    """Digest of all that decides pairs, but for the parts."""
    key: str = ""
    stats: dict[str, Any] = field(default_factory=dict)
    """What the parts' footers say about the search."""
    groups: Groups = ()
    """Parts, old ones first; a group is bucketed at a time."""
    num_old: int = 0
    """How many of the parts are old."""

    @property
    def files(self) -> list[Path]:
        return [path for group in self.groups for path in group]

    @property
    @abstractmethod
    def num_bands(self) -> int:
        """In how many buckets an entry is."""

    @property
    @abstractmethod
    def entries_per_row(self) -> int:
        """Entries of a row of a part, before they go into the buckets of all bands."""

    @abstractmethod
    def entries(self, path: Path, num_groups: int) -> pa.Table:
        """The entries of one part in the buckets 0 to num_bands x num_groups - 1.

        Columns `bucket` (int32), `item` (uint64), `row` (int32), and those that `search_rows` needs.
        """

    def has_pairs(self, bucket: int, num_groups: int) -> bool:  # noqa: ARG002
        """Whether there can be any in a bucket; those without are not searched."""
        return True

    def for_tasks(self) -> Job:
        """Without what only `has_pairs` needs."""
        return self

    @abstractmethod
    def search_whole(self) -> dict[str, Any]:
        """All of it at once; publishes the part 0."""

    @abstractmethod
    def search_rows(self, index: int, rows: Rows, cut: Cut) -> dict[str, Any]:
        """One bucket, or the pairs of two slices of it; publishes the part `index`."""


def search(run: Run, job: Job, bucket_entries: int) -> tuple[list[Part], dict[str, Any]]:
    """The pairs of a job: whole where it has no more than `bucket_entries` entries, or else bucket by bucket."""
    num_entries = sum(pq.read_metadata(path).num_rows for path in job.files) * job.entries_per_row
    if num_entries > bucket_entries:
        return _bucketed(run, job, 1 << (num_entries // bucket_entries).bit_length(), bucket_entries)
    job = replace(job, stats={**job.stats, "num_parts": 1})
    return run_parts(run, job.what, [Wanted(job.folder, 0, job.key, Task(job.what, search_whole, {"job": job}))])


def _bucketed(run: Run, job: Job, num_groups: int, bucket_entries: int) -> tuple[list[Part], dict[str, Any]]:
    folder = run.store.table(job.bucket_table)
    wanted = []
    for number, group in enumerate(job.groups):
        key = digest(job.bucket_table, VERSION, job.settings, num_groups, [open_part(path).identity for path in group])
        bare = replace(job.for_tasks(), groups=(group,), stats={})
        arguments = {"job": bare, "num_groups": num_groups, "folder": folder, "index": number, "key": key}
        task = Task(f"{job.what}, buckets of group {number}", bucket_group, arguments)
        wanted.append(Wanted(folder, number, key, task))
    files, _ = run_parts(run, f"{job.what}, buckets", wanted)
    sizes = np.sum([part.stats["sizes"] for part in files], axis=0)
    cuts = []
    for bucket, size in enumerate(sizes.tolist()):
        if not job.has_pairs(bucket, num_groups):
            continue
        number = max(1, -(-size // bucket_entries))
        cuts += [Cut(bucket, num_groups, number, one, other) for one in range(number) for other in range(one, number)]
    job = replace(job.for_tasks(), stats={**job.stats, "num_parts": len(cuts)})
    found = []
    for index, cut in enumerate(cuts):
        arguments = {"job": job, "index": index, "files": [part.path for part in files], "cut": cut}
        task = Task(f"{job.what}, bucket {cut.bucket}, slices {cut[2:]}", search_bucket, arguments)
        found.append(Wanted(job.folder, index, job.key, task))
    return run_parts(run, job.what, found)


def search_whole(job: Job) -> dict[str, Any]:
    """A job at once. Runs in a worker."""
    return job.search_whole()


def bucket_group(job: Job, num_groups: int, folder: Path, index: int, key: str) -> dict[str, Any]:
    """Bucket the entries of one group of parts. Runs in a worker."""
    made = []
    for number, path in enumerate(job.files):
        entries = job.entries(path, num_groups)
        made.append(entries.append_column("file", pa.array(np.full(entries.num_rows, number, np.int32))))
    table = pa.concat_tables(made)
    buckets = table.column("bucket").to_numpy()
    table = table.take(pa.array(np.argsort(buckets, kind="stable")))
    sizes = np.bincount(buckets, minlength=job.num_bands * num_groups)
    write_part(folder, index, key, table, stats={"sizes": sizes.tolist()}, row_group_rows=ROW_GROUP_ROWS)
    return {"entries": table.num_rows}


def search_bucket(job: Job, index: int, files: Sequence[Path], cut: Cut) -> dict[str, Any]:
    """One bucket of a job, or the pairs of two slices of it. Runs in a worker."""
    tables, before = [], 0
    for path, group in zip(files, job.groups, strict=True):
        table = pq.read_table(path, filters=[("bucket", "==", cut.bucket)], page_checksum_verification=True)
        if cut.num_slices > 1:
            ours = np.isin(cut.slice_of(table.column("item").to_numpy()), [cut.one, cut.other])
            table = table.filter(pa.array(ours))
        place = table.schema.get_field_index("file")
        tables.append(table.set_column(place, "file", pa.array(table.column("file").to_numpy() + before, pa.int32())))
        before += len(group)
    rows = pa.concat_tables(tables)
    item, file, row = (rows.column(name).to_numpy() for name in ("item", "file", "row"))
    order = np.lexsort((row, file, item))
    items, first, position = np.unique(item[order], return_index=True, return_inverse=True)
    places = np.stack([file[order][first], row[order][first]], axis=1).astype(np.int64)
    return job.search_rows(index, Rows(rows.take(pa.array(order)), items, position, places), cut)
