"""Duplicate groups of media, or of texts, in numbers: who is in which group, where its texts lie, and whom the policy
would prefer. What is said of media here holds for texts, too: each then has one text, itself.

None of this depends on what the rules reject, so it is found once for a pool, its groups and a preference, and kept in
one file. Who survives, when other rows pass, is then a matter of a few passes over arrays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa

from curation.policy import Dedupe
from pipelines import database
from pipelines.buckets import Buckets, even_bounds
from pipelines.decide import VERSION, Decider, passed_before
from pipelines.group_table import OF_MEDIA, OF_TEXTS, GroupTable, Level
from pipelines.row_wise import ordering_without_nan
from pipelines.rule_sql import PREFIX
from pipelines.strings import ArrayWriter, StringsWriter, strings_of

LAYOUT = 2
"""Of the arrays that are kept: uids as numbers since 2."""
_BUCKET_ROWS = 1 << 20
"""Media that are put in order at a time: some 100 MB."""


class GroupRanks:
    """Media of duplicate groups (M, numbered in the pool's order) of a pool in batches (B).

    begins: int64 (B + 1), where the rows of each batch begin. rows: int32, texts whose medium is in a group, by their
    place in the batch, and medium: int32, its number. order: int32 (M), the media by group, the most preferred first.
    first: int32 (G + 1), where each group begins in `order`. samples: what each is called where it survives, of media
    sample_uid. groups: their names.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._begins, self._rows, self._medium = (arrays[name] for name in ("begins", "rows", "medium"))
        self.order, self.first = arrays["order"], arrays["first"]
        self.samples, self.groups = strings_of(arrays, "samples"), strings_of(arrays, "groups")
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
        """`duplicate_of` or `duplicate_group` of all rows of a batch, null where they are not rejected. `text_` stands
        before those of texts."""
        rows, medium = self._ranks.texts(batch)
        lost = self._survivor[medium] != medium
        place = np.full(size, -1, np.int32)
        if name.endswith("duplicate_of"):
            place[rows[lost]] = self._survivor[medium[lost]]
            return self._ranks.samples.take(pa.array(place, mask=place < 0))
        place[rows[lost]] = self._ranks.group_of[medium[lost]]
        return self._ranks.groups.take(pa.array(place, mask=place < 0))


def dedupe_groups(decider: Decider, n: int, item: Dedupe) -> Survived:
    """Who survives of each duplicate group, of the rows that passed the rules before `n`."""
    reads, level = decider.reads[n], OF_TEXTS if item.of == "texts" else OF_MEDIA
    find, columns = partial(_find, decider, level, item.prefer, reads), [level.uid, "sample_uid", *reads]
    ranks = GroupRanks(
        decider.arrays_of("groups", ["groups", VERSION, LAYOUT, item.prefer], [level.table], columns, find)
    )
    passed = np.zeros(len(ranks.order), bool)

    def good(batch: int) -> np.ndarray:
        rows, medium = ranks.texts(batch)
        those: np.ndarray = medium[passed_before(decider, batch, n).to_numpy(zero_copy_only=False)[rows]]
        return those

    for _, media in decider.each(good, ranks.batches()):
        passed[media] = True
    return Survived(ranks, ranks.survivors(passed))


@dataclass(frozen=True)
class _Found:
    """What one batch has of duplicate groups."""

    rows: np.ndarray
    """int32: texts whose medium is in a group."""
    media: np.ndarray
    """int32: their media, numbered from 0 in the order of their first text."""
    places: np.ndarray
    """int32: of each of these media its number in `GroupTable`."""
    samples: pa.Array
    """What each medium is called where it survives."""
    preferred: pa.Table
    """What the preference reads, of each medium's first text."""


def _find(decider: Decider, level: Level, prefer: str, reads: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of `GroupRanks`.

    The pool is read once. What the preference needs of each medium goes to disk, in ranges of groups, and each range is
    put in order by itself: beside the arrays, which are pages of files, memory is that of the table of groups.
    """
    table, spill = GroupTable(decider, level), decider.spill
    begins, total = [0], 0
    with (
        ArrayWriter(spill, np.int32) as rows,
        ArrayWriter(spill, np.int32) as medium,
        StringsWriter(spill) as samples,
        Buckets(spill, even_bounds(table.group, _BUCKET_ROWS)) as members,
    ):
        for _, found in decider.each(partial(_grouped, decider, level, reads, table)):
            begins.append(begins[-1] + len(found.rows))
            rows.add(found.rows)
            medium.add(found.media + np.int32(total))
            samples.add(found.samples)
            num = len(found.places)
            numbers = {
                f"{PREFIX}member": pa.array(np.arange(total, total + num, dtype=np.int32)),
                f"{PREFIX}group": pa.array(table.group[found.places]),
                f"{PREFIX}place": pa.array(found.places),
            }
            preferred = dict(zip(found.preferred.column_names, found.preferred.columns, strict=True))
            members.add(table.group[found.places], pa.table(numbers | preferred))
            total += num
        del table.index  # the order needs memory of its own
        arrays = {"begins": np.array(begins), "rows": rows.done(), "medium": medium.done()}
        arrays |= samples.done().arrays("samples")
        return arrays | _in_order(decider, prefer, table, members)


def _in_order(decider: Decider, prefer: str, table: GroupTable, members: Buckets) -> dict[str, np.ndarray]:
    """`order`, `first` and `groups` of `GroupRanks`."""
    sql = database.query("select/preferred").replace("{prefer}", ordering_without_nan(prefer))
    total, firsts, numbers = 0, [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    with ArrayWriter(decider.spill, np.int32) as order, StringsWriter(decider.spill) as groups:
        for bucket in members.tables():
            decider.con.register("members", bucket)
            found = database.arrow(decider.con, sql)
            decider.con.unregister("members")
            order.add(found.column(f"{PREFIX}member").to_numpy())
            group = found.column(f"{PREFIX}group").to_numpy()
            first = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
            firsts.append((first + total).astype(np.int32))
            numbers.append(group[first])
            total += len(group)
        for names in table.names(np.concatenate(numbers)):
            groups.add(names)
        first = np.append(np.concatenate(firsts), np.int32(total))
        return {"order": order.done(), "first": first} | groups.done().arrays("groups")


def _grouped(decider: Decider, level: Level, reads: Sequence[str], table: GroupTable, batch: int) -> _Found:
    """The texts of one batch whose medium is in a group; a medium is what its first text says it is."""
    names = dict.fromkeys([level.uid, level.named_by, *reads])
    read = decider.rows.read(batch, list(names), keep=False)
    place = table.index.find(read.column(level.uid).combine_chunks())
    rows = np.flatnonzero(place >= 0).astype(np.int32)
    different, first, media = np.unique(place[rows], return_index=True, return_inverse=True)
    by_text = np.argsort(first)
    number = np.empty(len(by_text), np.int32)
    number[by_text] = np.arange(len(by_text))
    read = read.take(pa.array(rows[first[by_text]]))
    samples = read.column(level.named_by).combine_chunks()
    return _Found(rows, number[media], different[by_text], samples, read.select(list(reads)))
