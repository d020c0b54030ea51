"""Finishing fetched rows on a thread of their own while others are still being fetched."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipelines.fetched import Fetched

MAX_WAITING_BYTES = 16_000_000
"""Fetched and not finished yet; above it the fetching thread finishes rows too, so that memory has a bound."""


def give_memory_back() -> None:
    """Return what Arrow and glibc hold for later use: a part's bodies leave holes that the next part's do not fit."""
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; elsewhere there is nothing to do
    if trim is not None:
        trim(0)


class Behind:
    """Calls `finish(index, fetched)` for every row that is `put`, most of them on a second thread.

    A context manager: at its end all rows are finished, and what `finish` raised is raised.
    """

    def __init__(self, finish: Callable[[int, Fetched], None], max_waiting_bytes: int = MAX_WAITING_BYTES) -> None:
        self._finish, self._max_waiting_bytes = finish, max_waiting_bytes
        self._waiting_bytes = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._futures: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=error is not None)
        if error is None:
            for future in self._futures:
                future.result()

    def put(self, index: int, fetched: Fetched) -> None:
        """Called by the fetching thread as each row ends."""
        size = len(fetched.body or b"")
        with self._lock:
            is_full = self._waiting_bytes + size > self._max_waiting_bytes
            self._waiting_bytes += 0 if is_full else size
        if is_full:
            self._finish(index, fetched)
        else:
            self._futures.append(self._pool.submit(self._work, index, fetched, size))

    def _work(self, index: int, fetched: Fetched, size: int) -> None:
        try:
            self._finish(index, fetched)
        finally:
            with self._lock:
                self._waiting_bytes -= size
