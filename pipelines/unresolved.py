"""Why a name has no address: libcurl does not say whether it does not exist or nobody could tell; the resolver does."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from curation.reasons import Reason

Item = TypeVar("Item")
_NUM_THREADS = 8
Asked = tuple["Future[Reason]", str]


class Unresolved(Generic[Item]):
    """Items whose name is being asked about, off the caller's thread. Times are seconds of one monotonic clock.

    The threads are daemons, which those of an executor are not: a resolver that is down answers a name in up to a
    minute, and the end of the process, or Ctrl-C, would wait for it.
    """

    def __init__(self) -> None:
        self._asked: dict[Future[Reason], tuple[Item, float]] = {}
        self._queue: SimpleQueue[Asked | None] | None = None

    def __len__(self) -> int:
        return len(self._asked)

    def ask(self, host: str, item: Item, due: float) -> None:
        """Ask about `host`; at `due` the answer is `net.dns_timeout`."""
        if self._queue is None:
            self._queue = SimpleQueue()
            for number in range(_NUM_THREADS):
                name = f"why-unresolved-{number}"
                threading.Thread(target=_answer, args=(self._queue,), name=name, daemon=True).start()
        future: Future[Reason] = Future()
        self._asked[future] = item, due
        self._queue.put((future, host))

    def answered(self, now: float) -> list[tuple[Item, Reason]]:
        """Those that are known by now, which are then forgotten; nobody is asked any more about those that are due."""
        ended = [future for future, (_, due) in self._asked.items() if future.done() or now > due]
        return [
            (self._asked.pop(future)[0], Reason.NET_DNS_TIMEOUT if _given_up(future) else future.result())
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
        if self._queue is not None:
            for _ in range(_NUM_THREADS):
                self._queue.put(None)
            self._queue = None


def _given_up(future: Future[Reason]) -> bool:
    """Whether there is no answer; one that was not asked for yet is then no longer waited for by those behind it."""
    return not future.done() and (future.cancel() or not future.done())


def _answer(queue: SimpleQueue[Asked | None]) -> None:
    """A thread: answer what is asked, until there is None."""
    while (asked := queue.get()) is not None:
        future, host = asked
        if future.set_running_or_notify_cancel():
            future.set_result(why_unresolved(host))


def why_unresolved(host: str) -> Reason:
    """Ask the system's resolver. The address that it may give is never connected to."""
    try:
        socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except OSError as error:  # which is no gaierror where a system call failed, such as for want of file descriptors
        nowhere = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        is_known = isinstance(error, socket.gaierror) and error.errno in nowhere
        return Reason.NET_DNS_NXDOMAIN if is_known else Reason.NET_DNS_SERVFAIL
    except UnicodeError:
        return Reason.NET_DNS_NXDOMAIN  # a label that no resolver takes
    return Reason.NET_DNS_SERVFAIL
