"""Finishing fetched rows on a thread of their own while others are still being fetched."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipelines.fetched import Fetched

MAX_WAITING_BYTES = 20_000_000
"""Fetched and not finished yet, with what those under way will bring; above it nothing more should be asked for."""

MAX_TOGETHER = 32
"""Rows that are finished at a time."""
MAX_TOGETHER_BYTES = 4_000_000
"""Of their bodies; the one with which they exceed it is the last."""
Row = tuple[int, Fetched]


def give_memory_back() -> None:
    """Return what Arrow and glibc hold for later use: a part's bodies leave holes that the next part's do not fit."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; elsewhere there is nothing to do
    if trim is not None:
        trim(0)


class Behind:
    """Calls `finish([(index, fetched), ...])` with the rows that were `put`, as many as wait, on a second thread, in
    their order.

    A context manager: at its end all rows are finished. What `finish` raises ends the thread, and is raised by the next
    `put` or `is_full` and at the end. After an exception, its own or the caller's, rows that wait are dropped.
    """

    def __init__(self, finish: Callable[[Sequence[Row]], None], max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._finish, self._max_waiting_bytes = finish, max_waiting_bytes
        self._waiting_bytes = 0
        self._num_put = self._put_bytes = 0
        self._lock = threading.Lock()
        self._rows: SimpleQueue[Row | None] = SimpleQueue()
        self._is_given_up = self._has_ended = False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._working = self._pool.submit(self._work)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._is_given_up = error is not None
        self._rows.put(None)
        self._pool.shutdown()
        while not self._rows.empty():
            row = self._rows.get()
            if row is not None:
                row[1].drop_body()
        if error is None:
            self._working.result()

    def put(self, index: int, fetched: Fetched) -> None:
        """Called by the fetching thread as each row ends."""
        if self._has_ended:
            fetched.drop_body()
            self._raise()
        size = len(fetched.body or b"")
        self._num_put += 1
        self._put_bytes += size
        with self._lock:
            self._waiting_bytes += size
        self._rows.put((index, fetched))

    def is_full(self, num_under_way: int) -> bool:
        """Whether so much waits that nothing more should be asked for. Requests under way are taken to bring as much as
        those that have ended did on average."""
        self._raise()
        expected_bytes = num_under_way * self._put_bytes / max(1, self._num_put)
        return self._waiting_bytes + expected_bytes > self._max_waiting_bytes

    def _raise(self) -> None:
        if self._has_ended:
            self._working.result()

    def _work(self) -> None:
        try:
            self._work_on()
        finally:
            self._has_ended = True

    def _work_on(self) -> None:
        while rows := self._next_rows():
            size = sum(len(fetched.body or b"") for _, fetched in rows)
            try:
                if not self._is_given_up:
                    self._finish(rows)
            finally:
                for _, fetched in rows:
                    fetched.drop_body()
                with self._lock:
                    self._waiting_bytes -= size

    def _next_rows(self) -> list[Row]:
        """Those that wait, at least one; none at the end."""
        rows: list[Row] = []
        size = 0
        while len(rows) < MAX_TOGETHER and size < MAX_TOGETHER_BYTES:
            try:
                row = self._rows.get(block=not rows)
            except Empty:
                break
            if row is None:
                if rows:
                    self._rows.put(None)  # it is the last, so it stays so
                break
            rows.append(row)
            size += row[1].num_bytes()
        return rows
