"""A store: one folder with the pool's tables, the decisions, the dataset versions, the models and the runs.

store.json            format of the store
state.json            which files make up each table now (the views of `tamis sql` show these)
pool/000001.json ...  growth of the pool: each names the parts of its links and texts and the sources taken in
tables/<table>/       write-once parts: links, texts, media, signal_<name>, fit_<name>, duplicates, decisions ...; of a
                      pool of video and audio also segments and segment_texts: the state calls these media and texts
versions/<name>-<digest>/   sealed dataset versions: shards and manifest.json
evaluation_sets/      what no version may hold: hashes, texts and embeddings of each named set
models/               training runs
takedown/             links and digests that were taken down and never come back, and what each take-down did
selections/           one JSON file for each policy that decided: the policy, and the tables that it read
cache/                columns as selections have read them, pictures as models see them; can be deleted at any time
runs/                 one JSON file a run: when, what, how long, how much was reused
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.table import TEMPORARY_PREFIX, Part, open_part, remove_temporaries, replace_text
from curation.versions import matching, sealed_versions

FORMAT = "tamis.store/1"


class StoreError(ValueError):
    """A folder that is no store, a store of another format, or one that another run is using."""


@dataclass(frozen=True)
class PoolPart:
    """One part of the pool: its number and the files with its links and texts."""

    index: int
    links: Part
    texts: Part


@dataclass
class State:
    """Which files make up each table at present, and what the last run left."""

    tables: dict[str, list[str]] = field(default_factory=dict)
    """Table -> paths relative to the store, one for each part of the pool."""
    signals: dict[str, str] = field(default_factory=dict)
    """Signal table -> level (media or text)."""
    signal_keys: dict[str, str] = field(default_factory=dict)
    """Signal table -> key of the signal that made it: known without loading its model."""
    versions: list[str] = field(default_factory=list)
    """Names of the versions, in the order in which they were packed; the last one is the latest."""
    selection: str | None = None
    """The selection (selections/<it>.json) whose decisions the views show."""
    recipe: str | None = None
    policy_name: str | None = None
    outage: bool = False
    """Whether the last download reached nothing (`pipelines.outage`): the next one tries again what failed."""


def legend_name(signal_table: str) -> str:
    """Table with what the ids of a signal stand for."""
    return f"{signal_table}_legend"


def read_json(path: Path, *fields: str) -> dict[str, Any]:
    """A mapping with these fields. Raises StoreError where the file holds anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise StoreError(f"{path} is damaged: it holds no mapping")
    missing = [name for name in fields if name not in found]
    if missing:
        raise StoreError(f"{path} is damaged: it has no {missing[0]!r}")
    return found


def _check_name(root: Path) -> None:
    """Raises StoreError where DuckDB would take the path of a file below `root` for a pattern of several."""
    if any(mark in str(root.absolute()) for mark in "*?["):
        raise StoreError(f"{root.absolute()}: a path with * ? or [ in it cannot be a store's: choose another --store")


