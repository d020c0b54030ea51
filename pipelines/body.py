"""A body as it comes: in memory up to a cap, in a temporary file beyond it."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from curation.table import TEMPORARY_PREFIX


class Body:
    """Reusable. folder: where files go, under names that the store's janitor knows."""

    def __init__(self, memory_cap: int, folder: Path) -> None:
        self._memory_cap, self._folder = memory_cap, folder
        self._chunks: list[bytes] = []
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._hash: Any = None  # of what is in the file
        self.size = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes. Raises OSError where there is no room for them."""
        self.size += len(chunk)
        if self._file is None and self.size > self._memory_cap:
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix="-body", dir=self._folder)
            self._file, self._path, self._hash = os.fdopen(descriptor, "wb"), Path(name), hashlib.sha256()
            for each in self._chunks:
                self._write(each)
            self._chunks.clear()
        if self._file is None:
            self._chunks.append(chunk)
        else:
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        assert self._file is not None
        self._file.write(chunk)
        self._hash.update(chunk)

    @property
    def num_held_bytes(self) -> int:
        """In memory."""
        return self.size if self._file is None else 0

    def start(self, size: int) -> bytes:
        """The first bytes of a body that is in memory."""
        return b"".join(self._chunks)[:size]

    def sha256(self) -> str:
        """64 hex digits."""
        if self._file is None:
            self._chunks = [b"".join(self._chunks)]  # for `take`
            return hashlib.sha256(self._chunks[0]).hexdigest()
        return str(self._hash.hexdigest())

    def take(self) -> tuple[bytes | None, Path | None]:
        """The bytes, or the path of a file with them that is the caller's from now on."""
        body, path = None, self._path
        if self._file is None:
            body = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        else:
            self._file.close()
        self._path = self._file = None
        self.discard()
        return body, path

    def discard(self) -> None:
        """Forget everything, and remove the file if there is one."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._chunks, self._file, self._path, self._hash, self.size = [], None, None, None, 0
