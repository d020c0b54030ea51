"""Quotas: the place of every row among those that share its value, found in numbers; and whom a quota rejects.

1. `_counted_hashes`: one pass over all rows hashes the values of `per` (64 bits). Only a hash that more rows than
   `at_most` have can be over the quota: these are the crowds (`_Crowds`), and nothing more is asked of other rows.
2. `_crowded`: a second pass writes the crowds' rows to disk as a few numbers each: crowd, a second hash (of the value's
   sort key: values of one crowd that are not the same differ in it), the keyed digest of the row's unit (a sample or a
   text) by which places are drawn, and whether the row is counted.
3. They lie in buckets, ranges of the order crowd, value, digest (`_Crowds.rank` says in advance about where in it a row
   will come), so each bucket is put in order by itself and memory is that of one; or of the largest crowd where the
   quota prefers some rows, for then the digest alone gives no place.
4. `_placed`: in order, a value's rows stand together, and its units in the order of their first rows: the place of a
   row is that of its unit. A value may go on in the next bucket (`_Values`); no unit does: its rows share a digest.
5. `_rejected`: back in the order of the batches, a row is out if its value has too many units and, where the quota
   thins, if its place is beyond `at_most`.

That two of N different values, or units, agree in all their 128 bits is less likely than N^2 / 2^129, as with uids
(`pipelines/uid_index.py`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.compiled import compiled
from curation.policy import Quota
from pipelines import database
from pipelines.buckets import Buckets
from pipelines.cut import more_than
from pipelines.decide import Decider, passed_before
from pipelines.row_wise import ordering_expression, ordering_without_nan
from pipelines.rule_sql import PREFIX
from pipelines.strings import ArrayWriter
from pipelines.uid_index import Keys

LAYOUT = 1
"""Of the arrays that are kept."""
_BUCKET_ROWS = 1 << 20
"""Rows that are put in order at a time: some 100 MB."""
_MAX_BUCKETS = 256
"""Files that are open at a time."""
_HASH = "hash({per}\n)"
_SECOND_HASH = (
    # of another string than the first one hashes; equal intervals may have different sort keys
    "case when typeof({per}\n) like '%INTERVAL%' then 0::ubigint "
    "else hash('#'::blob || create_sort_key(({per}\n), 'ASC NULLS LAST')) end"
)
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: spreads numbers that follow each other."""
_TWO_TO_64 = 2.0**64


