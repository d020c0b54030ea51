"""Who is asked next: one queue for each host, taken in turn, with a limit on what is under way at each.

A host with a long queue, a slow one and one that asked for a pause hold up nobody else.
"""

import collections
import heapq
import itertools
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass
class _Host(Generic[Item]):
    queue: collections.deque[Item] = field(default_factory=collections.deque)
    num_active: int = 0
    not_before: float = 0.0
    is_listed: bool = False  # among those that `pop` looks at, or among those that wait


class HostQueues(Generic[Item]):
    """Items by host. Times are seconds of one monotonic clock, given by the caller.

    max_active: items of one host that may be popped and not yet released.
    """

    def __init__(self, max_active: int) -> None:
        self._max_active = max_active
        self._hosts: dict[str, _Host[Item]] = {}
        self._ready: collections.deque[_Host[Item]] = collections.deque()
        self._waiting: list[tuple[float, int, _Host[Item], Item | None]] = []
        self._order = itertools.count()  # breaks ties, so that items need no order of their own

    def push(self, host: str, item: Item, now: float, in_front: bool = False) -> None:
        """Add an item; in front for one that goes on with what was begun."""
        entry = self._hosts.setdefault(host, _Host())
        (entry.queue.appendleft if in_front else entry.queue.append)(item)
        self._list(entry, now)

    def push_later(self, host: str, item: Item, due: float) -> None:
        """Add an item once `due` has come."""
        entry = self._hosts.setdefault(host, _Host())
        heapq.heappush(self._waiting, (due, next(self._order), entry, item))

    def pop(self, now: float) -> Item | None:
        """The next item that may be started, each host in turn; None if there is none now."""
        self._wake(now)
        while self._ready:
            entry = self._ready.popleft()
            entry.is_listed = False
            if entry.not_before > now:
                self._list(entry, now)
                continue
            item = entry.queue.popleft()
            entry.num_active += 1
            self._list(entry, now)
            return item
        return None

    def release(self, host: str, now: float) -> None:
        """One of the host's items is done."""
        entry = self._hosts[host]
        entry.num_active -= 1
        self._list(entry, now)

    def pause(self, host: str, until: float) -> None:
        """Start nothing more at this host before `until`."""
        entry = self._hosts[host]
        entry.not_before = max(entry.not_before, until)

    def next_due(self) -> float | None:
        """When something that waits may be started; None if nothing waits."""
        return self._waiting[0][0] if self._waiting else None

    def clear(self, now: float) -> None:
        """Forget all items; a host's wish for a pause is kept."""
        self._hosts = {name: _Host(not_before=h.not_before) for name, h in self._hosts.items() if h.not_before > now}
        self._ready.clear()
        self._waiting.clear()

    def _list(self, entry: _Host[Item], now: float) -> None:
        if entry.is_listed or not entry.queue or entry.num_active >= self._max_active:
            return
        entry.is_listed = True
        if entry.not_before > now:
            heapq.heappush(self._waiting, (entry.not_before, next(self._order), entry, None))
        else:
            self._ready.append(entry)

    def _wake(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, _, entry, item = heapq.heappop(self._waiting)
            if item is None:
                entry.is_listed = False
            else:
                entry.queue.append(item)
            self._list(entry, now)
