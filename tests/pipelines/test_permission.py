"""Who may be asked, and how often: what servers see of consent files, deny lists, rates and broken circuits."""

import hashlib
import itertools
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched
from tests.pipelines import loopback
from tests.pipelines.hasty_fetch import BODY

FILES = ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json")
QUICK: dict[str, Any] = {"allow_networks": ("127.0.0.0/8",), "backoff_s": 0.01, "connect_timeout_s": 2.0, "retries": 1}
QUICK |= {
    "first_byte_timeout_s": 0.4,
    "total_timeout_s": 2.0,
    "requests_per_second_per_host": 1e6,
    "max_retry_after_s": 2,
}


def fetch_all(urls: list[str], **options: Any) -> list[Fetched]:
    with Fetcher(FetchOptions(**(QUICK | options))) as fetcher:
        return fetcher.fetch_many(urls)


def text(content: str, status: int = 200, **headers: str) -> Any:
    return lambda r: r.reply(content.encode(), status, {"Content-Type": "text/plain"} | headers)


def links(server: Any) -> int:
    """Requests that were not for a file of rules."""
    return sum(count for path, count in server.hits.items() if path not in FILES)


def test_rules_are_asked_for_once_and_then_everything_goes(server: Any) -> None:
    with Fetcher(FetchOptions(**QUICK)) as fetcher:
        for _ in range(2):  # two parts of one run
            outs = fetcher.fetch_many([server.url(f"/ok?{i}") for i in range(30)])
            assert [out.status for out in outs] == ["ok"] * 30
    assert [server.hits[path] for path in FILES] == [1, 1, 1]
    assert [request.path for request in server.seen[:3]] == list(FILES)
    assert outs[0].consent == "robots.txt=absent; ai.txt=absent; tdmrep.json=absent; rules=1"
    assert outs[0].num_attempts == 1


def test_nothing_is_asked_where_nothing_is_obeyed(server: Any) -> None:
    server.routes["/robots.txt"] = text("User-agent: *\nDisallow: /")
    out = fetch_all([server.url("/ok")], robots="ignore", ai_txt="ignore", tdmrep="ignore")[0]
    assert (out.status, out.consent) == ("ok", None)
    assert server.hits == {"/ok": 1}
    assert fetch_all([server.url("/ok")])[0].reason == "policy.robots"


REFUSALS = {
    "policy.robots": {"/robots.txt": "User-agent: *\nDisallow: /no"},
    "policy.content_signal": {"/robots.txt": "User-agent: *\nContent-Signal: /no ai-train=no"},
    "policy.content_usage": {"/robots.txt": "User-agent: tamis\nContent-Usage: /no train-ai=n"},
    "policy.ai_txt": {"/ai.txt": "User-Agent: *\nDisallow: /no"},
    "policy.tdmrep": {"/.well-known/tdmrep.json": '[{"location": "/no", "tdm-reservation": 1}]'},
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refused_url_is_never_asked_for(server: Any, reason: str) -> None:
    for path, content in REFUSALS[reason].items():
        server.routes[path] = text(content)
    server.routes["/hop"] = text("", 302, Location="/no/2.png")
    outs = fetch_all([server.url(path) for path in ("/no/1.png", "/ok", "/hop", "/no/3.png")])
    assert [out.reason for out in outs] == [reason, None, reason, reason]
    assert [out.status for out in outs] == ["refused", "ok", "refused", "refused"]
    assert (links(server), server.hits["/ok"], server.hits["/hop"]) == (2, 1, 1)
    assert outs[0].consent is not None
    assert "=deny" in outs[0].consent
    assert (outs[0].num_attempts, outs[0].final_url) == (0, None)
    assert "=deny" not in (outs[1].consent or "")


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451])
def test_no_robots_txt_allows(server: Any, status: int) -> None:
    server.routes["/robots.txt"] = text("Disallow: /", status)
    assert fetch_all([server.url("/ok")])[0].status == "ok"


