"""Small recipes, small link tables and runs of the main job: what the tests of stages and stores share."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.main_job import Options, perform
from pipelines import database
from pipelines.store import Store
from pipelines.views import open_store

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ("127.0.0.0/8",)
STRICT = [{"rule": "long_caption", "keep": "num_words >= 2"}, {"dedupe": "near_duplicate"}]
LOOSE = [{"rule": "some_text", "keep": "text_clean is not null"}, {"dedupe": "near_duplicate"}]
SIGNALS = [
    "text_hygiene.TextHygiene",
    "caption_statistics.CaptionStatistics",
    "keyed_draw.KeyedDraw",
    "probe.Probe",
    "content_hash.ContentHash",
]

HASTE = {"requests_per_second_per_host": 10_000, "backoff_s": 0.01}
"""Fetching from a server of our own, which need not be spared: the usual manners would take a second a run."""


@dataclass(frozen=True)
class Served:
    """A crawl on a loopback server: `links` is its table of rows, `pictures` are the URLs without a defect."""

    links: Path
    pictures: tuple[str, ...]
    url: str

    @property
    def table(self) -> pa.Table:
        return pq.read_table(self.links)


def recipe(path: Path, policy: Sequence[dict[str, Any]] | None = None, **changes: Any) -> Path:
    """A recipe of cheap signals with one policy; `changes` replace top-level fields."""
    content: dict[str, Any] = {
        "name": "small",
        "samples_per_part": 8,
        "source": {"columns": {"url": "url", "text": "caption", "language": "language", "extra": ["split"]}},
        "download": {"fetch": HASTE},
        "signals": [{"use": f"curation.signals.{name}"} for name in SIGNALS],
        "duplicates": {"exact": ["sha256"], "perceptual": False},
        "policy": list(policy or LOOSE),
        "pack": {"samples_per_shard": 6, "columns": ["split"], "text_columns": ["num_words"]},
    }
    path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
    return path


def options(store: Path, recipe_file: Path, links: Sequence[Path], address: str = "serial") -> Options:
    return Options(recipe_file, store, tuple(links), allow_net=NETWORKS, address=address)


def run(store: Path, recipe_file: Path, *links: Path, address: str = "serial") -> list[str]:
    """Do the main job; returns what it said."""
    said: list[str] = []
    perform(options(store, recipe_file, links, address), said.append)
    return said


def last_run(store: Path) -> dict[str, Any]:
    """The newest run as it recorded itself."""
    found: dict[str, Any] = json.loads(max((store / "runs").glob("*.json")).read_text())
    return found


def parts_run(store: Path) -> dict[str, int]:
    """Stage -> parts made by the newest run; for ingest, the pool's parts."""
    return {
        each["stage"]: each["parts_run"] or each["counts"].get("parts_made", 0) for each in last_run(store)["stages"]
    }


def rows(store: Path, sql: str) -> list[dict[str, Any]]:
    con = open_store(Store.open(store))
    found = database.rows(con, sql)
    con.close()
    return found


LEDGER = "select * from ledger order by text_uid"


def digests(folder: Path) -> dict[str, str]:
    """Path below `folder` -> SHA-256 of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(store: Path) -> list[Path]:
    return list(store.rglob(".tmp-*"))


def links_file(path: Path, links: Sequence[tuple[str | None, str | None]], **columns: Sequence[Any]) -> Path:
    """A Parquet link table of (url, caption); language en and split train unless `columns` says otherwise."""
    count = len(links)
    table = {
        "url": pa.array([url for url, _ in links], pa.string()),
        "caption": pa.array([text for _, text in links], pa.string()),
        "language": ["en"] * count,
        "split": ["train"] * count,
        **columns,
    }
    pq.write_table(pa.table(table), path)
    return path


def environment(**changes: str) -> dict[str, str]:
    """For a child: tamis importable, no settings of Prefect or Ray."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RAY_"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "COLUMNS": "200", **changes}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *map(str, arguments)]


def run_arguments(store: Path, recipe_file: Path, *links: Path, address: str = "serial") -> list[str]:
    """The arguments of `tamis` for a run."""
    named = [str(each) for link in links for each in ("--links", link)]
    return ["run", str(recipe_file), "--store", str(store), *named, "--allow-net", *NETWORKS, "--address", address]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def tamis(*arguments: str | Path) -> Done:
    """The command line in this process, to save its imports; an error that it does not explain is raised."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    return Done(result.exit_code, result.stdout, result.stderr)


def tamis_alone(*arguments: str | Path) -> Done:
    """The command line in a process of its own."""
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=120, env=environment(), check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)
