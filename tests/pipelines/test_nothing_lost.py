"""Faults while pictures are downloaded: the tables end with the bytes of an undisturbed run, and no file lies about.

Runs that are killed as a whole: tests/test_idempotence.py.
"""

import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.media.decode import Decoder
from curation.table import TEMPORARY_PREFIX
from pipelines import media_row
from tests.stores import Served, command, digests, environment, leftovers, recipe, run, run_arguments, tamis


@pytest.fixture(scope="module")
def undisturbed(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed")
    run(root / "store", recipe(root / "r.yaml"), served.links)
    return root / "store"


def is_the_same(store: Path, undisturbed: Path) -> None:
    assert digests(store / "tables") == digests(undisturbed / "tables")
    assert digests(store / "versions") == digests(undisturbed / "versions")
    assert leftovers(store) == []


def largest_part(store: Path) -> tuple[int, int]:
    """Of the media part with the largest file: the size of its pictures, and of the file."""
    path = max((store / "tables" / "media").glob("*.parquet"), key=lambda each: each.stat().st_size)
    sizes = [len(data) for data in pq.read_table(path, columns=["bytes"]).column(0).to_pylist() if data is not None]
    return sum(sizes), path.stat().st_size


@pytest.mark.parametrize("at", [2])
def test_a_decoder_child_is_killed_in_the_midst_of_a_part(
    served: Served, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    looked_at, killed = media_row.looked_at, list[int]()
    count = 0

    def kills_the_child(*arguments: Any) -> list[dict[str, Any]]:
        nonlocal count
        count += 1
        child = media_row.decoder(arguments[1].decode, arguments[1].image)._child
        if count == at:
            assert child is not None
            killed.append(child._process.pid)
            os.kill(child._process.pid, signal.SIGKILL)
        return looked_at(*arguments)

    monkeypatch.setattr(media_row, "looked_at", kills_the_child)
    run(tmp_path / "store", recipe(tmp_path / "r.yaml"), served.links)
    assert len(killed) == 1
    is_the_same(tmp_path / "store", undisturbed)


def test_the_child_is_killed_while_it_works(
    served: Served, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the request has been sent, before the answer: stopped first, so that it cannot be quicker."""
    convert, killed = Decoder.convert_several, list[int]()

    def stops_the_child(self: Decoder, items: Sequence[bytes]) -> Any:
        if self._child is not None and not killed:
            pid = self._child._process.pid
            os.kill(pid, signal.SIGSTOP)
            killed.append(pid)
            threads = subprocess.Popen(["sh", "-c", f"sleep 0.2; kill -9 {pid}"])
            found = convert(self, items)
            assert threads.wait(10) == 0
            return found
        return convert(self, items)

    monkeypatch.setattr(Decoder, "convert_several", stops_the_child)
    run(tmp_path / "store", recipe(tmp_path / "r.yaml"), served.links)
    assert len(killed) == 1
    is_the_same(tmp_path / "store", undisturbed)


@pytest.mark.parametrize("where", ["among the pictures", "in the part's file"])
def test_the_disk_is_full(served: Served, undisturbed: Path, tmp_path: Path, where: str) -> None:
    """A limit on the size of a file stands for it: it too ends a write with an error. The run says which part."""
    pictures, file = largest_part(undisturbed)
    limit = (pictures if where == "among the pictures" else file) - 1
    assert where == "among the pictures" or limit > pictures
    store, made = tmp_path / "store", recipe(tmp_path / "r.yaml")
    done = subprocess.run(
        command(*run_arguments(store, made, served.links)),
        capture_output=True, text=True, timeout=120, env=environment(), check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 4, done.stderr
    assert "download of part" in done.stderr
    assert "File too large" in done.stderr
    run(store, made, served.links)
    is_the_same(store, undisturbed)


def test_a_torn_part_under_another_name_is_swept_away(served: Served, undisturbed: Path, tmp_path: Path) -> None:
    """What a machine that lost its power leaves: files get their name once they are whole."""
    store, made = tmp_path / "store", recipe(tmp_path / "r.yaml")
    media = store / "tables" / "media"
    media.mkdir(parents=True)
    (store / "store.json").write_text((undisturbed / "store.json").read_text())
    for path in (undisturbed / "tables" / "media").glob("*.parquet"):
        data = path.read_bytes()
        (media / f"{TEMPORARY_PREFIX}77-ab-{path.name}").write_bytes(data[: len(data) // 2])
    run(store, made, served.links)
    is_the_same(store, undisturbed)


def test_a_torn_part_is_named_and_made_again_once_it_is_gone(served: Served, undisturbed: Path, tmp_path: Path) -> None:
    """A disk that lost what it had promised to hold."""
    store, made = tmp_path / "store", recipe(tmp_path / "r.yaml")
    run(store, made, served.links)
    torn = min((store / "tables" / "media").glob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:-100])
    done = tamis(*run_arguments(store, made, served.links))
    assert done.returncode == 4
    assert "tamis verify" in done.stderr
    checked = tamis("verify", store)
    assert checked.returncode != 0
    assert torn.name in checked.stdout + checked.stderr
    torn.unlink()
    run(store, made, served.links)
    is_the_same(store, undisturbed)
