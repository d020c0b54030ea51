"""What the demo's server was asked and answered."""

import threading
from collections import Counter
from typing import Any

SETTLE_S = 1.0
"""How long counts wait for the end of answers under way: a client may have the last byte before that is counted."""


class Counters:
    """What was asked and answered, safe to count from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._status: Counter[str] = Counter()
        self._in_flight = self._most_in_flight = 0

    def add(self, name: str, amount: int = 1) -> None:
        with self._lock:
            self._counts[name] += amount

    def enter(self) -> None:
        with self._lock:
            self._counts["requests"] += 1
            self._in_flight += 1
            self._most_in_flight = max(self._most_in_flight, self._in_flight)

    def leave(self, status: int, body_bytes: int) -> None:
        with self._lock:
            self._in_flight -= 1
            self._status[str(status)] += 1
            self._counts["body_bytes"] += body_bytes
            self._lock.notify_all()

    def as_dict(self) -> dict[str, Any]:
        names = ("connections", "requests", "body_bytes", "client_aborts", "forbidden_hits")
        with self._lock:
            self._lock.wait_for(lambda: self._in_flight == 0, SETTLE_S)
            counts = {name: self._counts[name] for name in names}
            return counts | {"max_in_flight": self._most_in_flight, "status": dict(sorted(self._status.items()))}
