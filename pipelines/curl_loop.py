"""libcurl's multi handle on a selector: which transfers are under way, and which have ended."""

import resource
import selectors
import time
from collections.abc import Iterator

import pycurl

MIN_KEPT_CONNECTIONS = 256
"""Open connections kept for the next link of their host, also where fewer are in use: a TLS handshake costs 1 ms."""


OTHER_FILES = 128
"""Open files of the process that are no connections."""


def allow_files(count: int) -> int:
    """Let this process have so many open files, as far as it may (many systems begin with 1,024); returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return count
    soft = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


class CurlLoop:
    """Drives easy handles on one thread."""

    def __init__(self, max_connections: int) -> None:
        self._selector = selectors.DefaultSelector()
        self._due: float | None = None  # libcurl's own clock
        self._num_running = 0  # as libcurl said last
        self.multi = pycurl.CurlMulti()
        self.multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self.multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        kept = max(MIN_KEPT_CONNECTIONS, 2 * max_connections)
        room = allow_files(kept + 2 * max_connections + OTHER_FILES) - 2 * max_connections - OTHER_FILES
        self.multi.setopt(pycurl.M_MAXCONNECTS, max(1, min(kept, room)))

    def step(self, until: float) -> None:
        """Wait for something to happen, at most until then (monotonic seconds), and let libcurl deal with it."""
        due = until if self._due is None else min(until, self._due)
        for key, mask in self._selector.select(max(0.0, due - time.monotonic())):
            bits = (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
                pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
            )
            _, self._num_running = self.multi.socket_action(key.fd, bits)
        if self._due is not None and self._due <= time.monotonic():
            self._due = None
            _, self._num_running = self.multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def ended(self, num_added: int) -> Iterator[tuple[pycurl.Curl, int, str]]:
        """Handles that are done, each with libcurl's error (0 if none) and its words. num_added: handles that have been
        added and not been removed: if all of them are running, none is done."""
        num_left = int(self._num_running < num_added)
        while num_left:
            num_left, done, failed = self.multi.info_read()
            yield from ((curl, 0, "") for curl in done)
            yield from failed

    def close(self) -> None:
        """Close all connections."""
        self.multi.close()
        self._selector.close()

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
            return
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        if fd in self._selector.get_map():
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def _on_timer(self, timeout_ms: int) -> None:
        self._due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
