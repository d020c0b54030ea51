"""Retries by class, back-off, Retry-After, limits for each host."""

import itertools
import threading
import time
from typing import Any

from curation.reasons import ReasonClass, reason_class
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from tests.pipelines import loopback
from tests.pipelines.hasty_fetch import BODY, HEAD, QUICK, fetch_all, to


def answers(*replies: tuple[int, dict[str, str]]) -> Any:
    """The replies one after the other, the last one again and again."""
    lock, count = threading.Lock(), itertools.count()

    def handler(request: Any) -> None:
        with lock:
            status, headers = replies[min(next(count), len(replies) - 1)]
        request.reply(BODY if status == 200 else b"no", status, headers)

    return handler


def test_retries_by_class(server: Any) -> None:
    server.routes |= {"/heals": answers((500, {}), (503, {}), (200, {})), "/never": answers((502, {}))}
    server.routes |= {"/gone": answers((404, {}), (200, {})), "/no": answers((403, {}), (200, {}))}
    server.routes["/cut"] = lambda r: r.send(HEAD + b"Content-Length: 9\r\n\r\nabc")
    server.routes["/hop"] = to("/heals2")
    server.routes["/heals2"] = answers((500, {}), (200, {}))
    paths = ["/heals", "/never", "/gone", "/no", "/cut", "/hop"]
    outs = fetch_all([server.url(path) for path in paths], retries=2)
    assert [out.reason for out in outs] == [
        None,
        "http.5xx",
        "http.4xx_gone",
        "http.forbidden",
        "dl.length_mismatch",
        None,
    ]
    assert [out.num_attempts for out in outs] == [3, 3, 1, 1, 3, 2]
    assert [server.hits[path] for path in paths] == [3, 3, 1, 1, 3, 2]
    assert outs[-1].num_redirects == 1
    for out in outs:
        if out.reason:
            retried = reason_class(out.reason) is ReasonClass.TRANSIENT
            assert retried == (out.num_attempts == 3)


def test_backoff_is_off_the_critical_path(server: Any) -> None:
    server.routes["/never"] = answers((500, {}))
    at: dict[int, float] = {}
    start = time.monotonic()
    with Fetcher(FetchOptions(**(QUICK | {"retries": 2, "backoff_s": 0.2, "max_connections": 2}))) as fetcher:
        urls = [server.url(f"/never?{i}") for i in range(10)] + [server.url(f"/ok?{i}") for i in range(40)]
        fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
    assert max(at[i] for i in range(10, 50)) < min(at[i] for i in range(10))
    assert all(0.1 + 0.2 < at[i] < 0.9 + 1 for i in range(10))  # 0.5-1.5 times 0.2 and 0.4 s


def test_retry_after_is_honoured_up_to_a_cap(server: Any) -> None:
    server.routes |= {"/soon": answers((429, {"Retry-After": "1"}), (200, {}))}
    with loopback.Server("127.0.0.2") as other:
        other.routes |= {"/late": answers((429, {"Retry-After": "3600"}))}
        other.routes |= {"/date": answers((503, {"Retry-After": "Fri, 31 Dec 2099 23:59:59 GMT"}))}
        other.routes |= {"/junk": answers((503, {"Retry-After": "soon"}))}
        start = time.monotonic()
        soon, late, date, junk = fetch_all(
            [server.url("/soon"), other.url("/late"), other.url("/date"), other.url("/junk")], retries=2
        )
        assert 1.0 <= time.monotonic() - start < 3
        assert (soon.status, soon.num_attempts) == ("ok", 2)
        assert (late.reason, late.num_attempts) == ("http.rate_limited", 1)
        assert (date.reason, date.num_attempts) == ("http.rate_limited", 1)
        assert (junk.reason, junk.num_attempts) == ("http.5xx", 3)


def test_retry_after_pauses_the_whole_host(server: Any) -> None:
    server.routes["/busy"] = answers((429, {"Retry-After": "1"}), (200, {}))
    at: dict[int, float] = {}
    start = time.monotonic()
    with Fetcher(FetchOptions(**(QUICK | {"retries": 1, "max_connections_per_host": 1}))) as fetcher:
        urls = [server.url("/busy"), *[server.url(f"/ok?{i}") for i in range(5)]]
        outs = fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
    assert all(out.status == "ok" for out in outs)
    assert min(at.values()) > 1.0


def test_limit_per_host_as_the_server_sees_it(server: Any) -> None:
    with loopback.Server("127.0.0.2") as other:
        for each in (server, other):
            each.routes["/w"] = lambda r: (r.server.sleep(0.02), r.reply(b"x"))
        urls = [each.url(f"/w?{i}") for i in range(40) for each in (server, other)]
        outs = fetch_all(urls, max_connections=64, max_connections_per_host=3)
        assert all(out.status == "ok" for out in outs)
        assert server.max_active == other.max_active == 3
        assert server.num_connections <= 4
        assert fetch_all(urls, max_connections=5, max_connections_per_host=64)[0].status == "ok"
        assert max(server.max_active, other.max_active) <= 5


def test_a_slow_host_leaves_the_others_their_connections(server: Any) -> None:
    """More slow links than connections, all of one host, before the first link of another."""
    server.routes["/slow"] = lambda r: (server.sleep(0.3), r.reply(b"x"))
    with loopback.Server("127.0.0.2") as other:
        other.routes["/ok"] = lambda r: r.reply(BODY)
        urls = [server.url(f"/slow?{i}") for i in range(12)] + [other.url(f"/ok?{i}") for i in range(50)]
        at: dict[int, float] = {}
        start = time.monotonic()
        with Fetcher(FetchOptions(**(QUICK | {"max_connections": 8, "max_connections_per_host": 4}))) as fetcher:
            fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
        slow = sorted(at[i] for i in range(12))
        assert max(at[i] for i in range(12, 62)) < slow[4]  # before the second four of the slow host
