"""Sessions of Ray: those that are over go, those in use stay."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.ray_sessions import remove_old_sessions


@pytest.fixture
def folder() -> Iterator[Path]:
    """One with a short path: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def session(folder: Path, hour: int, pid: int) -> Path:
    path = folder / f"session_2026-11-22_{hour:02}-00-00_123456_{pid}"
    (path / "sockets").mkdir(parents=True)
    (path / "logs").mkdir()
    (path / "logs" / "raylet.out").write_text("line\n")
    return path


def ended() -> int:
    """The number of a process that is over."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_old_sessions_go_and_those_in_use_stay(folder: Path) -> None:
    gone = ended()
    old, silent, served, ours, newest = (
        session(folder, hour, pid) for hour, pid in enumerate([gone, gone, gone, os.getpid(), gone])
    )
    (folder / "session_latest").symlink_to(newest)
    (folder / "notes").mkdir()
    for path in (silent, served):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path / "sockets" / "plasma_store"))
        if path is served:
            listener.listen()
            kept = listener
        else:
            listener.close()  # the file of the socket stays, as it does of a Ray that was killed
    assert remove_old_sessions(folder) == 2
    assert {path.name for path in folder.iterdir()} == {
        *(path.name for path in (served, ours, newest)), "session_latest", "notes"
    }  # fmt: skip
    kept.close()
    assert remove_old_sessions(folder) == 1
    assert not any(path.exists() for path in (old, silent, served))


def test_of_others_nothing_is_taken(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    theirs = session(folder, 1, ended())
    os.chown(theirs, 65534, 65534)
    session(folder, 2, ended())
    assert remove_old_sessions(folder) == 0
    assert theirs.exists()


def test_no_folder_no_sessions(folder: Path) -> None:
    assert remove_old_sessions(folder / "none") == 0
