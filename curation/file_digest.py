"""SHA-256 of files: what keys and manifests know them by."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_digest(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """`file_digest`, read once per process and state of the file: of weights and lists, which keys ask for often."""
    return _known(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _known(path: Path, _mtime_ns: int) -> str:
    return file_digest(path)