def test_headers_of_a_robots_txt_are_not_about_training(server: Any) -> None:
    server.routes["/robots.txt"] = text("User-agent: *\nDisallow: /x", **{"X-Robots-Tag": "noindex, noai"})
    assert [out.status for out in fetch_all([server.url("/ok"), server.url("/x")])] == ["ok", "refused"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (text("", 500), "http.5xx"),
        (text("", 503), "http.5xx"),
        (text("", 429), "http.rate_limited"),
        (lambda r: r.server.sleep(1), "dl.deadline"),
        (lambda r: r.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nabc"), "dl.length_mismatch"),
    ],
)
def test_rules_that_cannot_be_had_defer_the_links(server: Any, answer: Any, reason: str) -> None:
    server.routes["/robots.txt"] = answer
    with Fetcher(FetchOptions(**QUICK)) as fetcher:
        outs = fetcher.fetch_many([server.url("/ok"), server.url("/ok?2")])
        assert [out.reason for out in outs] == [reason, reason]
        assert outs[0].detail is not None
        assert outs[0].detail.startswith("robots.txt: ")
        again = fetcher.fetch_many([server.url("/ok")])
    assert [out.reason for out in again] == ["net.host_circuit_open"]
    assert server.hits == {"/robots.txt": 2}  # an attempt and its retry


def test_rules_that_heal_within_the_run_are_obeyed(server: Any) -> None:
    first = threading.Event()

    def heals(request: Any) -> None:
        request.reply(b"User-agent: *\nDisallow: /no" if first.is_set() else b"", 200 if first.is_set() else 500)
        first.set()

    server.routes["/robots.txt"] = heals
    assert [out.status for out in fetch_all([server.url("/ok"), server.url("/no")])] == ["ok", "refused"]


def test_a_large_robots_txt_is_read_up_to_the_cap(server: Any) -> None:
    filler = "# " + "x" * 1021 + "\n"
    server.routes["/robots.txt"] = text("User-agent: *\nDisallow: /no\n" + filler * 2000 + "Disallow: /ok")
    outs = fetch_all([server.url("/ok"), server.url("/no")], max_bytes=15_000)
    assert [out.reason for out in outs] == [None, "policy.robots"]


def test_redirects_of_robots_txt(server: Any) -> None:
    """Followed within the address policy; one that may not be followed counts as no robots.txt (RFC 9309, 2.3.1.2)."""
    with loopback.Server("127.0.0.2", server.port) as near, loopback.Server("127.66.6.6", server.port) as canary:
        near.routes["/rules"] = text("User-agent: *\nDisallow: /no")
        server.routes["/robots.txt"] = text("", 301, Location=near.url("/rules"))
        assert [out.status for out in fetch_all([server.url("/ok"), server.url("/no")])] == ["ok", "refused"]
        server.routes["/robots.txt"] = text("", 301, Location=canary.url("/rules"))
        assert fetch_all([server.url("/ok")])[0].status == "ok"
        for i in range(9):
            server.routes[f"/r{i}"] = text("", 301, Location=f"/r{i + 1}")
        server.routes["/robots.txt"] = text("", 301, Location="/r0")
        assert fetch_all([server.url("/ok")])[0].status == "ok"
        assert canary.num_connections == 0


def test_asking_for_rules_is_no_way_around_the_address_guard(server: Any) -> None:
    """A redirect must not make the fetcher ask a host for its robots.txt that it may not be redirected to."""
    with loopback.Server("127.66.6.6", server.port) as canary:
        canary.routes["/ok"] = lambda r: r.reply(b"named by the table")
        server.routes["/away"] = text("", 302, Location=canary.url("/secret"))
        away = fetch_all([server.url("/away"), server.url("/away?2")])
        assert [out.reason for out in away] == ["net.blocked_address"] * 2
        assert canary.num_connections == 0
        both = fetch_all([server.url("/away"), canary.url("/ok"), server.url("/away?2")])
        assert [out.reason for out in both] == ["net.blocked_address", None, "net.blocked_address"]
        assert "/secret" not in canary.hits


def test_waiting_for_rules_delays_nobody_else(server: Any) -> None:
    server.routes["/robots.txt"] = lambda r: (r.server.sleep(0.3), r.reply(b"", 404))
    with loopback.Server("127.0.0.2") as other:
        other.routes["/ok"] = server.routes["/ok"]
        at: dict[int, float] = {}
        start = time.monotonic()
        urls = [server.url(f"/ok?{i}") for i in range(40)] + [other.url(f"/ok?{i}") for i in range(40)]
        with Fetcher(FetchOptions(**(QUICK | {"max_connections": 4, "max_connections_per_host": 2}))) as fetcher:
            outs = fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
        assert all(out.status == "ok" for out in outs)
        assert max(at[i] for i in range(40, 80)) < 0.3 < min(at[i] for i in range(40))


