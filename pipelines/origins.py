"""What is known of each origin (scheme, host and port) in one run: its rules, and how it has behaved.

A circuit breaker: after so many links in a row that failed for now, an origin rests for a while; then one request tries
again, and its outcome decides for those that wait. Where that fails too, the origin is down: its links end without a
request, until a next one tries. A server that restarts so costs its links a pause, and a dead one costs a part little.
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
    is_down: bool = False  # the request that tried again failed too
    rests_until: float = 0.0  # nothing is asked before
    trying: Item | None = None  # the item whose request is to find out how the origin is

    def take_waiting(self) -> list[Item]:
        """Those that waited; they wait no more."""
        taken, self.waiting = self.waiting, []
        return taken


class Origins(Generic[Item]):
    """All origins that were met. Times are seconds of one monotonic clock.

    max_failures: transient failures in a row after which an origin rests. pause_s: for how long.
    """

    def __init__(self, max_failures: int, pause_s: float) -> None:
        self._max_failures, self._pause_s = max_failures, pause_s
        self._origins: dict[str, Origin[Item]] = {}

    def __getitem__(self, key: str) -> Origin[Item]:
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin()
        return origin

    def rests_until(self, key: str, now: float) -> float | None:
        """When the origin may be asked again, if that is later than now."""
        until = self[key].rests_until
        return until if now < until else None

    def is_down(self, key: str, now: float) -> bool:
        """Whether it rests because a second look at it failed too: nothing more is asked for the links it has now."""
        origin = self[key]
        return origin.is_down and now < origin.rests_until

    def must_try(self, key: str) -> bool:
        """Whether one request, and only one, is to find out how the origin is, once it has rested."""
        return self[key].num_failures >= self._max_failures

    def answered(self, key: str) -> None:
        """The origin gave an answer, whatever it was, that another request would give too."""
        origin = self[key]
        origin.num_failures, origin.is_down, origin.rests_until, origin.trying = 0, False, 0.0, None

    def failed(self, key: str, now: float) -> None:
        """A transient failure."""
        origin = self[key]
        origin.is_down |= origin.trying is not None
        origin.trying = None
        origin.num_failures += 1
        if origin.num_failures >= self._max_failures:
            origin.rests_until = now + self._pause_s

    def is_lost(self, key: str, now: float) -> None:
        """It failed again and again at what stands before all of its links (robots.txt): down at once."""
        origin = self[key]
        origin.trying, origin.is_down = None, True
        origin.num_failures = max(origin.num_failures, self._max_failures)
        origin.rests_until = now + self._pause_s

    def forget_items(self) -> None:
        """After a call: nobody waits, nothing is under way. The origins that were met first are forgotten if many."""
        for origin in self._origins.values():
            origin.waiting, origin.is_asking, origin.trying = [], False, None
        for key in list(self._origins)[: max(0, len(self._origins) - MAX_ORIGINS)]:
            del self._origins[key]
