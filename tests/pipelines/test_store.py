"""Stores: one writer, no foreign folders, damage is named, versions are found by name."""

import errno
import json
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.store import FORMAT, State, Store, StoreError
from tests.stores import environment, tamis

HOST = re.escape(platform.node())
"""Processes of several machines may share a store."""
HOLD = """
import sys, pathlib
from pipelines.store import Store
with Store.create(pathlib.Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_new_store_and_an_old_one(tmp_path: Path) -> None:
    for root in (tmp_path / "a" / "new", tmp_path / "empty"):
        if root.name == "empty":
            root.mkdir()
        Store.create(root)
        assert Store.create(root).root == Store.open(root).root == root
        assert Store.open(root).pool() == []
        assert Store.open(root).state() == State()


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for make in (Store.create, Store.open):
        with pytest.raises(StoreError, match=str(tmp_path)):
            make(tmp_path)
    with pytest.raises(StoreError, match="nor a tamis store"):
        Store.create(tmp_path / "thesis.tex")
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["a*b", "what?", "run[1]"])
def test_a_path_that_is_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    for root in (tmp_path / name, tmp_path / name / "store"):
        for make in (Store.create, Store.open):
            with pytest.raises(StoreError, match="choose another --store"):
                make(root)
    assert list(tmp_path.iterdir()) == []


def test_a_store_whose_making_was_killed_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir()
    (root / ".tmp-123-abcd-store.json").write_text('{"form')
    store = Store.create(root)
    with store.locked():
        assert sorted(each.name for each in root.iterdir()) == [".lock", "store.json"]


def test_a_store_that_a_rival_makes_meanwhile_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, listed = tmp_path / "store", Path.iterdir
    root.mkdir()

    def late(folder: Path) -> Iterator[Path]:
        (root / "store.json").write_text(json.dumps({"format": FORMAT}))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", late)
    assert Store.create(root).root == root


def test_a_file_system_without_locks_is_not_a_store_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store = Store.create(tmp_path / "store")
    monkeypatch.setattr("fcntl.flock", none)
    with pytest.raises(StoreError, match=r"cannot be locked \(No locks available\).*that knows locks"), store.locked():
        pass


def test_another_format_and_a_damaged_marker(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    marker = store.root / "store.json"
    marker.write_text(json.dumps({"format": "tamis.store/99"}))
    with pytest.raises(StoreError, match=rf"tamis\.store/99.*{FORMAT}"):
        Store.open(store.root)
    for damaged in ("", "{", "[]", "{}", "3", '{"form": 1}'):
        marker.write_text(damaged)
        with pytest.raises(StoreError, match=r"store\.json is damaged"):
            Store.open(store.root)


@pytest.mark.parametrize("name", ["state.json", "pool/000001.json"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    store = Store.create(tmp_path / "store")
    store.grow_pool([], [])
    store.save_state(State(recipe="x"))
    path = store.root / name
    path.write_text(path.read_text()[:-8])
    with pytest.raises(StoreError, match=f"{name} is damaged"):
        (store.state if name == "state.json" else store.pool)()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "store"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(StoreError, match=rf"in use by another run \(process {holder.pid} on {HOST}\)"),
            Store.open(root).locked(),
        ):
            pass
        os.kill(holder.pid, signal.SIGKILL)  # the lock ends with the process, however that ends
        holder.wait(10)
        with Store.open(root).locked():
            assert (root / ".lock").read_text() == f"process {os.getpid()} on {platform.node()}"
        with Store.open(root).locked():
            pass
    finally:
        holder.kill()
        holder.wait(10)
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.close()
        holder.stdout.close()


def test_only_the_holder_of_the_lock_removes_temporaries(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    left = store.root / "tables" / "media" / ".tmp-1-x.parquet"
    left.parent.mkdir(parents=True)
    left.write_text("half")
    Store.open(store.root)
    assert left.exists()
    with store.locked():
        assert not left.exists()


def test_versions_by_name(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    with pytest.raises(StoreError, match="there are: none"):
        store.version_path()
    for name in ("demo-first-aaa111", "demo-first-abb222", "other-ccc333", "demo-unsealed-ddd444"):
        (store.root / "versions" / name).mkdir(parents=True)
        if "unsealed" not in name:
            (store.root / "versions" / name / "manifest.json").write_text("{}")
    store.save_state(State(versions=["other-ccc333", "demo-first-abb222", "demo-first-aaa111", "demo-unsealed-ddd444"]))

    def found(name: str) -> str:
        return store.version_path(name).name

    assert found("latest") == "demo-first-aaa111"  # packed last of those that are sealed
    assert found("demo-first-abb222") == found("abb") == "demo-first-abb222"
    assert found("demo-first") == "demo-first-aaa111"
    for wrong in ("a", "demo", "ddd444", "../store", ""):
        with pytest.raises(StoreError, match="other-ccc333"):
            found(wrong)


@pytest.mark.parametrize("name", ["state.json", "pool/000001.json", "versions/v-1/manifest.json", "runs/r.json"])
@pytest.mark.parametrize("content", ['{"par', "[]", '{"x": 1}'])
def test_a_damaged_file_is_named_by_whatever_reads_it(tmp_path: Path, name: str, content: str) -> None:
    root = Store.create(tmp_path / "store").root
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(content)
    for command in ("status", "sql", "report"):
        done = tamis(command, root, *(["select 1"] if command == "sql" else []))
        assert (done.returncode, str(root / name) in done.stderr) == (2, True), done.stderr