def test_crawl_delay_is_kept_up_to_a_cap(server: Any) -> None:
    server.routes["/robots.txt"] = text("User-agent: *\nCrawl-delay: 60")
    times: list[float] = []
    server.routes["/ok"] = lambda r: (times.append(time.monotonic()), r.reply(BODY))
    with loopback.Server("127.0.0.2") as other:
        other.routes["/ok"] = lambda r: r.reply(BODY)
        urls = [server.url(f"/ok?{i}") for i in range(4)] + [other.url(f"/ok?{i}") for i in range(50)]
        start = time.monotonic()
        at: dict[int, float] = {}
        with Fetcher(FetchOptions(**(QUICK | {"max_crawl_delay_s": 0.2}))) as fetcher:
            outs = fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
    assert all(out.status == "ok" for out in outs)
    assert min(b - a for a, b in itertools.pairwise(times)) > 0.18
    assert max(at[i] for i in range(4, 54)) < at[3]


def test_rate_per_host_as_the_server_sees_it(server: Any) -> None:
    times: list[float] = []
    server.routes["/ok"] = lambda r: (times.append(time.monotonic()), r.reply(BODY))
    urls = [server.url(f"/ok?{i}") for i in range(20)]
    options = FetchOptions(**(QUICK | {"requests_per_second_per_host": 40}))
    with Fetcher(options) as fetcher:
        fetcher.fetch_many(urls)
    assert 19 / 40 - 0.05 < times[-1] - times[0] < 2
    times.clear()
    with Fetcher(options, num_fetchers=2) as fetcher:  # its share of the same rate
        fetcher.fetch_many(urls[:10])
    assert 9 / 20 - 0.05 < times[-1] - times[0] < 2


def test_deny_lists_and_known_bad_bytes(server: Any, tmp_path: Path) -> None:
    server.routes["/bad"] = lambda r: r.reply(b"known")
    server.routes["/hop"] = text("", 302, Location="/denied")
    (tmp_path / "urls").write_text(server.url("/denied") + "\n")
    (tmp_path / "bad").write_text(hashlib.md5(b"known").hexdigest() + "\n")
    with loopback.Server("127.0.0.5") as denied:
        outs = fetch_all(
            [denied.url("/ok"), server.url("/denied"), server.url("/hop"), server.url("/bad"), server.url("/ok")],
            deny_domains=("127.0.0.5",), deny_lists=(tmp_path / "urls",), known_bad_hashes=(tmp_path / "bad",),
        )  # fmt: skip
        assert denied.num_connections == 0
    assert [out.reason for out in outs] == [*["policy.domain_denied"] * 3, "policy.known_bad_hash", None]
    assert {out.status for out in outs[:4]} == {"refused"}
    assert (outs[3].body, outs[3].sha256) == (None, hashlib.sha256(b"known").hexdigest())
    assert server.hits["/denied"] == 0


def test_a_denied_host_is_not_asked_for_another_ones_rules(server: Any) -> None:
    with loopback.Server("127.0.0.5", server.port) as denied:
        server.routes["/robots.txt"] = text("", 302, Location=denied.url("/robots.txt"))
        assert fetch_all([server.url("/ok")], deny_domains=("127.0.0.5",))[0].status == "ok"
        assert denied.num_connections == 0


def test_an_interrupted_call_leaves_no_link_waiting(server: Any) -> None:
    server.routes["/robots.txt"] = lambda r: (r.server.sleep(0.3), r.reply(b"", 404))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with Fetcher(FetchOptions(**QUICK)) as fetcher:
        with pytest.raises(KeyboardInterrupt):
            fetcher.fetch_many([server.url("/ok"), "not a url"], stop)
        assert fetcher.fetch_many([server.url("/ok")])[0].status == "ok"


def test_lists_are_part_of_the_key_by_their_content(tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("a.example\n")
    before = FetchOptions(deny_lists=(listed,)).key()
    (tmp_path / "moved").write_text("a.example\n")
    assert FetchOptions(deny_lists=(tmp_path / "moved",)).key() == before
    listed.write_text("b.example\n")
    assert FetchOptions(deny_lists=(listed,)).key() != before
    assert FetchOptions(requests_per_second_per_host=1).key() == FetchOptions().key()
    assert FetchOptions(robots="ignore").key() != FetchOptions().key()
    with pytest.raises(ValidationError, match="no domain"):
        FetchOptions(deny_domains=("a b",))
    with pytest.raises(ValidationError, match="no URL"):
        FetchOptions(deny_urls=("a.example",))
