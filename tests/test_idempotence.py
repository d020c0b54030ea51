"""A run may be ended at any moment: run again, it ends with the very bytes of a run that nothing disturbed.

Killed at every stage, by SIGKILL to the whole process group and by SIGTERM to the process alone; and what changes in a
recipe or in the links is all that is done again.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.stores import (
    LEDGER,
    STRICT,
    Served,
    command,
    digests,
    environment,
    last_run,
    leftovers,
    links_file,
    parts_run,
    recipe,
    rows,
    run,
    run_arguments,
)

SECONDS_TO_START, SECONDS_TO_END = 60.0, 90.0
NEAR = {"exact": ["sha256", "pixel_hash"], "perceptual": False}
MANNERS: dict[str, Any] = {}
"""Of the download: the usual ones, so that it takes long enough to be killed in."""


@dataclass(frozen=True)
class Job:
    """What is run, and the store that came of it when nothing disturbed it."""

    recipe: Path
    links: Path
    undisturbed: Path

    def start(self, store: Path, address: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command(*run_arguments(store, self.recipe, self.links, address=address)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,
        )

    def check(self, store: Path) -> None:
        """Shards, manifests and ledger are those of the undisturbed store, and nothing unfinished lies about."""
        assert digests(store / "versions") == digests(self.undisturbed / "versions")
        assert rows(store, LEDGER) == rows(self.undisturbed, LEDGER)
        assert digests(store / "pool") == digests(self.undisturbed / "pool")
        assert leftovers(store) == []
        assert last_run(store)["outcome"] == "complete"


@pytest.fixture(scope="module")
def job(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """18 of the crawl's URLs with all their captions: dead links among them, 3 parts, 3 shards."""
    root = tmp_path_factory.mktemp("job")
    table = served.table
    chosen = set(sorted(set(table.column("url").to_pylist()))[::2][:18])
    some = [row for row in table.to_pylist() if row["url"] in chosen]
    links = links_file(
        root / "l.parquet",
        [(row["url"], row["caption"]) for row in some],
        language=[row["language"] for row in some],
        split=[row["split"] for row in some],
    )
    small = recipe(root / "r.yaml", duplicates=NEAR, download=MANNERS)
    run(root / "store", small, links)
    return Job(small, links, root / "store")


def some_files(pattern: str, count: int) -> Callable[[Path], bool]:
    """Whether as many files match below the store."""
    return lambda store: len(list(store.glob(pattern))) >= count


def after(pattern: str, count: int, seconds: float) -> Callable[[Path], bool]:
    """A little later than that."""
    seen: list[float] = []

    def reached(store: Path) -> bool:
        if not seen and some_files(pattern, count)(store):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= seconds

    return reached


def at(moment: float) -> Callable[[Path], bool]:
    """Once the clock (`time.monotonic`) has reached the moment, whatever the store holds."""
    return lambda _: time.monotonic() >= moment


POINTS: dict[str, Callable[[Path], bool]] = {
    "as the store is made": some_files("store.json", 1),
    "in ingest": some_files("tables/texts/*.parquet", 1),
    "in download": some_files("tables/media/*.parquet", 1),
    "in the midst of a part": after("tables/media/*.parquet", 1, 0.15),
    "in score": some_files("tables/signal_*/*.parquet", 3),
    "in pack": some_files("versions/*/*.parquet", 1),
    "as the version is sealed": some_files("versions/*/manifest.json", 1),
}


