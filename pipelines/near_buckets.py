"""Bucketed files of hashes: for pools whose hashes do not fit into one worker's memory.

64 bits are cut into one band more than the radius, so two hashes within the radius have an equal band. For each band,
each hash goes to the bucket of that band's bits; a pair is the business of the bucket of its first equal band, and of
no other. Each group of parts is bucketed once, into one file whose rows stand in the order of the buckets; then each
bucket is one task that reads its rows of all files. Nothing is exchanged between workers but files, and a bucket with
too many rows is cut into slices whose pairs are tasks of their own. What is found is the same for every number of
buckets.

Size: 8 hashes a look x (radius + 1) bands x 33 bytes, about 2.4 KB a look at radius 8, less than its thumbnail.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curation.near_duplicates import Bucket, Entries, entries_of, group_of
from curation.step import digest
from curation.table import Part, open_part, write_part
from pipelines.looks import digests_of, hashes_of, read_hashes
from pipelines.near_job import Job, search_slices
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

VERSION = 1
TABLE = "near_buckets"
ENTRIES_PER_LOOK = 8
ROW_GROUP_ROWS = 1 << 16
"""More than in other tables: a bucket is read as a whole, and of each file only the row groups that it is in."""
ENTRIES = pa.schema(
    [
        ("bucket", pa.int32()),
        ("role", pa.uint8()),
        ("value", pa.uint64()),
        ("own", pa.uint64()),
        ("look", pa.uint64()),  # the first 8 bytes of the digest
        ("file", pa.int32()),  # position of the part in its group
        ("row", pa.int32()),
    ]
)


def bucketed(run: Run, job: Job, num_groups: int, bucket_entries: int) -> tuple[list[Part], dict[str, Any]]:
    """The pairs of a job, bucket by bucket: `num_groups` for each band, cut where they have too many entries."""
    folder = run.store.table(TABLE)
    wanted = []
    for number, group in enumerate(job.groups):
        key = digest(TABLE, VERSION, job.radius, num_groups, [open_part(path).identity for path in group])
        arguments = {
            "files": group,
            "radius": job.radius,
            "num_groups": num_groups,
            "folder": folder,
            "index": number,
            "key": key,
        }
        wanted.append(Wanted(folder, number, key, Task(f"buckets of group {number}", bucket_group, arguments)))
    files, _ = run_parts(run, "buckets of hashes", wanted)
    sizes = np.sum([part.stats["sizes"] for part in files], axis=0)
    tasks = []
    for bucket in range(len(sizes)):
        number = max(1, -(-int(sizes[bucket]) // bucket_entries))
        tasks += [(bucket, (number, one, other)) for one in range(number) for other in range(one, number)]
    job = Job(**{**job.__dict__, "stats": {**job.stats, "num_parts": len(tasks)}})
    found = []
    for index, (bucket, slices) in enumerate(tasks):
        arguments = {
            "job": job,
            "index": index,
            "files": [part.path for part in files],
            "num_groups": num_groups,
            "bucket": bucket,
            "slices": slices,
        }
        found.append(
            Wanted(job.folder, index, job.key, Task(f"bucket {bucket}, slices {slices}", search_bucket, arguments))
        )
    return run_parts(run, "near-duplicates", found)


def bucket_group(
    files: Sequence[Path], radius: int, num_groups: int, folder: Path, index: int, key: str
) -> dict[str, Any]:
    """Bucket the hashes of some parts. Runs in a worker."""
    made = []
    for number, path in enumerate(files):
        table, rows = read_hashes(path)
        entries = entries_of(hashes_of(table))
        looks = np.frombuffer(digests_of(table.column("look")).astype("S8").tobytes(), ">u8").astype(np.uint64)
        for band in range(radius + 1):
            bucket = band * num_groups + group_of(entries.value, radius + 1, band, num_groups)
            columns = [bucket.astype(np.int32), entries.role, entries.value, entries.own, looks[entries.row]]
            columns += [np.full(len(bucket), number, np.int32), rows[entries.row].astype(np.int32)]
            made.append(pa.table(columns, schema=ENTRIES))
    table = pa.concat_tables([ENTRIES.empty_table(), *made])
    buckets = table.column("bucket").to_numpy()
    table = table.take(pa.array(np.argsort(buckets, kind="stable")))
    sizes = np.bincount(buckets, minlength=(radius + 1) * num_groups)
    write_part(folder, index, key, table, stats={"sizes": sizes.tolist()}, row_group_rows=ROW_GROUP_ROWS)
    return {"entries": table.num_rows}


def search_bucket(
    job: Job, index: int, files: Sequence[Path], num_groups: int, bucket: int, slices: tuple[int, int, int]
) -> dict[str, Any]:
    """One bucket, or the pairs of two slices of it. Runs in a worker."""
    tables, before = [], 0
    for path, group in zip(files, job.groups, strict=True):
        table = pq.read_table(path, filters=[("bucket", "==", bucket)], page_checksum_verification=True)
        table = table.set_column(5, "file", pa.array(table.column("file").to_numpy() + before, pa.int32()))
        tables.append(table)
        before += len(group)
    columns = {name: np.concatenate([t.column(name).to_numpy() for t in tables]) for name in ENTRIES.names}
    number, one, other = slices
    ours = np.isin(columns["look"] % np.uint64(number), [one, other])
    columns = {name: column[ours] for name, column in columns.items()}
    # of equal looks the first, so that what is in an old part counts as old
    order = np.lexsort((columns["row"], columns["file"], columns["value"], columns["role"], columns["look"]))
    columns = {name: column[order] for name, column in columns.items()}
    looks, first, row = np.unique(columns["look"], return_index=True, return_inverse=True)
    again = np.zeros(len(row), bool)
    again[1:] = np.logical_and.reduce([columns[name][1:] == columns[name][:-1] for name in ("look", "role", "value")])
    entries = Entries(columns["role"], columns["value"], row, columns["own"]).where(~again)
    places = np.stack([columns["file"][first], columns["row"][first]], axis=1).astype(np.int64)
    digests = np.frombuffer(looks.astype(">u8").tobytes(), "S8")
    band, bits = divmod(bucket, num_groups)
    return search_slices(job, index, entries, digests, places, slices, Bucket(job.radius + 1, band, num_groups, bits))
