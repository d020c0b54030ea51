"""Sealed dataset versions, as pre-training reads them: a manifest and Parquet shards, one row a sample."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = "tamis.dataset/1"
MIN_DIGITS = 6
"""Fewest digits of a digest that name a version."""


class VersionError(ValueError):
    """A dataset version that is missing, ambiguous, of another format, or damaged."""


@dataclass(frozen=True)
class Version:
    """One sealed version. digest: 64 hex digits; shards: file names in their order."""

    folder: Path
    name: str
    digest: str
    num_samples: int
    num_texts: int
    shards: tuple[dict[str, Any], ...]

    def columns(self) -> list[str]:
        """Names of the columns of a sample."""
        if not self.shards:
            return []
        return list(pq.read_schema(self.folder / self.shards[0]["name"]).names)

    def read(self, columns: list[str]) -> pa.Table:
        """These columns of all samples, in the order of the version, page checksums verified."""
        tables = []
        for shard in self.shards:
            with pq.ParquetFile(self.folder / shard["name"], page_checksum_verification=True) as file:
                tables.append(file.read(columns=columns))
        return pa.concat_tables(tables)

    def images(self) -> Iterator[bytes]:
        """The encoded bytes of every sample's picture, in the order of the version, a few at a time in memory."""
        for shard in self.shards:
            with pq.ParquetFile(self.folder / shard["name"], page_checksum_verification=True) as file:
                for batch in file.iter_batches(batch_size=64, columns=["image"]):
                    for value in batch.column(0):
                        yield value.as_py() or b""

    def verify(self) -> None:
        """Read every shard and compare it with the manifest. Raises VersionError naming the damaged shard."""
        for shard in self.shards:
            path = self.folder / shard["name"]
            if not path.is_file():
                raise VersionError(f"{path}: the shard is missing")
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != shard["sha256"]:
                raise VersionError(f"{path}: the shard is damaged: SHA-256 {found}, sealed as {shard['sha256']}")


def open_version(folder: Path) -> Version:
    """The version in `folder`. Raises VersionError where the folder holds none, or one without samples."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VersionError(f"{folder} is no sealed dataset version: it has no manifest.json") from error
    except json.JSONDecodeError as error:
        raise VersionError(f"{path} is no valid JSON: {error}") from error
    if manifest.get("format") != FORMAT:
        raise VersionError(f"{path}: format {manifest.get('format')!r}, this program reads {FORMAT!r}")
    shards = tuple(manifest["shards"])
    if sum(shard["num_samples"] for shard in shards) != manifest["num_samples"]:
        raise VersionError(f"{path}: num_samples {manifest['num_samples']} is not the sum over the shards")
    if not manifest["num_samples"]:
        raise VersionError(f"{folder.name} holds no samples: nothing to train on")
    return Version(folder, manifest["name"], manifest["digest"], manifest["num_samples"], manifest["num_texts"], shards)


def find_version(store: Path, wanted: str = "latest") -> Version:
    """The version of a store by folder name, start of its digest, name (the newest of that name), or `latest`.

    Raises VersionError listing the versions that there are.
    """
    folders = sorted((path.parent for path in (store / "versions").glob("*/manifest.json")), key=_sealed_at)
    known = ", ".join(folder.name for folder in folders) or "none"
    if not folders:
        raise VersionError(f"{store} holds no sealed dataset version")
    if wanted == "latest":
        return open_version(folders[-1])
    versions = [open_version(folder) for folder in folders]
    by_folder = [version for version in versions if wanted in (version.folder.name, version.name)]
    if by_folder:
        return by_folder[-1]
    if re.fullmatch(rf"[0-9a-f]{{{MIN_DIGITS},64}}", wanted):
        by_digest = [version for version in versions if version.digest.startswith(wanted)]
        if len(by_digest) > 1:
            raise VersionError(f"{wanted} begins several digests: {', '.join(v.folder.name for v in by_digest)}")
        if by_digest:
            return by_digest[0]
    raise VersionError(f"{store} has no dataset version {wanted!r}; there are: {known}")


def _sealed_at(folder: Path) -> tuple[int, str]:
    return (folder / "manifest.json").stat().st_mtime_ns, folder.name
