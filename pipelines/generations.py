"""Generations: pairs of a growing pool, found once, whatever it grows by later.

A *generation* holds the pairs of some new parts among themselves and with all parts before them. A pool that has grown
needs one more generation; nothing old is compared with anything old again. Generations are found by what their parts
say that they cover, so a run that was ended goes on where it was. What a generation says about items that are no longer
there does no harm: the queries that use pairs join with those that are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.step import digest
from curation.table import Part, open_part
from pipelines.bucket_search import Groups, Job, search
from pipelines.stage import Run

NAME_DIGITS = 20
"""Hex digits by which a generation names the parts that it covers."""


@dataclass(frozen=True)
class Generation:
    """One that is there: what it covers, and its parts."""

    old: frozenset[str]
    new: frozenset[str]
    stats: dict[str, Any]
    parts: tuple[Path, ...]


@dataclass(frozen=True)
class Grown:
    """The pairs of a pool: parts of all generations, the parts that they cover, and counts."""

    pairs: list[Path]
    groups: Groups
    counts: dict[str, Any]


def grow(
    run: Run,
    job: Job,
    parts: Mapping[str, Path],
    group_parts: int,
    bucket_entries: int,
    usable: Callable[[Generation], bool] = lambda _: True,
) -> Grown:
    """Make what is missing of the pairs of all items in `parts` (by name): `job` says how, but not of what.

    `group_parts` parts are bucketed into one file. Where a generation is not `usable`, all is looked for anew.
    """
    chain = _chain(job.folder, job.settings, set(parts))
    chain = chain if all(map(usable, chain)) else []
    covered = frozenset(name for each in chain for name in each.new)
    new = sorted(set(parts) - covered)
    old = tuple(group for each in chain for group in _groups(parts, each.new, group_parts))
    every = old + _groups(parts, frozenset(new), group_parts)
    pairs = [path for each in chain for path in each.parts]
    num_old = sum(map(len, old))
    found: dict[str, Any] = {}
    if new:
        stats = {**job.stats, "settings": job.settings, "old": sorted(covered), "new": new}
        key = digest(job.settings, stats, bucket_entries)
        made, found = search(run, replace(job, key=key, stats=stats, groups=every, num_old=num_old), bucket_entries)
        pairs += [part.path for part in made]
    return Grown(pairs, every, {"parts_old": num_old, "parts_new": len(new), "pairs_found": found.get("pairs", 0)})


def _groups(parts: Mapping[str, Path], names: frozenset[str], size: int) -> Groups:
    """Those of the named parts that are there, in groups."""
    there = [parts[name] for name in sorted(names) if name in parts]
    return tuple(tuple(there[k : k + size]) for k in range(0, len(there), size))


def _chain(folder: Path, settings: str, present: set[str]) -> list[Generation]:
    """The generations that can be used, in order: each continues just what those before it cover."""
    there = _generations(folder, settings)
    chain: list[Generation] = []
    covered: frozenset[str] = frozenset()
    while fitting := [each for each in there if each.old == covered and each.new & present]:
        best = max(fitting, key=lambda each: (len(each.new & present), -len(each.new), sorted(each.new)))
        chain.append(best)
        covered |= best.new
    return chain


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
            parts[0].stats,
            tuple(part.path for part in parts),
        )
        for parts in by_key.values()
        if len(parts) == parts[0].stats["num_parts"]
    ]
