"""Pixels for signals: of each picture the sizes that are wanted, from one decoding in a limited child, ahead."""

from __future__ import annotations

import json
import queue
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from curation.media.child import VIEWS
from curation.media.decode import Decoder
from curation.media.decoded import Decoded, DecodeLimits, View

__all__ = ["DecodePool", "View", "ViewDecoder"]

T = TypeVar("T")
TOGETHER = 8
"""Pictures in one request to a child: what they become has to find room in the memory that is shared with it."""


class ViewDecoder(Decoder):
    """A `Decoder` whose child gives several views of a picture for one decoding, in shared memory."""

    gives_views = True

    def views(self, data: bytes, wanted: Sequence[View]) -> Decoded:
        """Decode one picture; `Decoded.views` has an array for each of `wanted`, or is None where there is a reason.

        The arrays lie in memory that the next call overwrites: copy what has to last.
        """
        before = _asking_for(wanted)
        return _all_of(wanted, self._ask(data, len(before), VIEWS, before))

    def views_of_several(self, items: Sequence[bytes], wanted: Sequence[View]) -> Iterator[Decoded]:
        """`views` of each, with the same results, at less cost; take one before the next."""
        return (_all_of(wanted, each) for each in self._ask_several(items, VIEWS, _asking_for(wanted)))


def _asking_for(wanted: Sequence[View]) -> bytes:
    """Each view once."""
    return json.dumps([[view.short_side_px, view.exact] for view in dict.fromkeys(wanted)]).encode()


def _all_of(wanted: Sequence[View], decoded: Decoded) -> Decoded:
    """With a view that is wanted twice there twice."""
    distinct = list(dict.fromkeys(wanted))
    if decoded.views is None or len(distinct) == len(wanted):
        return decoded
    found = dict(zip(distinct, decoded.views, strict=True))
    return replace(decoded, views=tuple(found[view] for view in wanted))


class DecodePool:
    """Some decoders, each with a thread of its own, that work ahead of whoever takes the results; a context manager."""

    def __init__(self, num_decoders: int, limits: DecodeLimits | None = None) -> None:
        self.num_decoders = num_decoders
        self._decoders = [ViewDecoder(limits) for _ in range(num_decoders)]
        self._idle: queue.SimpleQueue[ViewDecoder] = queue.SimpleQueue()
        for decoder in self._decoders:
            self._idle.put(decoder)
        self._threads = ThreadPoolExecutor(num_decoders, thread_name_prefix="decode")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and the children."""
        self._threads.shutdown(cancel_futures=True)
        for decoder in self._decoders:
            decoder.close()

    def map(
        self, items: Sequence[bytes | None], wanted: Sequence[View], prepare: Callable[[Decoded], T], ahead: int
    ) -> Iterator[T | None]:
        """`prepare` of each picture's decoding, in order; None for a null item and for what cannot be decoded.

        `prepare` runs in the thread that decoded, and copies what has to last. At most `ahead` results wait to be
        taken, which bounds the memory.
        """
        waiting: deque[Future[list[T | None]]] = deque()
        try:
            for start in range(0, len(items), TOGETHER):
                group = [items[i] for i in range(start, min(start + TOGETHER, len(items)))]
                waiting.append(self._threads.submit(self._several, group, wanted, prepare))
                if len(waiting) * TOGETHER > ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for left in waiting:
                left.cancel()

    def _several(
        self, items: Sequence[bytes | None], wanted: Sequence[View], prepare: Callable[[Decoded], T]
    ) -> list[T | None]:
        decoder = self._idle.get()
        try:
            found = decoder.views_of_several([item for item in items if item is not None], wanted)
            seen = (None if item is None else next(found) for item in items)
            return [None if each is None or each.views is None else prepare(each) for each in seen]
        finally:
            self._idle.put(decoder)
