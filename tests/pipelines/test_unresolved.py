"""Why names have no address, by a resolver that answers late, wrongly or not at all."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from curation.reasons import Reason
from pipelines.unresolved import Unresolved, why_unresolved


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], None]], None]:
    def replace(lookup: Callable[[str], None]) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: lookup(host))

    return replace


def failing(error: Exception) -> Callable[[str], None]:
    def lookup(_: str) -> None:
        raise error

    return lookup


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "no"), Reason.NET_DNS_NXDOMAIN),
        (socket.gaierror(socket.EAI_AGAIN, "later"), Reason.NET_DNS_SERVFAIL),
        (OSError(24, "Too many open files"), Reason.NET_DNS_SERVFAIL),
        (OSError(socket.EAI_NONAME, "another meaning of the number"), Reason.NET_DNS_SERVFAIL),
        (UnicodeError("label too long"), Reason.NET_DNS_NXDOMAIN),
    ],
)
def test_what_the_resolver_says(
    resolver: Callable[[Callable[[str], None]], None], error: Exception, reason: Reason
) -> None:
    resolver(failing(error))
    assert why_unresolved("a.example") is reason


def answers(asked: Unresolved[str], count: int, now: Callable[[], float]) -> dict[str, Reason]:
    found: dict[str, Reason] = {}
    ends = time.monotonic() + 20
    while len(found) < count and time.monotonic() < ends:
        found |= dict(asked.answered(now()))
        time.sleep(0.01)
    return found


def test_names_given_up_hold_nobody_up(resolver: Callable[[Callable[[str], None]], None]) -> None:
    """They were asked about nevertheless: a name behind a thousand of them had no answer in time, whatever it was."""
    gate, looked_up = threading.Event(), []

    def lookup(host: str) -> None:
        looked_up.append(host)
        gate.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "no")

    resolver(lookup)
    asked: Unresolved[str] = Unresolved()
    for number in range(100):
        asked.ask(f"h{number}.example", f"h{number}", due=1.0)
    assert answers(asked, 100, lambda: 2.0) == {f"h{number}": Reason.NET_DNS_TIMEOUT for number in range(100)}
    assert len(asked) == 0
    asked.ask("later.example", "later", due=4.0)
    gate.set()
    assert answers(asked, 1, lambda: 3.0) == {"later": Reason.NET_DNS_NXDOMAIN}
    assert len(looked_up) <= 8 + 1
    asked.close()


def test_the_end_of_the_process_waits_for_no_resolver() -> None:
    code = (
        "import socket, time\n"
        "from pipelines.unresolved import Unresolved\n"
        "socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
        "asked = Unresolved()\n"
        "for number in range(20): asked.ask('h', number, time.monotonic() + 60)\n"
        "time.sleep(0.2)\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=50)
    assert time.monotonic() - began < 30
