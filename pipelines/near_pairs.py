"""Near-duplicate pairs of a pool: found once for each pair of looks, whatever the pool grows by later.

A *generation* holds the pairs of some new parts among themselves and with all parts before them. A pool that has grown
needs one more generation; nothing old is compared with anything old again, and no medium is read again, only hashes
and, of candidates, thumbnails. Generations are found by what their parts say that they cover, so a run that was ended
goes on where it was. What a generation says about looks that are no longer there does no harm: the query that turns
pairs of looks into pairs of media (sql/dedupe/near.sql) joins with those that are.

Measured (tests/benchmarks/near_duplicates.py): 10,000 new looks against 1,000,000 take a tenth of what all against all
take; below some 20,000 looks either is done in a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.near_duplicates import MAX_EQUAL
from curation.step import digest
from curation.table import Part, open_part
from pipelines import database
from pipelines.near_buckets import ENTRIES_PER_LOOK, bucketed
from pipelines.near_job import Job, search_crowds, search_whole
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

VERSION = 1
"""Of what decides pairs: pipelines/near_*.py, curation/near_duplicates.py and curation/thumbnail_match.py."""
TABLE, CROWD_TABLE = "near_pairs", "near_crowds"
BUCKET_ENTRIES = 1 << 26
"""Hashes that one task holds: 8 million looks, for which it takes about 6 GB. A pool with no more is searched by a
single task; the pairs are the same for every value."""
GROUP_PARTS = 250
"""Parts that are bucketed into one file: of 1,000 looks each, 18 million entries at radius 8, for which a task takes
some 2 GB."""
_NAME_DIGITS = 20
"""Hex digits by which a generation names the parts that it covers."""


@dataclass(frozen=True)
class Generation:
    """One that is there: what it covers, the hashes left out of it as crowds, and its parts."""

    old: frozenset[str]
    new: frozenset[str]
    crowds: frozenset[int]
    parts: tuple[Path, ...]


@dataclass(frozen=True)
class Found:
    """The pairs of a pool: parts of generations, parts about crowds, the crowds' hashes, and counts."""

    pairs: list[Path]
    crowd_pairs: list[Path]
    crowds: list[int]
    counts: dict[str, Any]


def near_pairs(run: Run, files: Sequence[Path]) -> Found:
    """Make what is missing of the pairs of all looks in `files`, parts of the signal's table."""
    parts = {open_part(path).identity[:_NAME_DIGITS]: path for path in files}
    radius = run.recipe.duplicates.radius
    settings = digest(TABLE, VERSION, radius)
    crowds = crowds_of(files)
    chain = _chain(run.store.table(TABLE), settings, set(parts), frozenset(crowds))
    covered = frozenset(name for each in chain for name in each.new)
    new = sorted(set(parts) - covered)
    groups = [_groups(parts, each.new) for each in chain]
    old = tuple(group for some in groups for group in some)
    pairs = [path for each in chain for path in each.parts]
    counts: dict[str, Any] = {"near_parts_old": sum(map(len, old)), "near_parts_new": len(new)}
    if new:
        stats = {"settings": settings, "old": sorted(covered), "new": new, "crowds": [str(each) for each in crowds]}
        key = digest(settings, sorted(covered), new, crowds, BUCKET_ENTRIES)
        every = old + _groups(parts, frozenset(new))
        job = Job(run.store.table(TABLE), key, stats, every, sum(map(len, old)), radius, tuple(crowds))
        made, found = _search(run, job)
        pairs += [part.path for part in made]
        counts["near_pairs_found"] = found.get("near_pairs", 0)
    if not crowds:
        return Found(pairs, [], [], counts)
    everything = old + _groups(parts, frozenset(new))
    crowd_pairs = _crowd_pairs(run, everything, settings, tuple(crowds))
    return Found(pairs, crowd_pairs, crowds, {**counts, "near_crowds": len(crowds)})


def _groups(parts: dict[str, Path], names: frozenset[str]) -> tuple[tuple[Path, ...], ...]:
    """Those of the named parts that are there, in groups."""
    there = [parts[name] for name in sorted(names) if name in parts]
    return tuple(tuple(there[k : k + GROUP_PARTS]) for k in range(0, len(there), GROUP_PARTS))


def _search(run: Run, job: Job) -> tuple[list[Part], dict[str, Any]]:
    """Do a job: whole where it fits into one worker, or else bucket by bucket."""
    num_entries = sum(pq.read_metadata(path).num_rows for path in job.files) * ENTRIES_PER_LOOK
    if num_entries > BUCKET_ENTRIES:
        num_groups = 1 << (num_entries // BUCKET_ENTRIES).bit_length()
        return bucketed(run, job, num_groups, BUCKET_ENTRIES)
    job = replace(job, stats={**job.stats, "num_parts": 1})
    task = Task("near-duplicates", search_whole, {"job": job})
    return run_parts(run, "near-duplicates", [Wanted(job.folder, 0, job.key, task)])


def crowds_of(files: Sequence[Path]) -> list[int]:
    """The hashes that more than `MAX_EQUAL` looks share, rising."""
    con = database.connect()
    database.create_view(con, "hashes", files, pa.schema([("look", pa.binary()), ("phash", pa.uint64())]))
    found = database.rows(con, database.query("dedupe/crowds"), {"max_equal": MAX_EQUAL})
    con.close()
    return [row["phash"] for row in found]


def _chain(folder: Path, settings: str, present: set[str], crowds: frozenset[int]) -> list[Generation]:
    """The generations that can be used, in order: each continues just what those before it cover.

    None where one has left out as a crowd what is none any more (media went away): then all is looked for anew.
    """
    there = _generations(folder, settings)
    chain: list[Generation] = []
    covered: frozenset[str] = frozenset()
    while fitting := [each for each in there if each.old == covered and each.new & present]:
        best = max(fitting, key=lambda each: (len(each.new & present), -len(each.new), sorted(each.new)))
        chain.append(best)
        covered |= best.new
    return chain if all(each.crowds <= crowds for each in chain) else []


def _generations(folder: Path, settings: str) -> list[Generation]:
    """All generations whose parts are all there."""
    by_key: dict[str, list[Part]] = {}
    for path in sorted(folder.glob("[0-9]*.parquet")):
        part = open_part(path)
        if part.stats["settings"] == settings:
            by_key.setdefault(part.key, []).append(part)
    return [
        Generation(
            frozenset(parts[0].stats["old"]),
            frozenset(parts[0].stats["new"]),
            frozenset(map(int, parts[0].stats["crowds"])),
            tuple(part.path for part in parts),
        )
        for parts in by_key.values()
        if len(parts) == parts[0].stats["num_parts"]
    ]


def _crowd_pairs(run: Run, groups: tuple[tuple[Path, ...], ...], settings: str, crowds: tuple[int, ...]) -> list[Path]:
    """The pairs of looks in crowds: links to their leaders, and the leaders' pairs with all that are in no crowd."""
    names = [open_part(path).identity for group in groups for path in group]
    key = digest(settings, "crowds", names, list(crowds), BUCKET_ENTRIES)
    stats = {"settings": settings, "num_parts": 1}
    radius = run.recipe.duplicates.radius
    job = Job(run.store.table(CROWD_TABLE), key, stats, groups, 0, radius, crowds)
    task = Task("crowds of one hash", search_crowds, {"job": job})
    (links,), _ = run_parts(run, "crowds of one hash", [Wanted(job.folder, 0, key, task)])
    made, _ = _search(run, replace(job, key=digest(key, "leaders"), links=links.path))
    return [links.path, *(part.path for part in made)]
