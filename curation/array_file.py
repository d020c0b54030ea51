"""Named arrays in one file that processes map into memory: however many workers read it, a machine holds one copy.

Layout: 8 bytes of magic, 8 bytes length of the header (little endian), the header (JSON: for each array its name, type,
shape and place, and the XXH3 of all that follows), then the arrays, each at a multiple of 64 bytes.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from curation.table import publishing

_MAGIC = b"TAMISAR1"
_ALIGNMENT = 64
_PIECE_BYTES = 2**26
"""Of a file that is verified: what came before is let go, or all of a large file would count as memory in use."""


def cache_folder() -> Path | None:
    """Where arrays that can be made again are kept: `$TAMIS_CACHE`, else `tamis` in the user's cache folder. None where
    it cannot be written."""
    user = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(os.environ.get("TAMIS_CACHE") or Path(user) / "tamis")
    if folder.parts[:1] == ("~",):  # a user without a home folder, as in some containers
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def save(path: Path, arrays: Mapping[str, np.ndarray], durable: bool = True) -> None:
    """Write the arrays and publish the file; if a rival process has published it already, that one is kept.

    No copy of them is made, so they may be as large as the memory, or mapped themselves. `durable`: whether to wait for
    the disk; after a loss of power a file for which nobody waited may be damaged, and `load` says so.
    """
    placed: list[dict[str, Any]] = []
    whole, end = xxhash.xxh3_64(), 0
    for name, array in arrays.items():
        begin = _aligned(end)
        placed.append({"name": name, "type": array.dtype.str, "shape": list(array.shape), "begin": begin})
        whole.update(bytes(begin - end))
        whole.update(_bytes(array))
        end = begin + array.nbytes
    header = json.dumps({"arrays": placed, "size": end, "xxh3": whole.hexdigest()}).encode()
    header += b" " * (-(16 + len(header)) % _ALIGNMENT)
    with publishing(path.absolute(), durable) as temporary, temporary.open("wb") as file:
        file.write(_MAGIC + len(header).to_bytes(8, "little") + header)
        for place, array in zip(placed, arrays.values(), strict=True):
            file.write(bytes(16 + len(header) + place["begin"] - file.tell()))
            file.write(_bytes(array))


def _aligned(place: int) -> int:
    return -(-place // _ALIGNMENT) * _ALIGNMENT


def _bytes(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, read-only views of its pages. Raises ValueError where it is damaged or no such file."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size < 16:
            raise ValueError(f"{path} is no file of arrays")
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    content = memoryview(mapping)
    if bytes(content[:8]) != _MAGIC:
        raise ValueError(f"{path} is no file of arrays")
    start = 16 + int.from_bytes(content[8:16], "little")
    try:
        header = json.loads(bytes(content[16:start]))
        placed, size, digest = header["arrays"], header["size"], header["xxh3"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    body = content[start:]
    if len(body) != size or _xxh3(mapping, start) != digest:
        raise ValueError(f"{path} is damaged: its content is not what was written")
    arrays = {}
    for place in placed:
        count = int(np.prod(place["shape"]))
        flat = np.frombuffer(body, np.dtype(place["type"]), count, place["begin"])
        arrays[place["name"]] = flat.reshape(place["shape"])
    return arrays


def _xxh3(mapping: mmap.mmap, start: int) -> str:
    """Digest of what lies behind `start`."""
    whole, content = xxhash.xxh3_64(), memoryview(mapping)
    for begin in range(0, len(content), _PIECE_BYTES):
        end = min(begin + _PIECE_BYTES, len(content))
        whole.update(content[max(begin, start) : end])
        if len(content) > _PIECE_BYTES:
            mapping.madvise(mmap.MADV_DONTNEED, begin, end - begin)
    return whole.hexdigest()
