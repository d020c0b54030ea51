"""What a user is told of an error: where, what, and what to do; and with which exit status."""

import errno
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import duckdb
import pytest
import typer
from pydantic import BaseModel, Field

from flows.explained import CONTINUE, HUNG_UP, NOT_READ, explained
from pipelines.workers import PartFailed
from tests.stores import environment


class Limits(BaseModel):
    height: int = Field(gt=0)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/d/p"), 4, ["/d/p: no space left", "make room", CONTINUE]),
        (PermissionError(errno.EACCES, "Permission denied", "/d"), 2, ["/d: permission denied", "that you may write"]),
        (OSError(errno.EROFS, "Read-only file system", "/d"), 2, ["/d: read-only file system", "that you may write"]),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/d"), 2, ["/d: is a directory"]),
        (FileNotFoundError(errno.ENOENT, "No such file", "/d/tables/x"), 2, ["/d/tables/x: no such file", "verify"]),
        (FileNotFoundError(errno.ENOENT, "Failed to open '/d/.tmp-1-ab-x'"), 2, ["Failed to open '/d/x'"]),
        (OSError(errno.EIO, "Input/output error", "/d/x"), 4, ["/d/x: input/output error", CONTINUE]),
        (OSError("no Ray dashboard answers"), 4, ["no Ray dashboard answers", CONTINUE]),
        (KeyboardInterrupt(), 130, ["interrupted", CONTINUE]),
        (PartFailed("download of part 3: OSError: full"), 4, ["download of part 3", CONTINUE]),
    ],
)  # fmt: skip
def test_errors_are_said(
    error: BaseException, status: int, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        raise error
    assert ended.value.exit_code == status
    told = capsys.readouterr().err
    assert all(each in told for each in said)


def test_what_failed_lets_go_of_what_it_held() -> None:
    """Though the error is still there: DuckDB complains of connections that are open at the end of the process."""

    class Connection:
        pass

    held: list[weakref.ref[Connection]] = []

    def ask() -> None:
        connection = Connection()
        held.append(weakref.ref(connection))
        try:
            raise ValueError("deeper")
        except ValueError as error:
            raise OSError("no dashboard answers") from error

    with pytest.raises(typer.Exit) as ended, explained():
        ask()
    assert ended.value.__context__ is not None
    assert held[0]() is None


def test_a_value_of_an_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        Limits(height=-5)
    assert ended.value.exit_code == 2
    assert "height: Input should be greater than 0 (value: -5)" in capsys.readouterr().err


@pytest.mark.parametrize("say", ["print", "Screen(highlight=False).print"])
def test_nobody_reads(tmp_path: Path, say: str) -> None:
    """More than a pipe holds, to a reader that goes after the first line: no error, no traceback."""
    code = f"from flows.explained import *\nsay = {say}\nwith explained():\n for i in range(99999): say('line', i)"
    command = f'{sys.executable} -c "{code}" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (NOT_READ, "line 0\n", "")


@pytest.mark.parametrize("output", [">&-", "| cat"])
def test_a_closed_or_poor_output_is_no_error(tmp_path: Path, output: str) -> None:
    """Started without a standard output, or with one that knows ASCII only."""
    words = ["flows.cli", "status", str(tmp_path / "\u00fc")]
    command = f"{sys.executable} -m {' '.join(words)} {output}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True, text=True, env=environment(PYTHONIOENCODING="ascii"), check=False,
    )  # fmt: skip
    assert (done.returncode, "\\xfc is not a tamis store" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (duckdb.OutOfMemoryException("cannot offload 2 KiB.\nPossible solutions:"), 4, "2 KiB: make room, on the disk"),
        (duckdb.IOException("No space left on device"), 4, f"device: make room, on the disk or in memory. {CONTINUE}"),
        (duckdb.IOException('No files found that match the pattern "/s/tables/x"'), 2, "; `tamis verify STORE` says"),
        (duckdb.BinderException("no such column"), 2, "SQL: no such column"),
    ],
)  # fmt: skip
def test_what_the_database_could_not_do(
    error: duckdb.Error, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended, explained():
        raise error
    assert ended.value.exit_code == status
    told = capsys.readouterr().err
    assert said in told
    assert "Possible solutions" not in told


ENDS_ITSELF = """
import os, signal
from flows.explained import explained
with explained():
    os.kill(os.getpid(), signal.SIGHUP)
    print("goes on")
"""


@pytest.mark.parametrize(("before", "status", "said"), [("", HUNG_UP, ""), ("nohup ", 0, "goes on\n")])
def test_a_terminal_that_goes_away(tmp_path: Path, before: str, status: int, said: str) -> None:
    """What a run holds is let go of, unless it was to outlive its terminal."""
    done = subprocess.run(
        ["bash", "-c", f"{before}{sys.executable} -c '{ENDS_ITSELF}'"],
        capture_output=True, text=True, env=environment(), cwd=tmp_path, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (status, said)
    assert ("ended by SIGHUP" in done.stderr) == (status == HUNG_UP)


def test_handlers_are_put_back() -> None:
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with explained():
        assert all(signal.getsignal(number) not in before for number in numbers)
    assert [signal.getsignal(number) for number in numbers] == before


OPENS_ONE = """
import os, sys
from flows import cli
cli.app = lambda: os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), os.readlink("/proc/self/fd/2").encode())
cli.main()
"""


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """A library that prints would write into it."""
    opened = tmp_path / "opened"
    command = f"{sys.executable} -c '{OPENS_ONE}' {opened} <&- >&- 2>&-"
    assert subprocess.run(["bash", "-c", command], env=environment(), check=False).returncode == 0
    assert opened.read_text() == os.devnull
