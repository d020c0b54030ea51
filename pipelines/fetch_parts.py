"""The links of several parts through one fetcher, so that the hosts that hang at the end of one part hold up no other.

Parts are opened one after the other as connections come free, and each ends as its last row does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines import img2dataset_engine
from pipelines.behind import Behind
from pipelines.download_options import Download
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched, Link, Validators
from pipelines.img2dataset_folder import held_rows
from pipelines.media_row import fetched_rows, unfetched_row
from pipelines.takedowns import Takedowns, taken

MAX_OPEN_ROWS = 10_000
"""Rows of the parts that are open at a time, where these are more than two: what a worker that dies has to fetch again.
At 300 rows a second it takes the time that hosts without an answer take, with all attempts, to use them up."""
FED_ROWS = 250
"""Links that the fetcher is given at a time."""


@dataclass
class OpenPart:
    """A part's links and what becomes of their rows.

    put(position, row): a row of `media` for the link at this position, in any order. end(): after the last one.
    failed_before: whether all of them failed in an earlier run. validators: of each link, where its bytes are wanted
    only if they changed. takes_held: whether bytes that are in a folder already are taken from there.
    """

    number: int
    links: Sequence[dict[str, Any]]
    put: Callable[[int, dict[str, Any]], None]
    end: Callable[[], None]
    failed_before: bool = False
    validators: Sequence[Validators | None] = ()
    takes_held: bool = False
    num_left: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_left = len(self.links)


def fetch_parts(parts: Iterator[OpenPart], settings: Download, num_workers: int, run_id: str, spool: Path) -> None:
    """Fetch the links of all parts, each taken from `parts` when there is room for it. spool: folder for bodies too
    large for memory: that of the table, whose store says what was taken down."""
    takedowns = Takedowns.of(spool.parent.parent)
    if settings.engine == "img2dataset":
        for part in parts:
            _by_img2dataset(part, settings, takedowns)
        return
    fetcher = _fetcher(settings.fetch, num_workers, run_id, spool)
    feed = _Feed(parts, settings, takedowns)
    with Behind(feed.finish) as behind:
        fetcher.fetch(feed.more, behind.put, behind.is_full)


@lru_cache(maxsize=2)
def _fetcher(options: FetchOptions, num_workers: int, _run_id: str, spool: Path) -> Fetcher:
    """This worker's fetcher: what it learns of hosts holds for one run."""
    return Fetcher(options, max(1, num_workers), spool)


def _by_img2dataset(part: OpenPart, settings: Download, takedowns: Takedowns) -> None:
    todo = _put_unfetched(part, settings, takedowns)
    found = img2dataset_engine.run_part([part.links[i] for i in todo], settings)
    for position, columns in zip(todo, found, strict=True):
        part.put(position, takedowns.applied(unfetched_row(part.links[position]) | {"reason": None, **columns}))
    part.end()


def _put_unfetched(part: OpenPart, settings: Download, takedowns: Takedowns) -> list[int]:
    """Put the rows of links that are refused by their URL, taken down or held already; returns the positions of the
    others."""
    todo = set(range(len(part.links)))
    for position, row in _unfetched(part, settings, takedowns):
        if position in todo:  # what was taken down may be held in a folder, too
            part.put(position, takedowns.applied(row))
            todo.discard(position)
    part.num_left = len(todo)
    return sorted(todo)


def _unfetched(part: OpenPart, settings: Download, takedowns: Takedowns) -> Iterator[tuple[int, dict[str, Any]]]:
    for position, link in enumerate(part.links):
        entry = takedowns.entry_for_link(link["url_canonical"])
        if entry is not None:
            yield position, taken(unfetched_row(link), entry)
        elif link["url_canonical"] is None:
            yield position, unfetched_row(link)
    if part.takes_held:
        yield from held_rows(part.links, settings)


class _Feed:
    """Between parts and fetcher. `more` is called in the fetching thread, `finish` in the one behind it."""

    def __init__(self, parts: Iterator[OpenPart], settings: Download, takedowns: Takedowns) -> None:
        self._parts, self._settings, self._takedowns = parts, settings, takedowns
        self._part: OpenPart | None = None  # whose links are being given
        self._todo: list[int] = []  # positions of those links, the next one last
        self._given: dict[int, tuple[OpenPart, int]] = {}  # number at the fetcher -> part and position
        self._num_given = 0
        self._lock = threading.Lock()
        self._num_open_parts = self._num_open_rows = 0

    def more(self) -> list[Link] | None:
        """Some links; none where enough parts are open; None after the last part."""
        while not self._todo:
            if self._num_open_parts >= 2 and self._num_open_rows >= MAX_OPEN_ROWS:
                return []
            self._part = next(self._parts, None)
            if self._part is None:
                return None
            self._open(self._part)
        part = self._part
        assert part is not None
        links = []
        for _ in range(min(FED_ROWS, len(self._todo))):
            position = self._todo.pop()
            self._given[self._num_given] = part, position
            self._num_given += 1
            validators = part.validators[position] if part.validators else None
            url = part.links[position]["url_canonical"]
            links.append(Link(url, part.number, part.failed_before, validators))
        return links

    def _open(self, part: OpenPart) -> None:
        with self._lock:
            self._num_open_parts += 1
            self._num_open_rows += len(part.links)
        self._todo = _put_unfetched(part, self._settings, self._takedowns)[::-1]
        if not self._todo:
            self._end(part)

    def finish(self, fetched: Sequence[tuple[int, Fetched]]) -> None:
        """Make the rows of links that the fetcher is done with."""
        given = [self._given.pop(number) for number, _ in fetched]
        links = [part.links[position] for part, position in given]
        rows = fetched_rows(links, [each for _, each in fetched], self._settings)
        for (part, position), row in zip(given, rows, strict=True):
            part.put(position, self._takedowns.applied(row))
            part.num_left -= 1
            if part.num_left == 0:
                self._end(part)

    def _end(self, part: OpenPart) -> None:
        part.end()
        with self._lock:
            self._num_open_parts -= 1
            self._num_open_rows -= len(part.links)
