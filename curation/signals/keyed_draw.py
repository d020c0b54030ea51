"""Keyed draw: the one random number of a text, the same in every run."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import pyarrow as pa

from curation.signal import ColumnSignal, Level, as_table


def keyed_draw(uid: str, seed: int) -> float:
    """A number in [0, 1): the upper 53 bits of BLAKE2b of the uid, keyed with the seed."""
    hashed = hashlib.blake2b(uid.encode(), digest_size=8, key=str(seed).encode(), person=b"tamis.draw")
    return (int.from_bytes(hashed.digest(), "big") >> 11) / 2.0**53


class KeyedDraw(ColumnSignal):
    """A uniform draw for each text that depends on its uid and the seed alone: never on order, part or number of rows.

    A text is sampled where `draw` is below its keep probability, so a larger probability keeps a superset.
    Column: `draw`, float64, 0 to below 1 in steps of 2^-53. Unit: none. Model: none. Source: BLAKE2b (RFC 7693).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    seed: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("text_uid",)

    def writes(self) -> pa.Schema:
        return pa.schema({"draw": pa.float64()})

    def compute(self, rows: pa.Table) -> pa.Table:
        uids = rows.column("text_uid").to_pylist()
        return as_table({"draw": [None if uid is None else keyed_draw(uid, self.seed) for uid in uids]}, self.writes())


class KeyedSampleDraw(ColumnSignal):
    """The same for a sample: all of its texts have one draw, so that a share of the pool has whole samples.

    `sample_draw < 0.05` keeps a twentieth of the samples, and they are among those that `sample_draw < 0.25` keeps: a
    ladder of subsets. Column: `sample_draw`, float64, 0 to below 1 in steps of 2^-53. Unit: none. Model: none. Source:
    BLAKE2b (RFC 7693).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    seed: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("sample_uid",)

    def writes(self) -> pa.Schema:
        return pa.schema({"sample_draw": pa.float64()})

    def compute(self, rows: pa.Table) -> pa.Table:
        uids = rows.column("sample_uid").to_pylist()
        draws = {uid: keyed_draw(uid, self.seed) for uid in set(uids) - {None}}
        return as_table({"sample_draw": [draws.get(uid) for uid in uids]}, self.writes())
