"""Duplicate groups of media in numbers: who is in which group, where its texts lie, and whom the policy would prefer.

None of this depends on what the rules reject, so it is found once for a pool, its groups and a preference, and kept in
one file. Who survives, when other rows pass, is then a matter of a few passes over arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.policy import Dedupe
from curation.table import read_groups
from pipelines import database
from pipelines.decide import VERSION, Decider, passed_before
from pipelines.strings import Strings, StringsWriter
from pipelines.uid_index import UidIndex
from pipelines.views import DUPLICATES

_NO_ROWS = np.zeros(0, np.int32)


class GroupRanks:
    """Media of duplicate groups (M, numbered in the pool's order) of a pool in batches (B).

    begins: int64 (B + 1), where the rows of each batch begin. rows: int32, texts whose medium is in a group, by their
    place in the batch, and medium: int32, its number. order: int32 (M), the media by group, the most preferred first.
    first: int32 (G + 1), where each group begins in `order`. samples: sample_uid of each medium. groups: their names.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._begins, self._rows, self._medium = (arrays[name] for name in ("begins", "rows", "medium"))
        self.order, self.first = arrays["order"], arrays["first"]
        self.samples, self.groups = Strings.of(arrays, "samples"), Strings.of(arrays, "groups")
        self.group_of = np.empty(len(self.order), np.int32)
        self.group_of[self.order] = np.repeat(np.arange(len(self.first) - 1, dtype=np.int32), np.diff(self.first))

    def texts(self, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of a batch whose medium is in a group, rising, and these media."""
        here = slice(*self._begins[batch : batch + 2].tolist())
        return self._rows[here], self._medium[here]

    def batches(self) -> list[int]:
        """Batches that have such rows."""
        found: list[int] = np.flatnonzero(np.diff(self._begins)).tolist()
        return found

    def survivors(self, passed: np.ndarray) -> np.ndarray:
        """int32 (M): who stays of the group of each medium: the most preferred of those that passed, or of all where
        none did. `passed`: bool (M)."""
        num = len(self.order)
        if num == 0:
            return np.zeros(0, np.int32)
        place = np.where(passed[self.order], np.arange(num, dtype=np.int32), np.int32(num))
        best = np.minimum.reduceat(place, self.first[:-1])
        best = self.order[np.where(best == num, self.first[:-1], best)]
        return best[self.group_of]


class Survived:
    """What a dedupe says of the rows that it rejects, made of numbers batch by batch."""

    def __init__(self, ranks: GroupRanks, survivor: np.ndarray) -> None:
        self._ranks, self._survivor = ranks, survivor

    def lost(self, batch: int, size: int) -> np.ndarray:
        """bool (size): which rows of a batch are rejected."""
        found = np.zeros(size, bool)
        rows, medium = self._ranks.texts(batch)
        found[rows] = self._survivor[medium] != medium
        return found

    def column(self, name: str, batch: int, size: int) -> pa.Array:
        """`duplicate_of` or `duplicate_group` of all rows of a batch, null where they are not rejected."""
        rows, medium = self._ranks.texts(batch)
        lost = self._survivor[medium] != medium
        place = np.full(size, -1, np.int32)
        if name == "duplicate_of":
            place[rows[lost]] = self._survivor[medium[lost]]
            return self._ranks.samples.take(pa.array(place, mask=place < 0))
        place[rows[lost]] = self._ranks.group_of[medium[lost]]
        return self._ranks.groups.take(pa.array(place, mask=place < 0))


def dedupe_media(decider: Decider, n: int, item: Dedupe) -> Survived:
    """Who survives of each duplicate group, of the rows that passed the rules before `n`."""
    reads = decider.reads[n]
    find, columns = partial(_find, decider, item.prefer, reads), ["media_uid", "sample_uid", *reads]
    ranks = GroupRanks(decider.arrays_of("groups", ["groups", VERSION, item.prefer], ["duplicates"], columns, find))
    passed = np.zeros(len(ranks.order), bool)

    def good(batch: int) -> np.ndarray:
        rows, medium = ranks.texts(batch)
        those: np.ndarray = medium[passed_before(decider, batch, n).to_numpy(zero_copy_only=False)[rows]]
        return those

    for _, media in decider.each(good, ranks.batches()):
        passed[media] = True
    return Survived(ranks, ranks.survivors(passed))


class _Named:
    """The media that are in groups, by the names that the stage dedupe gave: groups as numbers, and ranks of uids."""

    def __init__(self, con: database.Connection, uids: pa.Array, groups: pa.Array) -> None:
        """con: of one thread. uids: different ones; groups: the name of the group of each."""
        self.index = UidIndex(con, uids)
        self.group, self.names = self.index.find(con, groups), uids
        if (self.group < 0).any():  # groups are mostly named after one of their members
            encoded = groups.dictionary_encode()
            self.group, self.names = encoded.indices.to_numpy(), encoded.dictionary
        in_order = pc.all(pc.less(uids[:-1], uids[1:])).as_py() is not False
        self.rank = np.empty(len(uids), np.int32)
        self.rank[slice(None) if in_order else pc.array_sort_indices(uids).to_numpy()] = np.arange(len(uids))

    @classmethod
    def of(cls, decider: Decider) -> _Named:
        """From the table `duplicates`; media that are in no group are not among them."""
        given = decider.searches.get("duplicates", ())
        tables = [given] if isinstance(given, pa.Table) else (group for path in given for group in read_groups(path))
        columns: list[list[pa.ChunkedArray]] = [[] for _ in DUPLICATES.names]
        for table in tables:  # a row group at a time: of a large pool the whole table is several gigabytes
            grouped = table.filter(pc.is_valid(table.column("duplicate_group")))
            for column, name in zip(columns, DUPLICATES.names, strict=True):
                column.append(grouped.column(name))
        groups, uids = _one(columns.pop()), _one(columns.pop())
        return cls(decider.worker(), uids, groups)


def _one(columns: list[pa.ChunkedArray]) -> pa.Array:
    """Columns of strings in one piece; beyond 2 GB of letters as a `large_string`."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    columns.clear()
    if sum(chunk.nbytes for chunk in chunks) >= 2**31:
        chunks = [chunk.cast(pa.large_string()) for chunk in chunks]
    return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())


@dataclass(frozen=True)
class _Found:
    """What one batch has of duplicate groups."""

    rows: np.ndarray
    """int32: texts whose medium is in a group."""
    media: np.ndarray
    """int32: their media, numbered from 0 in the order of their first text."""
    places: np.ndarray
    """int32: of each of these media its place among the named uids."""
    samples: pa.Array
    """sample_uid of each medium."""
    preferred: pa.Table
    """What the preference reads, of each medium's first text."""


def _find(decider: Decider, prefer: str, reads: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of `GroupRanks`."""
    named = _Named.of(decider)
    begins, rows, media, places, total = [0], [_NO_ROWS], [_NO_ROWS], [_NO_ROWS], 0
    with StringsWriter(decider.spill) as samples:
        for batch, found in decider.each(partial(_grouped, decider, reads, named)):
            begins.append(begins[-1] + len(found.rows))
            rows.append(found.rows)
            media.append(found.media + np.int32(total))
            places.append(found.places)
            samples.add(found.samples)
            numbers = {
                "member": pa.array(np.arange(total, total + len(found.places), dtype=np.int32)),
                "group_number": pa.array(named.group[found.places]),
                "uid_place": pa.array(named.rank[found.places]),
            }
            preferred = dict(zip(found.preferred.column_names, found.preferred.columns, strict=True))
            decider.fill("members", batch, pa.table(numbers | preferred))
            total += len(found.places)
        place = np.concatenate(places)
        order = _NO_ROWS
        if total:
            sql = database.query("select/preferred").replace("{prefer}", prefer)
            order = database.arrow(decider.con, sql).column("member").to_numpy()
            decider.drop("members")
        group = named.group[place[order]]
        first = np.flatnonzero(np.concatenate([np.ones(min(1, total), bool), group[1:] != group[:-1]]))
        names = named.names.take(pa.array(group[first])).cast(pa.string())
        del named
        arrays = {"begins": np.array(begins), "rows": np.concatenate(rows), "medium": np.concatenate(media),
                  "order": order, "first": np.append(first, total).astype(np.int32)}  # fmt: skip
        with StringsWriter(decider.spill) as groups:
            groups.add(names)
            return arrays | samples.done().arrays("samples") | groups.done().arrays("groups")


def _grouped(decider: Decider, reads: Sequence[str], named: _Named, batch: int) -> _Found:
    """The texts of one batch whose medium is in a group; a medium is what its first text says it is."""
    names = dict.fromkeys(["media_uid", "sample_uid", *reads])
    table = decider.rows.read(batch, list(names), keep=False)
    place = named.index.find(decider.worker(), table.column("media_uid").combine_chunks())
    rows = np.flatnonzero(place >= 0).astype(np.int32)
    different, first, media = np.unique(place[rows], return_index=True, return_inverse=True)
    by_text = np.argsort(first)
    number = np.empty(len(by_text), np.int32)
    number[by_text] = np.arange(len(by_text))
    table = table.take(pa.array(rows[first[by_text]]))
    samples = table.column("sample_uid").combine_chunks()
    return _Found(rows, number[media], different[by_text], samples, table.select(list(reads)))