class OverQuota:
    """What a quota says of the rows that it rejects, batch by batch.

    begins: int64 (B + 1), where the rejected rows of each batch begin. rows: int32, their places in the batch, rising.
    num: int32, units that their value has. place: int32, that of the row's unit among them; 0 where it has none.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._begins, self._rows = arrays["begins"], arrays["rows"]
        self._said = {"num": arrays["num"], "place": arrays["place"]}

    def _of(self, batch: int) -> slice:
        return slice(*self._begins[batch : batch + 2].tolist())

    def lost(self, batch: int, size: int) -> np.ndarray:
        """bool (size): which rows of a batch are rejected."""
        found = np.zeros(size, bool)
        found[self._rows[self._of(batch)]] = True
        return found

    def column(self, name: str, batch: int, size: int) -> pa.Array:
        """`num` or `place` of all rows of a batch, null where they are not rejected or have none."""
        values = np.zeros(size, np.int64)
        values[self._rows[self._of(batch)]] = self._said[name][self._of(batch)]
        return pa.array(values, mask=values == 0)


def over_quota(decider: Decider, n: int, item: Quota) -> Mapping[str, np.ndarray]:
    """The arrays of `OverQuota`."""
    until, spill = n if item.among == "passed" else 0, decider.spill
    hashes = partial(_counted_hashes, decider, n, item, until)
    crowds = _Crowds(*more_than([found for _, found in decider.each(hashes)], item.at_most))
    if not len(crowds.hashes):
        none = np.zeros(0, np.int32)
        return {"begins": np.zeros(len(decider.sizes) + 1, np.int64), "rows": none, "num": none, "place": none}
    begins = [0]
    with (
        ArrayWriter(spill, np.int32) as rows,
        Buckets(spill, _even(int(crowds.sizes.sum()))) as members,
    ):
        for _, found in decider.each(partial(_crowded, decider, n, item, until, crowds)):
            rows.add(found.rows)
            numbers = pa.array(np.arange(begins[-1], begins[-1] + len(found.rows)))
            members.add(found.rank, found.table.append_column(f"{PREFIX}number", numbers))
            begins.append(begins[-1] + len(found.rows))
        placed = _placed(decider, item, members.tables(), begins[-1])
        return _rejected(item, begins, rows.done(), placed, spill)


def _even(num: int) -> np.ndarray:
    """int64, rising: bounds of ranges of `num` rows."""
    step = max(_BUCKET_ROWS, -(-num // _MAX_BUCKETS))
    return np.arange(step, num, step)


# who shares a value ---------------------------------------------------------------------------------------------------


def _hash_of(item: Quota) -> str:
    return f"case when ({item.per}\n) is not null then {_HASH.format(per=item.per)} end"


def _counted_hashes(decider: Decider, n: int, item: Quota, until: int, batch: int) -> np.ndarray:
    """uint64: of the values of those rows that are counted."""
    found, passed = decider.asked(batch, until, decider.reads[n], {"value": _hash_of(item)})
    counted = pc.is_valid(found.column("value"))
    counted = pc.and_(counted, passed) if item.among == "passed" else counted
    values: np.ndarray = found.column("value").filter(counted).to_numpy()
    return values


@dataclass(frozen=True)
class _Crowds:
    """Hashes of values that may have too many rows, rising, and how many rows are counted of each."""

    hashes: np.ndarray
    sizes: np.ndarray

    def find(self, hashes: pa.ChunkedArray) -> np.ndarray:
        """int32: the place of each hash among them; -1 for others and for nulls."""
        wanted = pc.fill_null(hashes, pa.scalar(0, pa.uint64())).to_numpy()
        place = np.minimum(np.searchsorted(self.hashes, wanted), len(self.hashes) - 1).astype(np.int32)
        there = (self.hashes[place] == wanted) & hashes.is_valid().to_numpy()
        return np.where(there, place, np.int32(-1))

    def rank(self, place: np.ndarray, high: np.ndarray, drawn: bool) -> np.ndarray:
        """int64: about where a row will come in the order of all. `drawn`: whether only the digest (its upper half:
        `high`) gives the places of a value; if not, all of its rows are said to begin where it begins."""
        begins: np.ndarray = (np.cumsum(self.sizes) - self.sizes)[place]
        if drawn:
            inside = (high / _TWO_TO_64 * self.sizes[place]).astype(np.int64)
            begins += np.minimum(inside, self.sizes[place] - 1)
        return begins


@dataclass(frozen=True)
class _Members:
    """Rows of one batch whose values may have too many."""

    rows: np.ndarray
    """int32, rising: their places in the batch."""
    rank: np.ndarray
    """int64: about where each will come in the order of all."""
    table: pa.Table
    """What the order needs of them."""


def _crowded(decider: Decider, n: int, item: Quota, until: int, crowds: _Crowds, batch: int) -> _Members:
    unit = "sample_uid" if item.unit == "samples" else "text_uid"
    table = decider.rows.read(batch, list(dict.fromkeys([*decider.reads[n], unit])))
    with decider.candidates(table) as con:
        crowd = crowds.find(database.arrow(con, f"select {_hash_of(item)} as value from candidates").column("value"))
    passed = passed_before(decider, batch, until).to_numpy(zero_copy_only=False)
    wanted = crowd >= 0 if item.more == "drop" else (crowd >= 0) & passed
    rows = np.flatnonzero(wanted).astype(np.int32)
    table = table if len(rows) == table.num_rows else table.take(pa.array(rows))
    digest = f"md5({database.literal(f'{item.seed}:')} || {database.quoted(unit)})"
    with decider.candidates(table) as con:
        sql = f"select {_SECOND_HASH.format(per=item.per)} as value, {digest} as unit from candidates"
        found = database.arrow(con, sql)
    units = Keys.of(found.column("unit").combine_chunks())
    columns = {
        f"{PREFIX}crowd": pa.array(crowd[rows]),
        f"{PREFIX}value": found.column("value"),
        f"{PREFIX}high": pa.array(units.high),
        f"{PREFIX}low": pa.array(units.low),
        f"{PREFIX}counted": pa.array(passed[rows]),
    }
    columns |= {name: table.column(name) for name in _preferred_by(item) if name in decider.known}
    rank = crowds.rank(crowd[rows], units.high, drawn=item.prefer is None)
    return _Members(rows, rank, pa.table(columns))


def _preferred_by(item: Quota) -> Sequence[str]:
    return database.columns_of(ordering_expression(item.prefer)) if item.prefer else ()


# the order ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Placed:
    """Of each member: place, that of its unit (int32, from 1; 0: not counted), value, the number of its value (int32).
    num: units of each value."""

    place: np.ndarray
    value: np.ndarray
    num: np.ndarray


class _Values:
    """The values, numbered as they come in order, and how many units each has.

    A value that goes on in the next bucket is of the crowd in which its bucket ends, so only values of that crowd are
    remembered by their second hash.
    """

    def __init__(self) -> None:
        self._num: list[np.ndarray] = []  # of all values of a bucket: their units, so far
        self._size = 0
        self._whole: dict[int, int] = {}  # number of a value that went on -> its units, so far
        self._open: dict[tuple[int, int], tuple[int, int]] = {}  # crowd and second hash -> number, units so far

    def add(self, crowd: np.ndarray, hashed: np.ndarray, num: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The values of the next bucket, in order, and how many units each has in it; returns int64: their numbers, and
        how many units each had in the buckets before."""
        number, before = np.arange(self._size, self._size + len(num)), np.zeros(len(num), np.int64)
        for at in np.flatnonzero(crowd == crowd[0]).tolist():
            known = self._open.get((int(crowd[at]), int(hashed[at])))
            if known is not None:
                number[at], before[at] = known
                self._whole[known[0]] = known[1] + int(num[at])
        upto = before + num
        self._num.append(upto)
        self._size += len(num)
        self._open = {name: known for name, known in self._open.items() if name[0] == crowd[-1]}
        for at in np.flatnonzero(crowd == crowd[-1]).tolist():
            self._open[int(crowd[at]), int(hashed[at])] = int(number[at]), int(upto[at])
        return number, before

    def num(self) -> np.ndarray:
        """int64: units of each value, by number. After the last bucket."""
        whole = np.concatenate(self._num)
        whole[list(self._whole)] = list(self._whole.values())
        return whole


