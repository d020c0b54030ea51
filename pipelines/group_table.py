"""The media or texts of duplicate groups, by number, from the table of a search: read in pieces, kept as numbers.

A member's number is its place among those that are in groups, in the order of their uids. A group's number is that
of its first member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.table import read_group
from pipelines.decide import Decider
from pipelines.uid_index import Keys, UidIndex

_PIECE_ROWS = 100_000
"""Rows of a piece, where the table is in memory."""


class Level(NamedTuple):
    """What is in groups. table: of the search, with the columns uid and group. named_by: column by which a survivor is
    told."""

    table: str
    uid: str
    group: str
    named_by: str


OF_MEDIA = Level("duplicates", "media_uid", "duplicate_group", "sample_uid")
OF_TEXTS = Level("text_duplicates", "text_uid", "text_duplicate_group", "text_uid")


class _Piece(NamedTuple):
    """Members that follow each other."""

    uids: Keys
    names: Keys
    ends: tuple[str, str] | None
    """The first and the last uid; None where the piece has no members."""
    rises: bool


class GroupTable:
    """Members (M) and their groups. Memory: 21 bytes a member, 37 while they are read.

    index: of the uids. group: int32 (M), the number of each one's group.
    """

    def __init__(self, decider: Decider, level: Level = OF_MEDIA) -> None:
        self._decider, self._level = decider, level
        given = decider.searches.get(level.table, ())
        self._pieces = _pieces(given)
        found = self._read()
        if found is None:  # not as the stage dedupe writes it
            self._pieces = _pieces(_in_order(given, level))
            found = self._read()
        if found is None:
            raise ValueError(f"the table {level.table} has a {level.uid} twice")
        uids, names, self._sizes = found
        self.index = UidIndex(uids)
        self.group = self._numbered(names)

    def _read(self) -> tuple[Keys, Keys, list[int]] | None:
        """Keys of the uids and of the names of groups, and the members of each piece; None if the uids do not rise."""
        num_rows = sum(rows for rows, _ in self._pieces)
        uids, names = Keys.room(num_rows), Keys.room(num_rows)  # a page of it is taken when it is written to
        sizes: list[int] = []
        last: str | None = None
        for _, piece in self._decider.each(self._piece, range(len(self._pieces))):
            if piece.ends is not None and last is not None and piece.ends[0] <= last:
                return None
            if not piece.rises:
                return None
            last = piece.ends[1] if piece.ends is not None else last
            begin = sum(sizes)
            uids.put(begin, piece.uids)
            names.put(begin, piece.names)
            sizes.append(len(piece.uids.high))
        num = sum(sizes)
        return uids[:num], names[:num], sizes

    def _piece(self, number: int) -> _Piece:
        uids, names = self._columns(number, [self._level.uid, self._level.group])
        ends = (uids[0].as_py(), uids[-1].as_py()) if len(uids) else None
        rises = pc.all(pc.less(uids[:-1], uids[1:])).as_py() is not False
        return _Piece(Keys.of(uids), Keys.of(names), ends, rises)

    def _columns(self, number: int, names: Sequence[str]) -> list[pa.Array]:
        """Columns of the members of a piece."""
        group = self._level.group
        table = self._pieces[number][1](columns=list(dict.fromkeys([*names, group])))
        table = table.filter(pc.is_valid(table.column(group)))
        return [table.column(name).combine_chunks() for name in names]

    def _numbered(self, names: Keys) -> np.ndarray:
        """The number of each member's group."""
        group = self.index.find_keys(names)
        if (group < 0).any():  # names are those of members, where the stage dedupe gave them
            pairs = np.stack([names.high, names.low], axis=1)
            group = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
        del names
        first = np.zeros(int(group.max(initial=-1)) + 1, np.int32)
        first[group[::-1]] = np.arange(len(group) - 1, -1, -1, dtype=np.int32)  # the last one written stays
        numbers: np.ndarray = first[group]
        return numbers

    def names(self, numbers: np.ndarray) -> Iterator[pa.Array]:
        """The names of groups, by rising number, in pieces."""
        begins = np.concatenate([[0], np.cumsum(self._sizes)])
        cuts = np.searchsorted(numbers, begins)
        wanted = [place for place in range(len(self._sizes)) if cuts[place] < cuts[place + 1]]

        def read(place: int) -> pa.Array:
            (found,) = self._columns(place, [self._level.group])
            return found.take(pa.array(numbers[cuts[place] : cuts[place + 1]] - begins[place]))

        for _, found in self._decider.each(read, wanted):
            yield found


def _pieces(given: pa.Table | Sequence[Path]) -> list[tuple[int, Callable[..., pa.Table]]]:
    """Number of rows of each piece, and what reads its `columns`."""
    if isinstance(given, pa.Table):
        starts = range(0, given.num_rows, _PIECE_ROWS)
        slices = [given.slice(start, _PIECE_ROWS) for start in starts]
        return [(each.num_rows, lambda columns, each=each: each.select(columns)) for each in slices]
    return [
        (footer.row_group(number).num_rows, partial(read_group, path, number))
        for path, footer in ((path, pq.read_metadata(path)) for path in given)
        for number in range(footer.num_row_groups)
    ]


def _in_order(given: pa.Table | Sequence[Path], level: Level) -> pa.Table:
    """The whole table in memory, by uid."""
    names = [level.uid, level.group]
    whole = given if isinstance(given, pa.Table) else pa.concat_tables([pq.read_table(path) for path in given])
    whole = whole.select(names).cast(pa.schema([(name, pa.large_string()) for name in names]))
    return whole.filter(pc.is_valid(whole.column(level.group))).sort_by(level.uid)
