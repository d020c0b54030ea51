"""Random access to a version's rows: uids and texts from one memory map, media by one ranged read each.

The light columns of all shards are copied once into an Arrow file that every process of a machine maps, so a billion
rows take no memory of their own; pictures, sounds and films stay in the shards, and the byte index that was packed
beside them says where. Versions without an index get theirs here.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from curation.byte_ranges import byte_ranges
from curation.step import digest
from curation.table import publishing
from pretrain.version import Version, VersionError

LAYOUT = 3
"""Changes whenever the map of the same version would change."""
MEDIA = ("image", "audio", "video")
"""Columns of bytes that a version may have."""
_LOCAL = "local"
_NOT_PLAIN = -2
"""Length of pictures that lie compressed or encoded in their shard."""


def map_rows(folder: Path, version: Version, progress: Callable[[str], None] = lambda _: None) -> Rows:
    """The rows of a version, from the map in `folder`, which is made on first use.

    Two processes that make it at once publish the same bytes and the first wins.
    """
    path = folder / f"{version.name}-{digest(version.digest, LAYOUT)[:12]}.arrow"
    if not path.exists():
        progress(f"mapping the rows of {version.folder.name}")
        with publishing(path) as temporary:
            _write_map(temporary, version)
    return Rows(version, path)


def _write_map(path: Path, version: Version) -> None:
    writer = None
    known = version.columns()
    light_columns = ["sample_uid", "texts", *(name for name in ("duration_s", "has_audio") if name in known)]
    with pa.OSFile(str(path), "wb") as sink:
        for number, shard in enumerate(version.shards):
            with version.open(shard["name"]) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                light = file.read(columns=light_columns).replace_schema_metadata(None)
            table = light.append_column("shard", pa.array(np.full(light.num_rows, number, dtype=np.int32)))
            for medium in (name for name in MEDIA if name in known):
                ranges = _ranges(version, shard, medium)
                if ranges.num_rows != light.num_rows:
                    raise VersionError(
                        f"{version.place}/{shard['name']}: {light.num_rows} rows, {ranges.num_rows} ranges of {medium}"
                    )
                for name in ranges.column_names:
                    table = table.append_column(f"{medium}.{name}", ranges.column(name))
            (batch,) = table.combine_chunks().to_batches(max_chunksize=None)
            writer = writer or pa.ipc.new_file(sink, batch.schema)
            writer.write_batch(batch)
        assert writer is not None  # a version has samples
        writer.close()


def _ranges(version: Version, shard: dict[str, Any], medium: str) -> pa.Table:
    """The byte index of one shard's medium: the sealed one, or made now from a shard on this machine."""
    sealed = shard.get("ranges") if medium == "image" else shard.get("media_ranges", {}).get(medium)
    if sealed is not None:
        with version.open(sealed) as source:
            return pq.read_table(source, columns=["start", "length"], page_checksum_verification=True)
    if version.files.type_name != _LOCAL:
        raise VersionError(f"{version.place}: packed without a byte index; pack it again, or bring it to this machine")
    try:
        return byte_ranges(version.folder / shard["name"], medium)
    except ValueError:  # not packed by this project: the pictures can be read, but not one by one
        num = shard["num_samples"]
        return pa.table([np.zeros(num, dtype=np.int64), np.full(num, _NOT_PLAIN, dtype=np.int32)], ["start", "length"])


