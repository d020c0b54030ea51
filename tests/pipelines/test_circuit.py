"""Hosts that fail or are slow: what servers see of circuits, and that nobody else waits."""

import threading
import time
from typing import Any

from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from tests.pipelines import loopback
from tests.pipelines.hasty_fetch import BODY, QUICK, fetch_all


def status(code: int) -> Any:
    return lambda r: r.reply(b"", code)


CIRCUIT = QUICK | {"circuit_failures": 4, "circuit_pause_s": 0.4, "max_connections_per_host": 2}


def test_a_host_that_is_down_is_asked_little_and_holds_up_nobody(server: Any) -> None:
    is_up = threading.Event()
    server.routes["/x"] = lambda r: r.reply(BODY, 200 if is_up.is_set() else 503)
    urls = [server.url(f"/x?{i}") for i in range(50)]
    with loopback.Server("127.0.0.2") as other, Fetcher(FetchOptions(**CIRCUIT | {"retries": 0})) as fetcher:
        other.routes["/ok"] = lambda r: r.reply(BODY)
        at: dict[int, float] = {}
        start = time.monotonic()
        outs = fetcher.fetch_many(
            [*urls, *[other.url(f"/ok?{i}") for i in range(50)]],
            lambda index, _: at.__setitem__(index, time.monotonic() - start),
        )
        asked = server.hits["/x"]
        assert 5 <= asked <= 6  # four, one that may have been under way, and the one that tried again
        reasons = [out.reason for out in outs[:50]]
        assert reasons.count("http.5xx") == asked
        assert reasons.count("net.host_circuit_open") == 50 - asked
        assert all(out.status == "ok" for out in outs[50:])
        assert max(at[i] for i in range(50, 100)) < max(at[i] for i in range(50))
        fetcher.fetch_many(urls)  # still down
        assert server.hits["/x"] == asked
        time.sleep(0.45)
        outs = fetcher.fetch_many(urls)  # one tries, and fails
        assert server.hits["/x"] == asked + 1
        assert sorted({out.reason for out in outs}) == ["http.5xx", "net.host_circuit_open"]
        time.sleep(0.45)
        is_up.set()
        outs = fetcher.fetch_many(urls)  # one tries, and the others follow
        assert [out.status for out in outs] == ["ok"] * 50
        assert server.max_active <= 2


def test_a_host_that_fails_for_a_moment_loses_no_link(server: Any) -> None:
    up_at = time.monotonic() + 0.3
    server.routes["/x"] = lambda r: r.reply(BODY, 200 if time.monotonic() > up_at else 503)
    with Fetcher(FetchOptions(**CIRCUIT | {"retries": 2})) as fetcher:
        outs = fetcher.fetch_many([server.url(f"/x?{i}") for i in range(50)])
    assert [out.status for out in outs] == ["ok"] * 50
    assert server.hits["/x"] <= 50 + 5  # nothing was asked while it rested


def test_further_attempts_are_no_failures_in_a_row(server: Any) -> None:
    """At the end of a call only the bad links are left, and are asked again and again."""
    server.routes["/bad"] = status(500)
    urls = [server.url(f"/{'ok' if i % 2 else 'bad'}?{i}") for i in range(40)]
    options = CIRCUIT | {"max_connections_per_host": 1, "circuit_failures": 4, "retries": 2}
    with Fetcher(FetchOptions(**options)) as fetcher:
        outs = fetcher.fetch_many(urls)
    assert [out.reason for out in outs[::2]] == ["http.5xx"] * 20
    assert server.hits["/bad"] == 60


def test_a_link_that_had_its_turn_keeps_its_own_reason(server: Any) -> None:
    server.routes["/x"] = status(503)
    options = CIRCUIT | {"circuit_failures": 1, "max_connections_per_host": 8, "retries": 2}
    with Fetcher(FetchOptions(**options)) as fetcher:
        outs = fetcher.fetch_many([server.url(f"/x?{i}") for i in range(8)])
    assert [out.reason for out in outs] == ["http.5xx"] * 8
    assert server.hits["/x"] == 8 + 1


def test_failures_between_answers_open_nothing(server: Any) -> None:
    server.routes["/bad"] = status(500)
    urls = [server.url(f"/{'bad' if i % 3 else 'gone'}?{i}") for i in range(30)]
    outs = fetch_all(urls, circuit_failures=3, retries=0, max_connections_per_host=1)
    assert {out.reason for out in outs} == {"http.5xx", "http.4xx_gone"}


def test_a_slow_host_does_not_hold_a_part(server: Any) -> None:
    """100 links of a fast host, 30 of one that takes 0.3 s for each: the part ends when the slow one's time is up."""
    server.routes["/slow"] = lambda r: (r.server.sleep(0.3), r.reply(BODY))
    with loopback.Server("127.0.0.2") as fast:
        fast.routes["/ok"] = lambda r: r.reply(BODY)
        urls = [server.url(f"/slow?{i}") for i in range(30)] + [fast.url(f"/ok?{i}") for i in range(100)]
        at: dict[int, float] = {}
        start = time.monotonic()
        options = QUICK | {"max_host_s": 0.7, "max_connections_per_host": 2, "max_connections": 4}
        with Fetcher(FetchOptions(**options)) as fetcher:
            outs = fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
    assert all(out.status == "ok" for out in outs[30:])
    assert max(at[i] for i in range(30, 130)) < 0.7
    left = [out for out in outs[:30] if out.status != "ok"]
    assert {out.reason for out in left} == {"http.rate_limited"}
    assert 20 <= len(left) <= 28
    assert server.hits["/slow"] == 30 - len(left)
    assert max(at.values()) < 0.7 + 0.3 + 0.5
