"""Sealed dataset versions, as pre-training reads them: a manifest and Parquet shards, one row a sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from curation.versions import VERSION_FORMAT, matching, sealed_versions

_PIECE_BYTES = 1 << 22
_WEB = ("http", "https")
_SCHEMES = ("s3://", "gs://", "abfss://", "hdfs://", "file://", "https://")


class VersionError(ValueError):
    """A dataset version that is missing, ambiguous, of another format, or damaged."""


@dataclass(frozen=True)
class Version:
    """One sealed version. digest: 64 hex digits; shards: file names in their order.

    folder: where it lies on `files`, a file system of pyarrow (local, S3, GCS ...); place: the path or URI of it.
    decontamination: what its manifest says of it, `missing`, `complete` or `incomplete`.
    """

    folder: Path
    name: str
    digest: str
    num_samples: int
    num_texts: int
    shards: tuple[dict[str, Any], ...]
    place: str
    files: fs.FileSystem = field(repr=False, compare=False)
    decontamination: str = "missing"

    def open(self, name: str) -> pa.NativeFile:
        """A file of the version for random reads. Raises VersionError where it is missing."""
        try:
            return self.files.open_input_file(str(self.folder / name))
        except FileNotFoundError as error:
            raise VersionError(f"{self.place}/{name}: the file is missing") from error

    def schema(self) -> pa.Schema:
        """Of a sample, by the footer of the first shard. Raises VersionError where it is damaged."""
        name = self.shards[0]["name"]
        with self.open(name) as file:
            try:
                return pq.read_schema(file)
            except (pa.ArrowInvalid, OSError) as error:
                raise VersionError(f"{self.place}/{name}: the shard is damaged: {error}") from error

    def columns(self) -> list[str]:
        """Names of the columns of a sample."""
        return list(self.schema().names) if self.shards else []

    def read(self, columns: list[str]) -> pa.Table:
        """These columns of all samples, in the order of the version, page checksums verified."""
        tables = []
        for shard in self.shards:
            with self.open(shard["name"]) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                tables.append(file.read(columns=columns))
        return pa.concat_tables(tables)

    def images(self) -> Iterator[bytes]:
        """The encoded bytes of every sample's picture, in the order of the version, a few at a time in memory."""
        for shard in self.shards:
            with self.open(shard["name"]) as source, pq.ParquetFile(source, page_checksum_verification=True) as file:
                for batch in file.iter_batches(batch_size=64, columns=["image"]):
                    for value in batch.column(0):
                        yield value.as_py() or b""

    def verify(self) -> None:
        """Read every shard and compare it with the manifest. Raises VersionError naming the damaged shard."""
        for shard in self.shards:
            state = hashlib.sha256()
            with self.open(shard["name"]) as file:
                while piece := file.read(_PIECE_BYTES):
                    state.update(piece)
            if state.hexdigest() != shard["sha256"]:
                raise VersionError(
                    f"{self.place}/{shard['name']}: the shard is damaged: SHA-256 {state.hexdigest()}, "
                    f"sealed as {shard['sha256']}"
                )


def open_version(place: Path | str) -> Version:
    """The version in a folder, or at a URI that pyarrow knows (`s3://bucket/versions/NAME`, `gs://...`), or on a web
    server that serves ranges (`https://host/versions/NAME`).

    Raises VersionError where there is none, or one without samples.
    """
    if not (isinstance(place, str) and "://" in place):
        return read_version(fs.LocalFileSystem(), Path(place).resolve(), str(place))
    scheme, _, rest = place.partition("://")
    if scheme in _WEB:
        return read_version(_web(f"{scheme}://{rest.partition('/')[0]}"), Path(rest.partition("/")[2]), place)
    try:
        files, base = fs.FileSystem.from_uri(place)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise VersionError(f"{place}: {error}; valid: {', '.join(_SCHEMES)}, or a path") from error
    return read_version(files, Path(base), place)


def _web(host: str) -> fs.FileSystem:
    """The files of a web server, each read in exactly the ranges that are asked for."""
    from fsspec.implementations.dirfs import DirFileSystem
    from fsspec.implementations.http import HTTPFileSystem

    return fs.PyFileSystem(fs.FSSpecHandler(DirFileSystem(host, HTTPFileSystem(cache_type="none"))))


def read_version(files: fs.FileSystem, folder: Path, place: str) -> Version:
    """The version in a folder of a file system. Raises VersionError."""
    path = f"{place}/manifest.json"
    try:
        with files.open_input_file(str(folder / "manifest.json")) as file:
            manifest = json.loads(file.read())
    except FileNotFoundError as error:
        unseen = ", or it cannot be reached" if "://" in place else ""
        raise VersionError(f"{place} is no sealed dataset version: it has no manifest.json{unseen}") from error
    except OSError as error:
        raise VersionError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise VersionError(f"{path} is no valid JSON: {error}") from error
    if manifest.get("format") != VERSION_FORMAT:
        raise VersionError(f"{path}: format {manifest.get('format')!r}, this program reads {VERSION_FORMAT!r}")
    shards = tuple(manifest["shards"])
    if sum(shard["num_samples"] for shard in shards) != manifest["num_samples"]:
        raise VersionError(f"{path}: num_samples {manifest['num_samples']} is not the sum over the shards")
    if not manifest["num_samples"]:
        raise VersionError(f"{folder.name} holds no samples: nothing to train on")
    status = (manifest.get("decontamination") or {}).get("status", "missing")
    names = {name: manifest[name] for name in ("name", "digest", "num_samples", "num_texts")}
    return Version(folder=folder, shards=shards, place=place, files=files, decontamination=status, **names)


def find_version(store: Path, wanted: str = "latest") -> Version:
    """The version of a store by folder name, name of its recipe (the latest of that name), first digits of its digest,
    or `latest` (`curation.versions`).

    A URI (`s3://bucket/.../NAME`), or a path with a slash in it, is a version of its own, outside of the store.
    Raises VersionError listing the versions that there are.
    """
    if "/" in wanted:
        return open_version(wanted)
    folders = sealed_versions(store)
    if not folders:
        raise VersionError(f"{store} holds no sealed dataset version")
    found = matching(folders, wanted)
    if len(found) > 1:
        raise VersionError(f"{wanted} begins several digests: {', '.join(folder.name for folder in found)}")
    if not found:
        known = ", ".join(folder.name for folder in folders)
        raise VersionError(f"{store} has no dataset version {wanted!r}; there are: {known}")
    return open_version(found[0])