class Rows:
    """Rows 0, 1, ... of a version. Can be pickled: another process maps the same file. Threads may share it."""

    def __init__(self, version: Version, path: Path) -> None:
        self.version, self._path = version, path
        self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {"version": self.version, "_path": self._path}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def _open(self) -> None:
        reader = pa.ipc.open_file(pa.memory_map(str(self._path)))
        self._batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        sizes = [batch.num_rows for batch in self._batches]
        self._ends = np.cumsum(sizes)
        self._columns = [{name: batch.column(name) for name in batch.schema.names} for batch in self._batches]
        self.media = tuple(name for name in MEDIA if f"{name}.start" in self._columns[0])
        self._ranges = {
            name: [(_numbers(each[f"{name}.start"]), _numbers(each[f"{name}.length"])) for each in self._columns]
            for name in self.media
        }
        texts = [columns["texts"] for columns in self._columns]
        self._offsets = [_numbers(each.offsets) for each in texts]
        self._texts = [each.values for each in texts]
        counts = [int(offsets[-1] - offsets[0]) for offsets in self._offsets]
        self._first_texts = np.concatenate([[0], np.cumsum(counts)])
        self._handles: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def num_texts(self) -> int:
        """Of all rows."""
        return int(self._first_texts[-1])

    @property
    def text_fields(self) -> list[str]:
        """What is known of each text."""
        return [field.name for field in self._texts[0].type]

    def _place(self, row: int) -> tuple[int, int]:
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - (int(self._ends[shard - 1]) if shard else 0)

    def uid(self, row: int) -> str:
        """sample_uid of a row."""
        shard, inside = self._place(row)
        return str(self._columns[shard]["sample_uid"][inside].as_py())

    def uids(self) -> pa.Array:
        """sample_uid of all rows."""
        return pa.concat_arrays([columns["sample_uid"] for columns in self._columns])

    def text_rows(self, row: int) -> range:
        """Places of a row's texts among all texts of the version."""
        shard, inside = self._place(row)
        offsets, first = self._offsets[shard], int(self._first_texts[shard])
        return range(first + int(offsets[inside] - offsets[0]), first + int(offsets[inside + 1] - offsets[0]))

    def text(self, text_row: int) -> str:
        """One text by its place among all texts."""
        return str(self.of_text(text_row, "text"))

    def of_text(self, text_row: int, field: str) -> Any:
        """What is known of one text, such as its `language`."""
        shard = int(np.searchsorted(self._first_texts, text_row, side="right")) - 1
        inside = text_row - int(self._first_texts[shard]) + int(self._offsets[shard][0])
        return self._texts[shard].field(field)[inside].as_py()

    def texts_by_shard(self, fields: list[str]) -> list[tuple[np.ndarray, dict[str, pa.Array]]]:
        """For each shard: how many texts each of its rows has, and these fields of all of its texts."""
        found = []
        for offsets, texts in zip(self._offsets, self._texts, strict=True):
            inside = texts.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
            found.append((np.diff(offsets), {name: inside.field(name) for name in fields}))
        return found

    def has(self, medium: str) -> np.ndarray:
        """Bool for each row: whether it has this medium; a sound also where only the row's film holds it."""
        found = np.zeros(len(self), dtype=bool)
        if medium in self.media:
            lengths = np.concatenate([lengths for _, lengths in self._ranges[medium]])
            found = np.asarray((lengths > 0) | (lengths == _NOT_PLAIN))
        return found | (self.has("video") & self._film_has_sound()) if medium == "audio" else found

    def _film_has_sound(self) -> np.ndarray:
        """Bool for each row: whether a film of it would have a sound track; True where the version does not tell."""
        told = [columns.get("has_audio") for columns in self._columns]
        return np.concatenate(
            [np.ones(batch.num_rows, dtype=bool) if each is None else np.asarray(each.fill_null(False))
             for each, batch in zip(told, self._batches, strict=True)]
        )  # fmt: skip

    def duration_s(self, row: int) -> float | None:
        """Length of a row's segment in seconds, where the version tells it."""
        shard, inside = self._place(row)
        column = self._columns[shard].get("duration_s")
        found = None if column is None else column[inside].as_py()
        return None if found is None else float(found)

    def image(self, row: int) -> bytes:
        """The encoded picture of a row: one ranged read. Empty where there is none."""
        return self.medium(row, "image")

    def sound(self, row: int) -> tuple[bytes, bool]:
        """The encoded sound of a row, by itself or else within its film (versions packed with `audio: none`); and
        whether the version says that it is there. Empty where there is none."""
        own = self.medium(row, "audio")
        if own:
            return own, True
        shard, inside = self._place(row)
        told = self._columns[shard].get("has_audio")
        if told is None:
            return self.medium(row, "video"), False
        return (self.medium(row, "video"), True) if told[inside].as_py() else (b"", True)

    def medium(self, row: int, name: str) -> bytes:
        """The encoded bytes of a row's picture, sound or film: one ranged read. Empty where there are none."""
        if name not in self.media:
            return b""
        shard, inside = self._place(row)
        starts, lengths = self._ranges[name][shard]
        start, length = int(starts[inside]), int(lengths[inside])
        if length == _NOT_PLAIN:
            file = self.version.shards[shard]["name"]
            raise VersionError(
                f"{self.version.place}/{file}: {name} not stored plain"
                + ("; use `pictures: cached`" if name == "image" else "; pack the version again")
            )
        if length <= 0:
            return b""
        handle = self._handles.get(shard)
        if handle is None:
            handle = self._open_shard(shard)
        data: bytes = os.pread(handle, length, start) if isinstance(handle, int) else handle.read_at(length, start)
        if len(data) != length:
            raise VersionError(f"{self.version.place}/{self.version.shards[shard]['name']}: ends within row {inside}")
        return data

    def _open_shard(self, shard: int) -> Any:
        """A descriptor where the file is on this machine (some us less a read), else pyarrow's random reader."""
        with self._lock:
            if shard not in self._handles:
                name = self.version.shards[shard]["name"]
                if isinstance(self.version.files, fs.LocalFileSystem):
                    self._handles[shard] = os.open(self.version.folder / name, os.O_RDONLY)
                else:
                    self._handles[shard] = self.version.open(name)
            return self._handles[shard]

    def close(self) -> None:
        """Close the shards; they open again when asked for."""
        with self._lock:
            for handle in self._handles.values():
                os.close(handle) if isinstance(handle, int) else handle.close()
            self._handles.clear()

    def __del__(self) -> None:
        if hasattr(self, "_handles"):
            self.close()


def _numbers(array: pa.Array) -> np.ndarray:
    return np.asarray(array)
