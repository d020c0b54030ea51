"""Folders of videos and sounds, and WebDataset tars of them, as sources: each medium is a link that is held already.

Texts lie beside a medium under its name: `talk.txt` or `talk.en.txt` is a caption, `talk.srt`, `talk.en.vtt` subtitles.
A medium is known by its name and its content (`file:///talks/talk.mp4?sha256=...`), so that other bytes under an old
name are another sample. Its bytes go through the same limits and the same decoder as fetched ones.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote

import pyarrow as pa

from curation.av.subtitles import decoded
from curation.file_digest import file_digest
from pipelines.sources import SourceError

MEDIA = (
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".flv", ".ts", ".m2ts", ".mts",
    ".mpg", ".mpeg", ".vob", ".wmv", ".asf", ".ogv", ".wav", ".flac", ".mp3", ".mp2", ".ogg", ".opus", ".oga", ".mka",
    ".m4a", ".m4b", ".aac", ".wma",
)  # fmt: skip
"""Endings of files that are taken, those of the containers that `AvLimits` allows; what they hold is told by their
bytes."""
CAPTIONS, SUBTITLES, TARS = (".txt",), (".srt", ".vtt"), (".tar",)
MAX_TEXT_BYTES = 4 << 20
"""Of a file of texts beside a medium."""
FILE = "file:///"


@dataclass
class Item:
    """One medium: where its bytes are, their digest, and the texts beside it (kind, language, text)."""

    name: str
    place: dict[str, object]
    sha256: str
    texts: list[tuple[str, str | None, str]] = field(default_factory=list)


def media_files(path: Path) -> list[Path]:
    """The media files and tars at `path`, a folder or one of them; empty where it is neither."""
    if path.is_file():
        return [path] if path.suffix.lower() in (*MEDIA, *TARS) else []
    found = (each for each in path.rglob("*") if each.is_file() and each.suffix.lower() in (*MEDIA, *TARS))
    return sorted(found) if path.is_dir() else []


def is_medium(path: Path) -> bool:
    """Whether a file of `media_files`, not a link table."""
    return path.suffix.lower() in (*MEDIA, *TARS)


def beside(path: Path) -> list[Path]:
    """The files of texts that belong to a media file, in the order of their names."""
    if path.suffix.lower() in TARS:
        return []
    texts = _texts_in(path.parent, path.parent.stat().st_mtime_ns)
    return texts.get(path.stem, [])


@lru_cache(maxsize=64)
def _texts_in(folder: Path, _changed_ns: int) -> dict[str, list[Path]]:
    """Name of a medium, without its ending -> the files of texts beside it. _changed_ns: of the folder, so that a new
    listing is made where files came or went."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (*CAPTIONS, *SUBTITLES) and path.is_file():
            for stem in {path.stem, _stem(path.name)[0]}:
                found.setdefault(stem, []).append(path)
    return found


def _stem(name: str) -> tuple[str, str | None]:
    """`talk.en.srt` -> (talk, en); `talk.srt` -> (talk, None). Languages: two or three letters, or as zh-Hant."""
    stem, _, last = PurePosixPath(name).stem.rpartition(".")
    primary = last.partition("-")[0]
    is_language = bool(stem) and primary.isascii() and primary.isalpha() and 2 <= len(primary) <= 3
    return (stem, last) if is_language else (PurePosixPath(name).stem, None)


def digest_of(path: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of a media file and of the texts beside it: by these a source is known."""
    return [(each.name, file_digest(each)) for each in (path, *beside(path))]


def rows(
    path: Path, links: Sequence[Path], caption: str | None, subtitles: str | None, extra: Sequence[str]
) -> pa.Table:
    """The rows of a link table for one media file or tar: url, language, held_in, digest and one column for each kind
    of text. caption, subtitles: names of those columns; None where the recipe has none.

    Raises SourceError where there are texts of a kind that the recipe has no column for, or a tar cannot be read.
    """
    root = next((each for each in links if each in path.parents), path.parent)
    name = path.relative_to(root).as_posix()
    items = _of_tar(path, name) if path.suffix.lower() in TARS else [_of_file(path, name)]
    columns = {"caption": caption, "subtitles": subtitles}
    names = ["url", "language", "sha256", "held_in", *dict.fromkeys(n for n in columns.values() if n), *extra]
    table: list[dict[str, str | None]] = []
    for item in items:
        row = dict.fromkeys(names) | {"sha256": item.sha256, "held_in": json.dumps(item.place)}
        row["url"] = f"{FILE}{quote(item.name)}?sha256={item.sha256}"
        for kind, language, text in item.texts:
            column = columns[kind]
            if column is None:
                wanted = "an untimed text column" if kind == "caption" else "`segment: {subtitles: [COLUMN]}`"
                raise SourceError(
                    f"{path}: has {kind} beside it, but the recipe has no column for them: give it {wanted}"
                )
            table.append(row | {column: text, "language": language})
        if not item.texts:
            table.append(row)
    return pa.Table.from_pylist(table, schema=pa.schema([(each, pa.string()) for each in names]))


def _of_file(path: Path, name: str) -> Item:
    place = {"file": str(path), "at": 0, "size": path.stat().st_size, "exact": True}
    item = Item(name, place, file_digest(path))
    for each in beside(path):
        with each.open("rb") as file:
            _add_text(item, each.name, file)
    return item


def _add_text(item: Item, name: str, file: IO[bytes]) -> None:
    data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise SourceError(f"{name}: a text of more than {MAX_TEXT_BYTES} bytes beside a medium")
    kind = "caption" if PurePosixPath(name).suffix.lower() in CAPTIONS else "subtitles"
    language = _stem(name)[1]
    text = decoded(data, language).strip()
    if text:
        item.texts.append((kind, language, text))


def _of_tar(path: Path, name: str) -> list[Item]:
    """The media of a WebDataset tar, in its order. Of a torn tar those that are whole."""
    found: list[Item] = []
    by_key: dict[str, Item] = {}
    waiting: list[tuple[str, str, IO[bytes]]] = []
    try:
        with tarfile.open(path, "r:") as archive:
            members = [each for each in archive if each.isfile()]
            for member in members:
                inside, ending = PurePosixPath(member.name), PurePosixPath(member.name).suffix.lower()
                key = str(inside.parent / _stem(inside.name)[0])
                file = archive.extractfile(member)
                assert file is not None
                if ending in MEDIA:
                    place = {"file": str(path), "at": member.offset_data, "size": member.size, "exact": True}
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
                    found.append(Item(f"{name}/{member.name}", place, sha256))
                    by_key.setdefault(key, found[-1])
                elif ending in (*CAPTIONS, *SUBTITLES):
                    waiting.append((key, member.name, file))
            for key, text, file in waiting:
                if key in by_key:
                    _add_text(by_key[key], text, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise SourceError(f"{path}: cannot be read: {error}") from error
    if not found:
        raise SourceError(f"{path}: holds no videos and no sounds")
    return found


def batches(
    path: Path, links: Sequence[Path], caption: str | None, subtitles: str | None, extra: Sequence[str]
) -> Iterator[pa.Table]:
    """`rows` as batches, none where a tar holds no media."""
    table = rows(path, links, caption, subtitles, extra)
    if table.num_rows:
        yield table
