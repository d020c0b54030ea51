"""One search for near-duplicates: which parts, what in them is new, and what one bucket of them yields."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.near_duplicates import (
    Bucket,
    Entries,
    NearDuplicates,
    entries_of,
    join_crowds,
    merged,
    search,
)
from curation.table import read_part, write_part
from curation.thumbnail_match import KINDS, SURE
from pipelines.looks import Looks, Thumbnails, digest_column, digests_of

NEAR_PAIRS = pa.schema(
    [
        ("look_a", pa.binary(16)),
        ("look_b", pa.binary(16)),
        ("kind", pa.string()),
        ("distance", pa.int32()),
        ("sure", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class Job:
    """Pairs of looks with at least one that is new, or with at least one leader of a crowd."""

    folder: Path
    """Of the table that the result goes to."""
    key: str
    stats: dict[str, Any]
    """What the parts' footers say about the search."""
    groups: tuple[tuple[Path, ...], ...]
    """Parts of the signal's table, old ones first; a group is bucketed at a time."""
    num_old: int
    """How many of the parts are old."""
    radius: int
    crowds: tuple[int, ...] = ()
    """Hashes whose looks are left out, but for leaders."""
    links: Path | None = None
    """The part with the crowds' links: looks of crowds that none of them takes lead. They are new, and all else old."""

    @property
    def files(self) -> list[Path]:
        return [path for group in self.groups for path in group]

    def sides(self, own: np.ndarray, digests: np.ndarray, is_new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """bool (N), bool (N): of looks those that are compared, and which of them are new.

        Only the first 8 bytes of `digests` count.
        """
        in_crowd = np.isin(own, np.array(self.crowds, np.uint64))
        if self.links is None:
            return ~in_crowd, is_new & ~in_crowd
        taken = digests_of(read_part(self.links, ["look_b"]).column(0)).astype("S8")
        leads = in_crowd & ~np.isin(digests.astype("S8"), taken)
        return ~in_crowd | leads, leads


def search_whole(job: Job) -> dict[str, Any]:
    """All of a job at once: for pools whose hashes fit into one worker's memory."""
    looks = Looks(job.files, job.num_old)
    compared, new = job.sides(looks.hashes.own, looks.digests, looks.is_new)
    found = _search(entries_of(looks.hashes), compared, new, looks.thumbnails, job.radius, None)
    write_pairs(job, 0, found, looks.digests[found.i], looks.digests[found.j])
    return {"near_pairs": len(found.i)}


def _search(
    entries: Entries, compared: np.ndarray, new: np.ndarray, thumbnails: Thumbnails, radius: int, bucket: Bucket | None
) -> NearDuplicates:
    """Pairs of the compared rows of which at least one is new."""
    first, second = entries.where(new[entries.row]), entries.where((compared & ~new)[entries.row])
    return merged([search(first, None, thumbnails, radius, bucket), search(first, second, thumbnails, radius, bucket)])


def search_slices(
    job: Job,
    index: int,
    entries: Entries,
    digests: np.ndarray,
    places: np.ndarray,
    slices: tuple[int, int, int],
    bucket: Bucket,
) -> dict[str, Any]:
    """One bucket of a job, or of a bucket cut into slices the pairs of two slices: (number of slices, one, other).

    `digests` (S8, rising) are the first bytes of the looks that `entries.row` counts, `places` (int64, N x 2) where
    they are: position of the part, row.
    """
    own = np.zeros(len(digests), np.uint64)
    own[entries.row] = entries.own
    thumbnails = Thumbnails(job.files, places)
    compared, new = job.sides(own, digests, places[:, 0] >= job.num_old)
    number, one, other = slices
    slice_of = np.frombuffer(digests.tobytes(), ">u8").astype(np.uint64) % np.uint64(number)
    if one == other:
        inside = slice_of == one
        found = _search(entries, compared & inside, new & inside, thumbnails, job.radius, bucket)
    else:
        x, y = compared & (slice_of == one), compared & (slice_of == other)
        sides = [(x & new, y), (x & ~new, y & new)]
        found = merged(
            [
                search(entries.where(a[entries.row]), entries.where(b[entries.row]), thumbnails, job.radius, bucket)
                for a, b in sides
            ]
        )
    rows = np.unique(np.concatenate([found.i, found.j]))
    whole = thumbnails.digests(rows)
    at = np.searchsorted(rows, found.i), np.searchsorted(rows, found.j)
    write_pairs(job, index, found, whole[at[0]], whole[at[1]])
    return {"near_pairs": len(found.i)}


def search_crowds(job: Job) -> dict[str, Any]:
    """Links within the crowds of a job, whose looks are all held in memory, without their thumbnails."""
    looks = Looks(job.files, only=job.crowds)
    rows = np.arange(len(looks))
    links, _ = join_crowds(looks.hashes.own, rows, looks.thumbnails)
    write_pairs(job, 0, links, looks.digests[links.i], looks.digests[links.j])
    return {"crowd_links": len(links.i)}


def write_pairs(job: Job, index: int, found: NearDuplicates, a: np.ndarray, b: np.ndarray) -> None:
    """Publish pairs in the order of the looks' digests."""
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
    write_part(job.folder, index, job.key, table, stats=job.stats)
