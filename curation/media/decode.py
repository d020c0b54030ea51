"""Decoding untrusted pictures in a child process that may crash, hang or eat memory without taking a row with it.

Image decoders are C code that strangers' bytes can crash (a 104-byte PNG ends a process that decodes it with
torchvision 0.29.1). A process of its own costs next to nothing against decoding and comes back in milliseconds. One
child, asked over a pipe for one picture or, through shared memory, for several at a time: to wait for each other costs
the two processes as much as half a decoding. Its limits stand in `lockdown_child.limit_resources`.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Self

from curation.media.child import CHECKS, PIXELS, STORED, Child, ChildDied
from curation.media.decoded import Decoded, DecodeLimits
from curation.media.image_output import ImageOutput
from curation.reasons import Reason

__all__ = ["ChildDied", "DecodeLimits", "Decoded", "Decoder"]

_MAX_DEATHS = 2  # a death may be an accident (the machine's memory, a person); two of the same bytes are not


class Decoder:
    """Owns one child process; a context manager. Safe to call from several threads (they take turns).

    Bytes of which two children died get `img.decoder_crash`, `img.decoder_timeout` or `img.decoder_memory`; copies of
    them get the same verdict without another try, so that a verdict does not depend on which copy came first. `fatal`
    maps their SHA-256 to that verdict: save it and pass its keys as `quarantine` to a later Decoder, which answers
    `img.quarantined` unseen.
    """

    gives_views = False
    """Whether the child loads what `curation.media.views` needs."""

    def __init__(
        self, limits: DecodeLimits | None = None, quarantine: Iterable[str] = (), output: ImageOutput | None = None
    ) -> None:
        self.limits = limits or DecodeLimits()
        self.output = output or ImageOutput()
        self.quarantine = frozenset(quarantine)
        self.fatal: dict[str, Decoded] = {}
        self.num_starts = 0
        self._child: Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child. The next `decode` would start another."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None

    def decode(self, data: bytes, short_side_px: int | None = None, pixels: bool = True) -> Decoded:
        """Decode one picture completely; see `Decoded` for what comes back. Never raises because of `data`.

        short_side_px: shrink so that the shorter side is at most this many pixels (never enlarged). A JPEG is decoded
        at the smallest of 1, 1/2, 1/4, 1/8 that keeps at least twice the target; a box, then Hamming's filter do the
        rest. (100 collages of 0.2-2 Mpx to 256: PSNR to a full decode with a box filter 41.4 dB median, 33.8 dB 5th
        percentile, at 5.8 ms; with Lanczos 39.6 and 32.1 dB at 10.2 ms.)
        pixels=False: everything but the pixels, damage included, at less cost.
        """
        return self._ask(data, short_side_px or 0, PIXELS if pixels else CHECKS)

    def convert(self, data: bytes) -> Decoded:
        """Check one picture completely and make what `output` wants to be stored of it, in one decoding.

        The checks of the limits come first, then those of `output`, all by the header; see `Decoded.stored`.
        """
        return self._ask(data, 0, STORED)

    def convert_several(self, items: Sequence[bytes]) -> list[Decoded]:
        """`convert` of each, with the same results, at less cost."""
        return list(self._ask_several(items, STORED))

    def _ask(self, data: bytes, short_side_px: int, wanted: int, before: bytes = b"") -> Decoded:
        with self._lock:
            known = self._known(data)
            if known is not None:
                return known
            for _ in range(_MAX_DEATHS):
                child = self._start()
                try:
                    return child.decode(data, short_side_px, wanted, before)
                except ChildDied as death:
                    verdict = Decoded(reason=death.reason.value, detail=str(death))
                    self._discard()
            self.fatal[hashlib.sha256(data).hexdigest()] = verdict
            return verdict

    def _ask_several(self, items: Sequence[bytes], wanted: int, before: bytes = b"") -> Iterator[Decoded]:
        """In one request as many as there is room for, the others alone; lazily, so that what the first left in shared
        memory is seen before the others come. Where the child dies each is asked alone: that shows who did it, and
        whether it does so again."""
        found: dict[int, Decoded | None] = {}
        with self._lock:
            asked = [i for i, data in enumerate(items) if self._known(data) is None]
            together = [items[i] for i in asked]
            child = self._start()
            if len(asked) > 1 and child.takes_several(together):
                try:
                    found = dict(zip(asked, child.decode_several(together, wanted, before), strict=True))
                except ChildDied:
                    self._discard()
        for i, data in enumerate(items):
            yield found.get(i) or self._ask(data, len(before), wanted, before)

    def _known(self, data: bytes) -> Decoded | None:
        if not self.fatal and not self.quarantine:
            return None
        digest = hashlib.sha256(data).hexdigest()
        if digest in self.quarantine:
            return Decoded(reason=Reason.IMG_QUARANTINED.value, detail="killed the decoder in an earlier run")
        return self.fatal.get(digest)

    def _start(self) -> Child:
        if self._child is None:
            child = Child(self.limits, self.output, self.gives_views)
            child.wait_until_ready()
            self._child = child
            self.num_starts += 1
        return self._child

    def _discard(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None