def interrupt(process: "subprocess.Popen[bytes]", store: Path, reached: Callable[[Path], bool], how: str) -> bool:
    """End the run at a point; returns whether it was still running then. What it started ends with it."""
    end = time.monotonic() + SECONDS_TO_START
    assert process.stderr is not None
    try:
        while process.poll() is None and not reached(store):
            assert time.monotonic() < end, "the point was never reached"
            time.sleep(0.002)
        if process.poll() is not None:
            return False
        if how == "SIGTERM":
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            return True
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
        return True
    finally:
        end_group(process)
        process.stderr.close()


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is left of the group of a process that we started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def finish_on_ray(job: Job, store: Path, home: Path) -> None:
    """On a local Ray in a process of its own, which leaves nothing in the user's folder."""
    home.mkdir()
    done = subprocess.run(
        command(*run_arguments(store, job.recipe, job.links, address="local")),
        capture_output=True, text=True, timeout=SECONDS_TO_END, env=environment(HOME=str(home)), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [each.name for each in home.iterdir()] == []


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again(job: Job, tmp_path: Path, point: str) -> None:
    store = tmp_path / "store"
    alive = interrupt(job.start(store, "serial"), store, POINTS[point], "SIGKILL")
    assert alive or point == "as the version is sealed"
    run(store, job.recipe, job.links)
    job.check(store)


def test_killed_again_and_again(job: Job, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for point in ("in ingest", "in download", "in score", "in pack"):
        interrupt(job.start(store, "serial"), store, POINTS[point], "SIGKILL")
    run(store, job.recipe, job.links)
    job.check(store)


@pytest.mark.parametrize("point", ["in download", "in score"])
def test_terminated_and_run_again(job: Job, tmp_path: Path, point: str) -> None:
    store = tmp_path / "store"
    process = job.start(store, "serial")
    assert interrupt(process, store, POINTS[point], "SIGTERM")
    assert process.returncode == 143
    assert last_run(store)["outcome"] == "failed"
    assert leftovers(store) == []
    run(store, job.recipe, job.links)
    job.check(store)


def test_nothing_outlives_a_process_that_was_killed_alone(job: Job, tmp_path: Path) -> None:
    """The decoder's child and other helpers end by themselves when the run's process is gone."""
    store = tmp_path / "store"
    process = job.start(store, "serial")
    end = time.monotonic() + SECONDS_TO_START
    while not POINTS["in score"](store):
        assert time.monotonic() < end
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert process.wait(30) == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=10)
    end_group(process)
    assert process.stderr is not None
    process.stderr.close()
    assert alive == []


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_on_local_ray(job: Job, tmp_path: Path, how: str) -> None:
    store = tmp_path / "store"
    process = job.start(store, "local")
    assert interrupt(process, store, POINTS["in score"], how)
    assert process.returncode == (143 if how == "SIGTERM" else -signal.SIGKILL)
    if how == "SIGKILL":
        finish_on_ray(job, store, tmp_path / "home")
    else:
        run(store, job.recipe, job.links)
    job.check(store)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments(job: Job, tmp_path: Path) -> None:
    """24 runs, each ended after a random time; every fourth is ended twice."""
    began = time.monotonic()
    done = subprocess.run(
        command(*run_arguments(tmp_path / "timed", job.recipe, job.links)), env=environment(), timeout=120, check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0
    whole = time.monotonic() - began
    rng = random.Random(20240817)
    ended = 0
    for number in range(24):
        store = tmp_path / f"store-{number}"
        for _ in range(2 if number % 4 == 0 else 1):
            moment = time.monotonic() + rng.uniform(0.3, whole)
            ended += interrupt(
                job.start(store, "serial"), store, lambda _, at=moment: time.monotonic() >= at, "SIGKILL"
            )
        run(store, job.recipe, job.links)
        job.check(store)
    assert ended >= 20
    print(f"{ended} of 30 runs killed within {whole:.1f} s", file=sys.stderr)


def stages(store: Path) -> set[str]:
    """The stages that made anything in the newest run."""
    return {name for name, parts in parts_run(store).items() if parts}


def with_policy(folder: Path, policy: Sequence[dict[str, str]]) -> Path:
    return recipe(folder / "changed.yaml", list(policy), duplicates=NEAR, download=MANNERS)


def test_what_changes_is_all_that_is_done_again(job: Job, served: Served, tmp_path: Path) -> None:
    store = tmp_path / "store"
    run(store, job.recipe, job.links)
    assert stages(store) == {"ingest", "download", "score", "dedupe", "select", "pack"}
    run(store, job.recipe, job.links)
    assert stages(store) == set()
    job.check(store)

    run(store, with_policy(tmp_path, STRICT), job.links)
    assert stages(store) == {"select", "pack"}
    run(store, job.recipe, job.links)
    assert stages(store) == set()
    assert {path.name for path in job.undisturbed.glob("versions/*")} < {path.name for path in store.glob("versions/*")}

    seen = set(served.pictures) & {row["url"] for row in rows(store, "select url from media")}
    new = links_file(tmp_path / "new.parquet", [(url, "new") for url in served.pictures if url not in seen][:3])
    before = digests(store / "tables")
    run(store, job.recipe, job.links, new)
    done = parts_run(store)
    assert (done["ingest"], done["download"]) == (1, 1)
    assert done["score"] == 5  # one part of each signal
    assert before.items() <= digests(store / "tables").items()
    assert len(rows(store, "select * from ledger where text = 'new' and kept")) == 3