class Store:
    """Paths and state of one store: `Store.open` takes an existing one, `Store.create` also makes a new one."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    @classmethod
    def open(cls, root: Path) -> Store:
        """Raises StoreError where `root` is no store of this version's format."""
        _check_name(root)
        marker = root / "store.json"
        if not marker.is_file():
            raise StoreError(f"{root} is not a tamis store: it has no store.json; `tamis run` makes one")
        try:
            found = json.loads(marker.read_text())["format"]
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{marker} is damaged: it holds no format") from None
        if found != FORMAT:
            raise StoreError(
                f"{root} was written by another version: its format is {found!r}, this one reads {FORMAT!r}"
            )
        return cls(root)

    @classmethod
    def planned(cls, root: Path) -> Store:
        """The store at `root`, or the one that `create` would make there; nothing is written."""
        _check_name(root)
        # what a run that was killed right here left behind is no content
        is_new = not root.exists() or (
            root.is_dir() and all(entry.name.startswith(TEMPORARY_PREFIX) for entry in root.iterdir())
        )
        if (root / "store.json").exists():  # asked last: a rival may be making the store right now
            return cls.open(root)
        if not is_new:
            raise StoreError(f"{root} is neither empty nor a tamis store: choose another --store")
        return cls(root)

    @classmethod
    def create(cls, root: Path) -> Store:
        """Open the store at `root`, or make one in an empty or new folder."""
        found = cls.planned(root)
        if not (root / "store.json").exists():
            replace_text(root / "store.json", json.dumps({"format": FORMAT}) + "\n")
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the store for writing; raises StoreError if another run does. The lock ends with the process."""
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(descriptor, 200).decode(errors="replace").strip() or "unknown"
                raise StoreError(f"{self.root} is in use by another run ({owner}): wait for it or end it") from None
            except OSError as error:
                raise StoreError(
                    f"{self.root} cannot be locked ({error.strerror}), so two runs could write to it: put the "
                    "store on a file system that knows locks"
                ) from error
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}".encode())
            remove_temporaries(self.root)
            yield
        finally:
            os.close(descriptor)

    def table(self, name: str) -> Path:
        """Folder of a table's parts."""
        return self.root / "tables" / name

    def relative(self, path: Path) -> str:
        """`path` as the state and the manifests write it."""
        return path.relative_to(self.root).as_posix()

    # the pool ---------------------------------------------------------------------------------------------------------

    def _pool_manifests(self) -> list[Path]:
        return sorted((self.root / "pool").glob("[0-9]*.json"))

    def _pool_manifest(self) -> dict[str, Any]:
        """The newest; empty before the first ingest."""
        manifests = self._pool_manifests()
        return read_json(manifests[-1], "parts", "sources") if manifests else {"parts": [], "sources": []}

    def pool(self) -> list[PoolPart]:
        """The parts of the pool, by number; empty before the first ingest."""
        return [
            PoolPart(each["index"], open_part(self.root / each["links"]), open_part(self.root / each["texts"]))
            for each in self._pool_manifest()["parts"]
        ]

    def samples(self, state: State) -> list[PoolPart]:
        """The parts of the pool as the stages after `segment` see them: with the texts of segments, where there are
        segments. Raises StoreError where these are not those of the pool as it is now."""
        pool = self.pool()
        if "texts" not in state.tables:
            return pool
        texts = self.files(state, "texts")
        if len(texts) != len(pool):
            raise StoreError(f"{self.root}: {len(pool)} parts, {len(texts)} of them cut: `tamis run` cuts the others")
        return [PoolPart(each.index, each.links, open_part(path)) for each, path in zip(pool, texts, strict=True)]

    def texts_files(self, state: State | None = None) -> list[Path]:
        """Files of the texts, by part; no file is opened. With `state`, those of segments where there are segments."""
        if state is not None and "texts" in state.tables:
            return self.files(state, "texts")
        return [self.root / each["texts"] for each in self._pool_manifest()["parts"]]

    def pool_sources(self) -> list[dict[str, Any]]:
        """The source files taken in so far: name, digest, rows."""
        return list(self._pool_manifest()["sources"])

    def grow_pool(self, parts: list[PoolPart], sources: list[dict[str, Any]]) -> None:
        """Publish the next state of the pool in one step."""
        number = len(self._pool_manifests()) + 1
        entries = [
            {"index": each.index, "links": self.relative(each.links.path), "texts": self.relative(each.texts.path)}
            for each in parts
        ]
        manifest = {"parts": entries, "sources": sources}
        replace_text(self.root / "pool" / f"{number:06d}.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")

    # the state --------------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """What the last stage left; empty before the first run."""
        path = self.root / "state.json"
        if not path.is_file():
            return State()
        try:
            return State(**read_json(path))
        except TypeError as error:
            raise StoreError(f"{path} is damaged: {error}") from error

    def save_state(self, state: State) -> None:
        """Replace the state in one step."""
        replace_text(self.root / "state.json", json.dumps(state.__dict__, indent=1, sort_keys=True) + "\n")

    def files(self, state: State, table: str) -> list[Path]:
        """Files of a table as the state has it."""
        return [self.root / name for name in state.tables.get(table, [])]

    # versions ---------------------------------------------------------------------------------------------------------

    def version_path(self, name: str = "latest") -> Path:
        """Folder of a dataset version by its name, that of its recipe, the first digits of its digest, or `latest`
        (`curation.versions`).

        Raises StoreError naming the versions that there are.
        """
        folders = sealed_versions(self.root)
        matches = matching(folders, name)
        if len(matches) != 1:
            problem = "has no version" if not matches else "has several versions"
            known = ", ".join(sorted(folder.name for folder in folders)) or "none"
            raise StoreError(f"{self.root} {problem} {name!r}; there are: {known}")
        return matches[0]
