"""Why a name has no address: libcurl does not say whether it does not exist or nobody could tell; the resolver does."""

from __future__ import annotations

import concurrent.futures
import socket
from typing import Generic, TypeVar

from curation.reasons import Reason

Item = TypeVar("Item")
_NUM_THREADS = 8


class Unresolved(Generic[Item]):
    """Items whose name is being asked about, off the caller's thread. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._asked: dict[concurrent.futures.Future[Reason], tuple[Item, float]] = {}
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, host: str, item: Item, due: float) -> None:
        """Ask about `host`; at `due` the answer is `net.dns_timeout`."""
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="why-unresolved")
        self._asked[self._pool.submit(why_unresolved, host)] = item, due

    def answered(self, now: float) -> list[tuple[Item, Reason]]:
        """Those that are known by now, which are then forgotten."""
        ended = [future for future, (_, due) in self._asked.items() if future.done() or now > due]
        return [
            (self._asked.pop(future)[0], future.result() if future.done() else Reason.NET_DNS_TIMEOUT)
            for future in ended
        ]

    def clear(self) -> None:
        """Forget all."""
        for future in self._asked:
            future.cancel()
        self._asked.clear()

    def close(self) -> None:
        """Let the threads go."""
        self.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def why_unresolved(host: str) -> Reason:
    """Ask the system's resolver. The address that it may give is never connected to."""
    try:
        socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except socket.gaierror as error:
        nowhere = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        return Reason.NET_DNS_NXDOMAIN if error.errno in nowhere else Reason.NET_DNS_SERVFAIL
    except UnicodeError:
        return Reason.NET_DNS_NXDOMAIN  # a label that no resolver takes
    return Reason.NET_DNS_SERVFAIL
