"""Memory that the decoder's process and its parent share: pictures go there, what was made of them comes back. Through
a pipe they would take two copies, and more time than the decoding of a small JPEG."""

import contextlib
import fcntl
import mmap
import os
import sys
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

IN_BYTES = 8 << 20
"""Room for the pictures of one request. Larger ones pass the pipe."""
OUT_BYTES = 16 << 20
"""Room for one answer: 5 megapixels. Larger ones pass the pipe."""


class SharedPages:
    """Pages of a file that exists in memory only.

    Sealed: the child can neither shrink nor grow them, so reading them cannot fail whatever it does; what it writes are
    pixels and coded pictures, of which any are allowed. Linux only (`SharedPages.make` gives None elsewhere).
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.ftruncate(descriptor, IN_BYTES + OUT_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._pages = mmap.mmap(descriptor, IN_BYTES + OUT_BYTES)

    @classmethod
    def make(cls) -> Self | None:
        """New pages, or None where the system has no such thing, or forbids it (`ulimit -f`)."""
        if sys.platform != "linux":
            return None
        descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            return cls(descriptor)
        except OSError:
            os.close(descriptor)
            return None

    def write(self, items: Sequence[bytes]) -> None:
        """Lay the pictures of a request there, one behind the other. Errors: ValueError where there is no room."""
        if sum(map(len, items)) > IN_BYTES:
            raise ValueError(f"{sum(map(len, items))} bytes, room for {IN_BYTES}")
        at = 0
        for item in items:
            self._pages[at : at + len(item)] = item
            at += len(item)

    def read(self, num_bytes: int, at: int = 0) -> npt.NDArray[np.uint8]:
        """Of the answer, not copied: the next answer will overwrite them. Errors: ValueError if there are fewer."""
        return np.frombuffer(self._pages, np.uint8, num_bytes, IN_BYTES + at)

    def close(self) -> None:
        """Give them back; while somebody still holds an array of them, they stay."""
        os.close(self.descriptor)
        with contextlib.suppress(BufferError):
            self._pages.close()
