"""Places of uids among millions of known ones: by a hash of 64 bits first, then letter by letter."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.compiled import compiled
from pipelines import database

_FILL = 0.5
"""Share of the table's slots that may be taken: a look-up then meets one and a half of them on average."""
_PIECE = 1 << 20
"""Uids that are looked up, and compared letter by letter, at a time."""


class UidIndex:
    """Different known uids. Memory: the uids themselves and 12 to 24 bytes for each."""

    def __init__(self, con: database.Connection, uids: pa.Array) -> None:
        """`uids`: strings without nulls, none of them twice."""
        self.uids = uids
        self._hashes = hashes(con, uids)
        bits = max(4, int(np.ceil(np.log2(max(1, len(uids)) / _FILL))))
        self._slots = np.zeros(1 << bits, np.int32)  # 0: free; else the place of a uid, from 1
        _insert(self._hashes, self._slots)

    def find(self, con: database.Connection, wanted: pa.Array) -> np.ndarray:
        """int32: the place of each among the known uids; -1 for others and for nulls. Memory: 4 bytes for each."""
        pieces = (wanted.slice(start, _PIECE) for start in range(0, len(wanted), _PIECE))
        return np.concatenate([np.zeros(0, np.int32), *(self._find(con, piece) for piece in pieces)])

    def _find(self, con: database.Connection, wanted: pa.Array) -> np.ndarray:
        found: np.ndarray = _find(hashes(con, wanted), self._hashes, self._slots)
        if wanted.null_count:
            found[pc.is_null(wanted).to_numpy(zero_copy_only=False)] = -1
        rows = np.flatnonzero(found >= 0)
        same = pc.equal(self.uids.take(pa.array(found[rows])), wanted.take(pa.array(rows)).cast(self.uids.type))
        others = rows[~same.to_numpy(zero_copy_only=False)]
        if others.size:  # two uids of one hash: hardly ever
            places = pc.index_in(wanted.take(pa.array(others)).cast(self.uids.type), self.uids)
            found[others] = pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
        return found


def hashes(con: database.Connection, uids: pa.Array) -> np.ndarray:
    """uint64 of each, in their order. `con`: of one thread."""
    con.register("hashed_uids", pa.table({"uid": uids}))
    try:
        found: np.ndarray = database.arrow(con, "select hash(uid) as hash from hashed_uids").column(0).to_numpy()
        return found
    finally:
        con.unregister("hashed_uids")


@compiled
def _insert(known: np.ndarray, slots: np.ndarray) -> None:
    mask = np.uint64(slots.size - 1)
    for place in range(known.size):
        slot = known[place] & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = place + 1


@compiled
def _find(wanted: np.ndarray, known: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """The first place with the same hash; -1 where there is none."""
    mask = np.uint64(slots.size - 1)
    found = np.full(wanted.size, -1, np.int32)
    for row in range(wanted.size):
        slot = wanted[row] & mask
        while slots[slot] != 0:
            if known[slots[slot] - 1] == wanted[row]:
                found[row] = slots[slot] - 1
                break
            slot = (slot + np.uint64(1)) & mask
    return found
