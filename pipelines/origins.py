"""What is known of each origin (scheme, host and port) in one run: its rules, and how it has behaved.

A circuit breaker: after so many transient failures in a row an origin is left alone for a while, then one request tries
again, and its outcome decides for those that wait.
"""

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from curation.reasons import Reason
from pipelines.site_rules import SiteRules

Item = TypeVar("Item")
MAX_ORIGINS = 20_000  # kept between calls; some 20 KB each where a robots.txt is long


@dataclass
class Origin(Generic[Item]):
    """One origin.

    rules: None until its files have been read. failure: why they cannot be read, where that is permanent.
    waiting: items that wait for the rules, or for the request that tries again.
    """

    rules: SiteRules | None = None
    failure: tuple[Reason, str] | None = None
    is_asking: bool = False  # its files are on their way
    waiting: list[Item] = field(default_factory=list)
    num_failures: int = 0  # transient ones, since the last answer
    closed_until: float = 0.0  # for the circuit: nothing is asked before
    trying: Item | None = None  # the item whose request is to find out how the origin is

    def take_waiting(self) -> list[Item]:
        """Those that waited; they wait no more."""
        taken, self.waiting = self.waiting, []
        return taken


class Origins(Generic[Item]):
    """All origins that were met. Times are seconds of one monotonic clock.

    max_failures: transient failures in a row after which the circuit opens. pause_s: for how long.
    """

    def __init__(self, max_failures: int, pause_s: float) -> None:
        self._max_failures, self._pause_s = max_failures, pause_s
        self._origins: dict[str, Origin[Item]] = {}

    def __getitem__(self, key: str) -> Origin[Item]:
        return self._origins.setdefault(key, Origin())

    def is_open(self, key: str, now: float) -> bool:
        """Whether nothing may be asked of the origin now."""
        return self[key].num_failures >= self._max_failures and now < self[key].closed_until

    def must_try(self, key: str, now: float) -> bool:
        """Whether one request, and only one, is to find out how the origin is."""
        return self[key].num_failures >= self._max_failures and now >= self[key].closed_until

    def answered(self, key: str) -> None:
        """The origin gave an answer, whatever it was, that another request would give too."""
        self[key].num_failures = 0
        self[key].trying = None

    def failed(self, key: str, now: float, weight: int = 1) -> None:
        """A transient failure. weight: as many as that."""
        origin = self[key]
        origin.trying = None
        origin.num_failures += weight
        if origin.num_failures >= self._max_failures:
            origin.closed_until = now + self._pause_s

    def forget_items(self) -> None:
        """After a call: nobody waits, nothing is under way. The origins that were met first are forgotten if many."""
        for origin in self._origins.values():
            origin.waiting, origin.is_asking, origin.trying = [], False, None
        for key in list(self._origins)[: max(0, len(self._origins) - MAX_ORIGINS)]:
            del self._origins[key]
