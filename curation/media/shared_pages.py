"""Memory that the decoder's process writes pixels to and its parent reads: without it they pass a pipe, two copies and
more time than the decoding of a small JPEG."""

import contextlib
import fcntl
import mmap
import os
import sys
from typing import Self

import numpy as np
import numpy.typing as npt

NUM_BYTES = 16 << 20
"""Room for the pixels of one answer: 5 megapixels. Larger ones pass the pipe."""


class SharedPages:
    """Pages of a file that exists in memory only.

    Sealed: the child can neither shrink nor grow them, so reading them cannot fail whatever it does; what it writes are
    pixels, of which any are allowed. Linux only (`SharedPages.make` gives None elsewhere).
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.ftruncate(descriptor, NUM_BYTES)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._pages = mmap.mmap(descriptor, NUM_BYTES)

    @classmethod
    def make(cls) -> Self | None:
        """New pages, or None where the system has no such thing."""
        if sys.platform != "linux":
            return None
        return cls(os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))

    def read(self, num_bytes: int) -> npt.NDArray[np.uint8]:
        """The first bytes, not copied: the next answer will overwrite them. Errors: ValueError if there are fewer."""
        return np.frombuffer(self._pages, np.uint8, num_bytes)

    def close(self) -> None:
        """Give them back; while somebody still holds an array of them, they stay."""
        os.close(self.descriptor)
        with contextlib.suppress(BufferError):
            self._pages.close()
