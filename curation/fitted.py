"""Fitted signals: what needs the pool before it can say anything about one row (negatives, clusters).

Two steps. `fit_pool` reads the columns of all parts once and makes a small table, the fit. `apply` then gives the
columns of any rows from those rows and the fit alone, so parts are computed apart, on any worker, as for every signal.
The stage that runs it stores the fit write-once, under a key made of the signal and of all parts that it read; what it
holds gives it its identity, and that is in the key of every part computed with it.

A pool that grows therefore has another fit, and the signal's parts are computed again: from stored embeddings, without
touching media. Who wants old rows to keep their numbers names the old fit in the field `fit`.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import pyarrow as pa

from curation.signal import Signal


class FittedSignal(Signal):
    """A signal of other columns, given a fit on the whole pool. Subclasses set `level` and implement the rest.

    Laws beyond those of `curation.signal`: the fit is the same however the pool is cut into parts and in whatever order
    these come; with one fit, apply(a + b) = apply(a) + apply(b).
    """

    not_in_key: ClassVar[frozenset[str]] = frozenset({"fit"})

    fit: str | None = None
    """A stored fit to use as it is: the first digits of its name in this store (the run says it), or the path of its
    file. None: fit on the pool as it is now."""

    @abstractmethod
    def fit_pool(self, parts: Iterable[pa.Table]) -> pa.Table:
        """The fit, from the columns `reads` of all rows of the pool, which come part by part, each time that they are
        gone through.

        It may hold a bounded number of rows of the pool at a time, never all of them.
        """

    @abstractmethod
    def apply(self, rows: pa.Table, fit: pa.Table) -> pa.Table:
        """The new columns for `rows` (which has the columns of `reads`), one row out for each row in."""


def content_digest(table: pa.Table) -> str:
    """SHA-256 (64 hex digits) of a table's columns and values, however it is cut into chunks."""
    sink = pa.BufferOutputStream()
    whole = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole)
    return hashlib.sha256(sink.getvalue()).hexdigest()
