"""An output folder of img2dataset as a source: its rows are links, its pictures are taken instead of fetched.

Both of its formats that keep one table a shard: Parquet with the pictures in a column, and WebDataset tars with a
Parquet file beside each. The bytes go through the same decoder and limits as fetched ones; a row that img2dataset
recorded as failed keeps its error as a reason code, and may be fetched by `tamis run --retry-failed`.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.reasons import Reason
from pipelines.deny import DenyList, HashList
from pipelines.download_options import Download
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched
from pipelines.img2dataset_engine import FORMATS, reason_of_message
from pipelines.media_row import MAX_DETAIL_CHARS, fetched_row, unfetched_row
from pipelines.sources import SourceError

STATS = "_stats.json"
"""Written by img2dataset last, one for each shard: a shard without one was never finished."""
RECORD = ("key", "status", "error_message")
HASHES = {32: "md5", 64: "sha256"}  # by the length of the digest, the columns that hold it


def is_output(folder: Path) -> bool:
    """Whether img2dataset wrote the folder."""
    return folder.is_dir() and any(folder.glob(f"[0-9]*{STATS}"))


def shards(folder: Path) -> list[Path]:
    """The tables of the shards that were finished, by number."""
    stats = sorted(folder.glob(f"[0-9]*{STATS}"))
    found = [path.with_name(path.name.removesuffix(STATS) + ".parquet") for path in stats]
    missing = next((path for path in found if not path.is_file()), None)
    if missing is not None:
        raise SourceError(
            f"{missing}: is missing beside its {STATS}; img2dataset has to have written `parquet` or `webdataset`"
        )
    return found


def places(shard: Path) -> pa.Array:
    """For each row of a shard's table a JSON object that says where its picture is, or why there is none.

    Keys: file; then `row` (of a Parquet file, with its `column`) or `at` and `size` (of a tar), or `error`, the reason
    code, with `detail`; md5 and sha256, where img2dataset recorded them, of the bytes that it fetched.
    """
    with pq.ParquetFile(shard) as file:
        names = file.schema_arrow.names
        lacking = [name for name in RECORD if name not in names]
        if lacking:
            raise SourceError(f"{shard}: has no column {lacking[0]!r}, so img2dataset did not write it")
        kept = [name for name in HASHES.values() if name in names]
        rows = file.read(columns=[*RECORD, *kept]).to_pylist()
    column = next((name for name in FORMATS if name in names), None)
    tar = shard.with_suffix(".tar")
    if column is None and not tar.is_file():
        raise SourceError(f"{shard}: holds no pictures, and there is no {tar.name}")
    members = {} if column is not None else _members(tar)
    return pa.array([json.dumps(_place(shard, i, row, column, members)) for i, row in enumerate(rows)], pa.string())


def _place(
    shard: Path, index: int, row: dict[str, Any], column: str | None, members: dict[str, tuple[int, int]]
) -> dict[str, Any]:
    recorded = {name: row[name].lower() for name in HASHES.values() if row.get(name)}
    if row["status"] != "success":
        message = str(row["error_message"] or "")
        reason = reason_of_message(row["status"], message)
        return {**recorded, "error": reason.value, "detail": message[:MAX_DETAIL_CHARS]}
    if column is not None:
        return {**recorded, "file": str(shard), "row": index, "column": column}
    tar = shard.with_suffix(".tar")
    if row["key"] not in members:
        return {**recorded, "error": Reason.DL_EMPTY.value, "detail": f"not in {tar.name}"}
    at, size = members[row["key"]]
    return {**recorded, "file": str(tar), "at": at, "size": size}


def _members(tar: Path) -> dict[str, tuple[int, int]]:
    """Key -> where the picture is in the tar, and how long. Of a torn tar those that are whole."""
    found, num_bytes = {}, tar.stat().st_size
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                key, _, ending = member.name.partition(".")
                if member.isfile() and ending in FORMATS and member.offset_data + member.size <= num_bytes:
                    found[key] = member.offset_data, member.size
    except tarfile.TarError as error:
        if found:
            return found
        raise SourceError(f"{tar}: cannot be read: {error}") from error
    return found


def held_rows(links: Sequence[dict[str, Any]], settings: Download) -> Iterator[tuple[int, dict[str, Any]]]:
    """Position and row of `media` of each link that is held in a folder, in the order of its files.

    Raises OSError where a file is gone.
    """
    held = {i: json.loads(link["held_in"]) for i, link in enumerate(links) if link["held_in"] and link["url_canonical"]}
    most = settings.fetch.max_bytes
    large = {
        i for i, place in held.items() if place.get("size", 0) > most
    }  # not read: a film may be larger than memory
    for i, place in held.items():
        if "file" not in place:
            yield i, _failed_row(links[i], place["error"], place["detail"])
        elif i in large:
            yield i, _failed_row(links[i], Reason.DL_TOO_LARGE.value, f"more than {most} bytes")
    for i, body in _bodies({i: place for i, place in held.items() if "file" in place and i not in large}):
        yield i, _row(links[i], held[i], body, settings)


def _bodies(held: dict[int, dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """Each file is opened once, and of a Parquet file each row group is read once."""
    by_file: dict[str, list[int]] = {}
    for i, place in held.items():
        by_file.setdefault(place["file"], []).append(i)
    for name, items in sorted(by_file.items()):
        if "at" in held[items[0]]:
            with Path(name).open("rb") as file:
                for i in sorted(items, key=lambda i: int(held[i]["at"])):
                    file.seek(held[i]["at"])
                    yield i, file.read(held[i]["size"])
        else:
            yield from _from_parquet(Path(name), {held[i]["row"]: i for i in items}, held[items[0]]["column"])


def _from_parquet(path: Path, wanted: dict[int, int], column: str) -> Iterator[tuple[int, bytes]]:
    with pq.ParquetFile(path) as file:
        start = 0
        for group in range(file.num_row_groups):
            end = start + file.metadata.row_group(group).num_rows
            inside = sorted(row for row in wanted if start <= row < end)
            if inside:
                pictures = file.read_row_group(group, columns=[column]).column(0)
                for row in inside:
                    yield wanted[row], pictures[row - start].as_py() or b""
            start = end


def _row(link: dict[str, Any], place: dict[str, Any], body: bytes, settings: Download) -> dict[str, Any]:
    deny, known_bad = _lists(settings.fetch)
    entry = deny.entry_for(link["url_canonical"])
    if entry is not None:
        return _failed_row(link, Reason.POLICY_DOMAIN_DENIED.value, entry[:200], "refused")
    promised = link["expected_hash"]
    recorded = None if promised is None else place.get(HASHES[len(promised)])
    if recorded is not None and recorded != promised:
        return _failed_row(link, Reason.POLICY_HASH_MISMATCH.value, f"{HASHES[len(promised)]} differs")
    if len(body) > settings.fetch.max_bytes:
        return _failed_row(link, Reason.DL_TOO_LARGE.value, f"more than {settings.fetch.max_bytes} bytes")
    if not body:
        return _failed_row(link, Reason.DL_EMPTY.value, "no bytes")
    found = Fetched(link["url"], status="ok", body=body)
    found.sha256 = found.digest("sha256").hex()
    known_by = known_bad.algorithm_that_knows(found)
    if known_by is not None:
        return _failed_row(link, Reason.POLICY_KNOWN_BAD_HASH.value, f"its {known_by} is on a list", "refused")
    # a promise was for the bytes that img2dataset fetched, not for what it made of them
    return fetched_row(link if place.get("exact") else {**link, "expected_hash": None}, found, settings)


def _failed_row(link: dict[str, Any], reason: str, detail: str, status: str | None = None) -> dict[str, Any]:
    said = status or ("refused" if reason.startswith("policy.x") else "failed")
    return unfetched_row(link) | {"status": said, "reason": reason, "detail": detail}


@lru_cache(maxsize=2)
def _lists(options: FetchOptions) -> tuple[DenyList, HashList]:
    deny = DenyList(options.deny_domains, options.deny_urls, options.deny_lists)
    return deny, HashList(options.known_bad_hashes)
