"""Redirects, each hop checked as if it were a link, and opt-outs in headers."""

from typing import Any

import pytest

from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from tests.pipelines import loopback
from tests.pipelines.hasty_fetch import BODY, HEAD, QUICK, fetch, fetch_all, to


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Any, status: int) -> None:
    server.routes |= {"/a": to("/b?x=1", status), "/b": to(server.url("/ok"), status)}
    out = fetch(server.url("/a"))
    assert (out.status, out.num_redirects, out.final_url) == ("ok", 2, server.url("/ok"))
    assert out.body == BODY


def test_redirects_carry_no_cookies(server: Any) -> None:
    server.routes["/a"] = to("/ok", **{"Set-Cookie": "id=1; Path=/"})
    assert fetch(server.url("/a")).status == "ok"
    assert all("cookie" not in request.headers for request in server.seen)


def test_bad_redirects(server: Any) -> None:
    port = server.port
    cases = {
        "/self": ("/self", "http.redirect_loop"),
        "/ping": ("/pong", "http.redirect_loop"),
        "/pong": ("/ping", "http.redirect_loop"),
        "/file": ("file:///etc/passwd", "http.redirect_blocked"),
        "/ftp": ("ftp://127.0.0.1/x", "http.redirect_blocked"),
        "/gopher": ("gopher://127.0.0.1:6379/_FLUSHALL", "http.redirect_blocked"),
        "/data": ("data:image/png;base64,iVBORw0K", "http.redirect_blocked"),
        "/user": (f"http://user:pw@127.0.0.1:{port}/ok", "http.redirect_blocked"),
        "/host": ("http://exa mple/", "http.redirect_blocked"),
        "/bracket": ("http://[::1/", "http.redirect_blocked"),
        "/metadata": ("http://169.254.169.254/latest/", "net.blocked_address"),
        "/private": ("http://10.0.0.1/", "net.blocked_address"),
        "/decimal": ("http://2851995905/", "net.blocked_address"),
        "/elsewhere": (f"//127.66.6.6:{port}/secret", "net.blocked_address"),
        "/port": (f"http://127.0.0.1:{port + 1 if port < 65535 else port - 1}/", "net.blocked_port"),
    }
    for path, (location, _) in cases.items():
        server.routes[path] = to(location)
    for i in range(20):
        server.routes[f"/chain{i}"] = to(f"/chain{i + 1}")
    server.routes["/chain20"] = server.routes["/ok"]
    with loopback.Server("127.66.6.6", port) as canary:
        outs = fetch_all([server.url(path) for path in cases])
        assert [out.reason for out in outs] == [reason for _, reason in cases.values()]
        assert all(out.body is None for out in outs)
        assert canary.num_connections == 0
    long, too_long = fetch_all([server.url("/chain15"), server.url("/chain14")], max_redirects=5)
    assert (long.status, long.num_redirects) == ("ok", 5)
    assert too_long.reason == "http.redirect_too_many"


def test_an_open_connection_does_not_carry_a_redirect_past_the_guard(server: Any) -> None:
    """The link table may name 127.66.6.6, so there is a pooled connection to it; a redirect may still not use it."""
    with loopback.Server("127.66.6.6", server.port) as other:
        other.routes["/ok"] = lambda r: r.reply(b"public there")
        other.routes["/secret"] = lambda r: r.reply(b"secret")
        server.routes["/away"] = to(other.url("/secret"))
        with Fetcher(FetchOptions(**QUICK)) as fetcher:
            assert fetcher.fetch_many([other.url("/ok")])[0].body == b"public there"
            assert fetcher.fetch_many([other.url("/ok")])[0].body == b"public there"
            assert other.num_connections == 1  # kept open and used again
            assert fetcher.fetch_many([server.url("/away")])[0].reason == "net.blocked_address"
        assert other.hits == {"/ok": 2}


def test_redirect_to_a_neighbour_is_followed(server: Any) -> None:
    with loopback.Server("127.0.0.2", server.port) as neighbour:
        neighbour.routes["/ok"] = lambda r: r.reply(b"near")
        server.routes["/near"] = to(neighbour.url("/ok"))
        assert fetch(server.url("/near")).body == b"near"


OPT_OUTS: list[tuple[dict[str, str], str | None]] = [
    ({"X-Robots-Tag": "noai"}, "policy.x_robots"),
    ({"x-robots-tag": "NoImageAI, nofollow"}, "policy.x_robots"),
    ({"X-Robots-Tag": "noai, unavailable_after: Wed, 25 Jun 2099 15:00:00 GMT"}, "policy.x_robots"),
    ({"X-Robots-Tag": "tamis: noindex"}, "policy.x_robots"),
    ({"X-Robots-Tag": "*: noai"}, "policy.x_robots"),
    ({"TDM-Reservation": "1"}, "policy.tdmrep"),
    ({"Content-Usage": "search=y, train-ai=n"}, "policy.content_usage"),
    ({"X-Robots-Tag": "otherbot: noai"}, None),
    ({"X-Robots-Tag": "all"}, None),
    ({"tdm-reservation": "0"}, None),
    ({"Content-Usage": "train-ai=y"}, None),
]


def test_opt_outs_end_before_the_body_and_are_not_asked_again(server: Any) -> None:
    for number, (headers, _) in enumerate(OPT_OUTS):
        server.routes[f"/{number}"] = lambda r, headers=headers: r.reply(BODY, 200, headers)
        server.routes[f"/r{number}"] = to("/ok", 302, **headers)
    urls = [server.url(f"/{prefix}{number}") for prefix in ("", "r") for number in range(len(OPT_OUTS))]
    outs = fetch_all(urls, retries=2)
    for (_, wanted), out in zip(OPT_OUTS * 2, outs, strict=True):
        assert out.reason == wanted
        assert out.status == ("refused" if wanted else "ok")
        assert out.num_attempts == 1
    allowed = sum(wanted is None for _, wanted in OPT_OUTS)
    assert server.hits["/ok"] == allowed
    assert sum(server.hits.values()) == 2 * len(OPT_OUTS) + allowed


def test_two_headers_of_one_name_are_both_read(server: Any) -> None:
    head = HEAD + b"X-Robots-Tag: otherbot: all\r\nX-Robots-Tag: noai\r\nContent-Length: 3\r\n\r\nabc"
    server.routes["/two"] = lambda r: r.send(head)
    assert fetch(server.url("/two")).reason == "policy.x_robots"
