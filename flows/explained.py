"""Errors that a user can do something about, as one clear message and an exit status instead of a traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pipelines.database import SqlError


class Screen(Console):
    """A terminal or a pipe; where nobody reads it, that is for `explained` to say (rich would end with 1)."""

    def on_broken_pipe(self) -> None:
        raise  # rich calls this where it has caught the BrokenPipeError


err = Screen(stderr=True, soft_wrap=True, highlight=False, emoji=False)
HUNG_UP = 128 + signal.SIGHUP
"""Exit status where the terminal went away. Under `nohup` nothing ends then."""
INTERRUPTED = 128 + signal.SIGINT
NOT_READ = 128 + signal.SIGPIPE
"""Exit status where nobody reads what is written, such as `head` once it has its lines."""
NOTHING_REACHED = 5
"""Exit status of a run that is complete, but reached (nearly) none of its links."""
CONTINUE = "Nothing that was finished is lost: run the same command again to continue."
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS)
_WRONG_PATH = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)

_TEMPORARY = re.compile(r"\.tmp-[0-9]+-[0-9a-f]+-")  # of `curation.table`, before the name of what was to be written
_OF_A_STORE = re.compile(r"/(tables|pool|versions)/")


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM, and a terminal that goes away, raise SystemExit in what runs inside. Puts the handlers back."""
    ended = 0

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        nonlocal ended
        ended = number
        raise SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup
        del before[signal.SIGHUP]
    for number in before:
        signal.signal(number, end)
    try:
        yield
    except SystemExit:
        # Ray's blocking calls let a SystemExit through, but with the status 1
        if ended:
            with suppress(OSError):  # of a terminal that is gone
                err.print(f"ended by {signal.Signals(ended).name}. {CONTINUE}")
            raise SystemExit(128 + ended) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


@contextmanager
def explained() -> Iterator[None]:
    """Turn the errors that a user can do something about into one clear message and an exit status."""
    from pyarrow import ArrowException
    from pydantic import ValidationError

    from curation.table import NoPart
    from pipelines.database import SqlError
    from pipelines.outage import Outage
    from pipelines.pool_rows import Misaligned
    from pipelines.sources import SourceError
    from pipelines.stage import AccountingError, Missing
    from pipelines.store import StoreError
    from pipelines.workers import AddressError, PartFailed
    from pipelines.yaml_place import RecipeError

    try:
        with _ended_by_signals():
            yield
    except KeyboardInterrupt:
        fail(f"interrupted. {CONTINUE}", INTERRUPTED)
    except (RecipeError, StoreError, SourceError, AddressError) as error:
        fail(str(error), 2)
    except SqlError as error:
        fail(*_of_sql(error))
    except ValidationError as error:
        fail("\n".join(map(_mistake, error.errors())), 2)
    except AccountingError as error:
        fail(str(error), 3)
    except (PartFailed, Missing) as error:
        fail(f"{error}\n{CONTINUE}", 4)
    except Outage as error:
        fail(str(error), NOTHING_REACHED)
    except BrokenPipeError:
        # what is still buffered goes nowhere, rather than into an error at the very end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(NOT_READ) from None
    except OSError as error:
        fail(*_of_the_system(error))
    except (NoPart, Misaligned) as error:
        fail(f"{error}: `tamis verify` says what else is damaged", 4)
    except ArrowException as error:
        fail(f"a file of the store cannot be read, `tamis verify` says which: {str(error).splitlines()[0]}", 4)


def _mistake(mistake: Any) -> str:
    """One line about a value that was given as an option."""
    place = ".".join(map(str, mistake["loc"])).removesuffix(".0")
    given = f" (value: {mistake['input']!r})" if isinstance(mistake["input"], str | int | float) else ""
    return f"{place}: {mistake['msg'].removeprefix('Value error, ')}{given}"


def _of_sql(error: SqlError) -> tuple[str, int]:
    """Message and exit status of what DuckDB refused."""
    from pipelines.database import is_of_the_machine, said

    if not is_of_the_machine(error):
        return "SQL: " + "\n".join(line for line in str(error).splitlines() if line.strip()), 2
    if "No files found" in str(error):
        return f"{said(error)}; `tamis verify STORE` says what else is missing", 2
    return f"{said(error).rstrip('.')}: make room, on the disk or in memory. {CONTINUE}", 4


def _of_the_system(error: OSError) -> tuple[str, int]:
    """Message and exit status of what the system refused."""
    said = error.strerror or str(error)
    what = f"{error.filename}: {said[:1].lower()}{said[1:]}" if error.filename is not None else said
    what = _TEMPORARY.sub("", what)
    if error.errno in _NO_ROOM:
        return f"{what}: make room. {CONTINUE}", 4
    if error.errno in _NOT_OURS:
        return f"{what}: name a place that you may write, or have its owner and mode changed", 2
    if error.errno in _WRONG_PATH:
        hint = "; `tamis verify STORE` says what else is missing" if _OF_A_STORE.search(what) else ""
        return what + hint, 2
    return f"{what}\n{CONTINUE}", 4


def fail(message: str, status: int) -> NoReturn:
    """End with a message on stderr.

    What the failed calls held is let go of now: of a connection that is open when the process ends, DuckDB complains.
    """
    error = sys.exc_info()[1]
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    err.print(message, style="red", markup=False)
    raise typer.Exit(status)