def _placed(decider: Decider, item: Quota, members: Iterable[pa.Table], num: int) -> _Placed:
    """What the order of the `num` members says of each of them."""
    places, numbers, values = _room(decider.spill, num), _room(decider.spill, num), _Values()
    for bucket in members:
        order = _drawn(bucket) if item.prefer is None else _preferred(decider.con, item.prefer, bucket)
        crowd, hashed, high, low, counted, member = (
            bucket.column(f"{PREFIX}{name}").to_numpy()[order]
            for name in ("crowd", "value", "high", "low", "counted", "number")
        )
        differs = (crowd[1:] != crowd[:-1]) | (hashed[1:] != hashed[:-1])
        begins = np.flatnonzero(np.append(True, differs))
        value = np.repeat(np.arange(len(begins), dtype=np.int32), np.diff(begins, append=len(order)))
        first = _first_of_unit(value, high, low, counted)
        is_first = first == np.arange(len(first))
        upto = np.cumsum(is_first)  # units in all rows until this one
        units = np.add.reduceat(is_first.astype(np.int64), begins)
        number, before = values.add(crowd[begins], hashed[begins], units)
        place = upto[first] - (upto[begins] - is_first[begins] - before)[value]
        places[member] = np.where(counted, place, 0)
        numbers[member] = number[value]
    return _Placed(places, numbers, values.num())


def _drawn(bucket: pa.Table) -> np.ndarray:
    """Rows by value, then by digest."""
    crowd, value, high, low = (
        bucket.column(f"{PREFIX}{name}").to_numpy() for name in ("crowd", "value", "high", "low")
    )
    order = np.argsort(high)
    order = order[np.argsort(crowd[order], kind="stable")]
    keys = [key[order] for key in (crowd, value, high, low)]
    crowd_too, value_too, high_too, low_too = (key[1:] == key[:-1] for key in keys)
    # nearly always these two say it all, and one order of four keys takes four times as long
    if (crowd_too & (~value_too | (high_too & ~low_too))).any():
        order = np.lexsort((low, high, value, crowd))
    return order


def _preferred(con: database.Connection, prefer: str, bucket: pa.Table) -> np.ndarray:
    """Rows by value, then by the quota's ordering, then by digest."""
    con.register("crowded", bucket.append_column(f"{PREFIX}row", pa.array(np.arange(bucket.num_rows))))
    found = database.arrow(con, database.query("select/crowded").replace("{prefer}", ordering_without_nan(prefer)))
    con.unregister("crowded")
    order: np.ndarray = found.column(f"{PREFIX}row").to_numpy()
    return order


def _room(folder: Path | None, num: int) -> np.ndarray:
    """int32 (num, at least 1), in a nameless file that lives as long as it does."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(4 * num)
        return np.memmap(file, np.int32, "r+", shape=(num,))


@compiled
def _first_of_unit(value: np.ndarray, high: np.ndarray, low: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """int32: for each counted row the first one of its value and unit (`high`, `low`); -1 for others."""
    size = 2
    while size < 2 * value.size:
        size *= 2
    slots, first = np.full(size, -1, np.int32), np.full(value.size, -1, np.int32)
    for row in range(value.size):
        if not counted[row]:
            continue
        slot = np.int64((low[row] ^ (np.uint64(value[row]) * _MIX)) & np.uint64(size - 1))
        while first[row] < 0:
            other = slots[slot]
            if other < 0:
                slots[slot] = first[row] = row
            elif value[other] == value[row] and high[other] == high[row] and low[other] == low[row]:
                first[row] = other
            slot = (slot + 1) & (size - 1)
    return first


# the answer -----------------------------------------------------------------------------------------------------------


def _rejected(
    item: Quota, begins: Sequence[int], rows: np.ndarray, placed: _Placed, spill: Path | None
) -> dict[str, np.ndarray]:
    """The arrays of `OverQuota`, of members by batch (`begins`)."""
    ends = [0]
    with (
        ArrayWriter(spill, np.int32) as lost,
        ArrayWriter(spill, np.int32) as nums,
        ArrayWriter(spill, np.int32) as places,
    ):
        for begin, end in pairwise(begins):
            num, place = placed.num[placed.value[begin:end]], placed.place[begin:end]
            over = num > item.at_most
            if item.more == "thin":
                over &= place > item.at_most
            lost.add(rows[begin:end][over])
            nums.add(num[over])
            places.add(place[over])
            ends.append(ends[-1] + int(over.sum()))
        return {"begins": np.array(ends), "rows": lost.done(), "num": nums.done(), "place": places.done()}
