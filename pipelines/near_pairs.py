"""Near-duplicate pairs of a pool's looks: found once for each pair, whatever the pool grows by later.

No medium is read again, only hashes and, of candidates, thumbnails. Hashes that too many looks share are the exception:
what joins these crowds (`curation.crowds`) is looked for anew whenever the pool has grown.

Measured: 200,000 looks in 200 parts take 10.6 CPU seconds, one part more 2.0 (most of it reading the hashes of the old
ones), a run with nothing new 0.3. 60,000 take 1.0 and 0.4: below that it does not matter, so there is no other way for
small pools. The join alone (tests/benchmarks/near_duplicates.py): 10,000 new hashes against 990,000 take a sixth of all
against all at radius 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.components import connected_components
from curation.crowds import MAX_EQUAL
from curation.step import digest
from curation.table import open_part, read_part
from pipelines import database
from pipelines.bucket_search import search
from pipelines.generations import NAME_DIGITS, grow
from pipelines.looks import digest_column, digests_of
from pipelines.near_job import NearJob
from pipelines.stage import Run

VERSION = 2
"""Of what decides pairs: pipelines/near_*.py, curation/near_duplicates.py, crowds.py and thumbnail_match.py."""
TABLE, CROWD_TABLE = "near_pairs", "near_crowds"
BUCKET_ENTRIES = 1 << 26
"""Hashes that one task holds: 8 million looks, for which it takes about 6 GB. A pool with no more is searched by a
single task; the pairs are the same for every value."""
GROUP_PARTS = 250
"""Parts that are bucketed into one file: of 1,000 looks each, 18 million entries at radius 8, for which a task takes
some 2 GB."""


@dataclass(frozen=True)
class Found:
    """The pairs of a pool: parts of generations, parts about crowds, the crowds' hashes, and counts."""

    pairs: list[Path]
    crowd_pairs: list[Path]
    crowds: list[int]
    counts: dict[str, Any]


def near_pairs(run: Run, files: Sequence[Path]) -> Found:
    """Make what is missing of the pairs of all looks in `files`, parts of the signal's table."""
    parts = {open_part(path).identity[:NAME_DIGITS]: path for path in files}
    radius = run.recipe.duplicates.radius
    crowds = crowds_of(files)
    job = NearJob(
        folder=run.store.table(TABLE),
        settings=digest(TABLE, VERSION, radius),
        radius=radius,
        crowds=tuple(crowds),
        stats={"crowds": [str(each) for each in crowds]},
    )
    # one that has left out as a crowd what is none any more (media went away) lacks pairs
    grown = grow(
        run, job, parts, GROUP_PARTS, BUCKET_ENTRIES, lambda each: set(map(int, each.stats["crowds"])) <= set(crowds)
    )
    counts = {f"near_{name}": value for name, value in grown.counts.items()}
    if not crowds:
        return Found(grown.pairs, [], [], counts)
    names = [open_part(path).identity for group in grown.groups for path in group]
    key = digest(job.settings, "crowds", names, crowds, BUCKET_ENTRIES)
    job = replace(
        job,
        folder=run.store.table(CROWD_TABLE),
        key=key,
        groups=grown.groups,
        only_crowds=True,
        crowd_hashes=tuple(_hashes_of(files, crowds)),
    )
    made, _ = search(run, job, BUCKET_ENTRIES)
    return Found(grown.pairs, [part.path for part in made], crowds, {**counts, "near_crowds": len(crowds)})


def crowds_of(files: Sequence[Path]) -> list[int]:
    """The hashes that more than `MAX_EQUAL` looks share, rising."""
    con = _open(files)
    found = database.rows(con, database.query("dedupe/crowds"), {"max_equal": MAX_EQUAL})
    con.close()
    return [row["phash"] for row in found]


def _hashes_of(files: Sequence[Path], crowds: list[int]) -> list[int]:
    """All hashes of the looks in crowds, rising."""
    con = _open(files)
    con.register("crowds", pa.table({"phash": pa.array(crowds, pa.uint64())}))
    found = database.rows(con, database.query("dedupe/crowd_hashes"))
    con.close()
    return [row["value"] for row in found]


def _open(files: Sequence[Path]) -> database.Connection:
    con = database.connect()
    database.create_view(con, "hashes", files, pa.schema([("look", pa.binary()), ("phash", pa.uint64())]))
    return con


def crowd_groups(files: Sequence[Path]) -> pa.Table:
    """look and crowd_group (16 bytes each): the group of each look that parts about crowds join, after its smallest."""
    tables = [read_part(path, ["look_a", "look_b"]) for path in files]
    empty = pa.table({name: pa.array([], pa.binary(16)) for name in ("look_a", "look_b")})
    pairs = pa.concat_tables([empty, *(table.replace_schema_metadata(None) for table in tables)])
    ends = [digests_of(pairs.column(name)) for name in ("look_a", "look_b")]
    looks, places = np.unique(np.concatenate(ends), return_inverse=True)
    labels = connected_components(len(looks), *np.split(places, 2))
    return pa.table({"look": digest_column(looks), "crowd_group": digest_column(looks[labels])})
