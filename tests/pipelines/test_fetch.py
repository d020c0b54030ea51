import hashlib
import importlib.util
import itertools
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from curation.reasons import ReasonClass, reason_class
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions, certificate_bundle
from pipelines.fetched import Fetched


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


loopback = _load("loopback")
BODY = b"\x89PNG" + bytes(range(256)) * 40
QUICK = {"allow_networks": ("127.0.0.0/8",), "backoff_s": 0.01, "connect_timeout_s": 2.0, "first_byte_timeout_s": 0.5}
QUICK |= {"robots": "ignore", "ai_txt": "ignore", "tdmrep": "ignore", "requests_per_second_per_host": 1e6}
QUICK |= {"circuit_failures": 1000}  # the tests of all these: test_permission.py
QUICK |= {"total_timeout_s": 2.0, "min_rate_window_s": 0.4, "retries": 0, "max_retry_after_s": 2.0}


@pytest.fixture
def server() -> Iterator[Any]:
    with loopback.Server() as it:
        it.routes["/ok"] = lambda r: r.reply(BODY)
        yield it


def fetch(url: str, **options: Any) -> Fetched:
    return fetch_all([url], **options)[0]


def fetch_all(urls: list[str], **options: Any) -> list[Fetched]:
    with Fetcher(FetchOptions(**(QUICK | options))) as fetcher:
        return fetcher.fetch_many(urls)


def test_a_body_arrives_whole_with_its_digest(server: Any) -> None:
    out = fetch(server.url("/ok"), user_agent="tamis/9", contact_url="https://example.org/bot")
    assert (out.status, out.reason, out.http_status, out.num_redirects, out.num_attempts) == ("ok", None, 200, 0, 1)
    assert out.body == BODY
    assert out.sha256 == hashlib.sha256(BODY).hexdigest()
    assert out.content_type == "image/png"
    asked = server.seen[0].headers
    assert asked["user-agent"] == "tamis/9 (+https://example.org/bot)"
    assert asked["accept-encoding"] == "identity"
    assert not {"cookie", "authorization", "referer"} & set(asked)


def test_results_keep_their_order_and_callbacks_see_each_once(server: Any) -> None:
    server.routes["/slow"] = lambda r: (server.sleep(0.2), r.reply(b"slow"))
    urls = [server.url("/slow"), "not a url", server.url("/ok"), server.url("/missing"), server.url("/ok#x")]
    ends: list[int] = []
    with Fetcher(FetchOptions(**QUICK)) as fetcher:
        outs = fetcher.fetch_many(urls, lambda index, _: ends.append(index))
        assert [out.url for out in outs] == urls
        assert [out.reason for out in outs] == [None, "url.unparsable", None, "http.4xx_gone", None]
        assert sorted(ends) == [0, 1, 2, 3, 4]
        assert ends[-1] == 0
        assert fetcher.fetch_many([]) == []
        assert fetcher.fetch_many(urls[2:3])[0].status == "ok"  # can be used again
    assert outs[1].num_attempts == 0
    assert outs[1].status == "refused"


def test_an_exception_in_the_callback_leaves_a_usable_fetcher(server: Any) -> None:
    server.routes["/slow"] = lambda r: (server.sleep(0.3), r.reply(b"slow"))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with Fetcher(FetchOptions(**QUICK)) as fetcher:
        with pytest.raises(KeyboardInterrupt):
            fetcher.fetch_many([server.url("/ok"), server.url("/slow")], stop)
        assert fetcher.fetch_many([server.url("/ok")])[0].body == BODY


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
RAW: dict[str, tuple[bytes, str | None]] = {
    # lengths
    "length too large": (HEAD + b"Content-Length: 100\r\n\r\nabc", "dl.length_mismatch"),
    "length of nothing": (HEAD + b"Content-Length: 0\r\n\r\n", "dl.empty"),
    "no length, closed": (HEAD + b"\r\nabc", None),
    "no length, nothing": (HEAD + b"\r\n", "dl.empty"),
    "negative length": (HEAD + b"Content-Length: -5\r\n\r\nabc", "http.bad_response"),
    "length is no number": (HEAD + b"Content-Length: many\r\n\r\nabc", "http.bad_response"),
    "two lengths": (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "http.bad_response"),
    "length over the cap": (HEAD + b"Content-Length: 99999999999\r\n\r\nabc", "dl.too_large"),
    "length of 30 digits": (HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nabc", "dl.too_large|http.bad_response"),
    # chunks
    "chunked": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", None),
    "chunked with a trailer": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n", None),
    "chunked and a length": (
        HEAD + b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        None,
    ),
    "chunk cut off": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc", "dl.length_mismatch"),
    "no last chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "dl.length_mismatch"),
    "chunk size is no number": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", "http.bad_response"),
    "chunk size overflows": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\nabc",
        "http.bad_response",
    ),
    # encodings nobody asked for
    "gzip": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "dl.encoding"),
    "gzip twice": (HEAD + b"Content-Encoding: gzip, gzip\r\nContent-Length: 3\r\n\r\nabc", "dl.encoding"),
    "br": (HEAD + b"content-encoding: br\r\nContent-Length: 3\r\n\r\nabc", "dl.encoding"),
    "identity": (HEAD + b"Content-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc", None),
    "gzip transfer": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "dl.encoding"),
    # heads
    "nothing at all": (b"", "net.reset"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "http.bad_response"),
    "HTTP/0.9": (b"<html>hello</html>", "http.bad_response"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "net.reset|http.bad_response|dl.empty"),
    "no status": (b"HTTP/1.1\r\n\r\nabc", "http.bad_response"),
    "status 999": (b"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", "http.bad_response"),
    "status 42": (b"HTTP/1.1 42 What\r\n\r\n", "http.bad_response"),
    "version 9": (b"HTTP/9.9 200 OK\r\n\r\nabc", "http.bad_response"),
    "bytes in the reason": (b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 3\r\n\r\nabc", None),
    "zero byte in a header": (HEAD + b"X-A: \x00\r\nContent-Length: 3\r\n\r\nabc", "http.bad_response"),
    "line ends without CR": (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", None),
    "100 first": (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 3\r\n\r\nabc", None),
    "1xx flood": (b"HTTP/1.1 103 Hints\r\n\r\n" * 50 + HEAD + b"Content-Length: 3\r\n\r\nabc", "http.bad_response"),
    "101": (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "http.bad_response|net.reset|dl.deadline"),
    "200 header lines": (HEAD + b"X-A: 1\r\n" * 200 + b"\r\nabc", "http.headers_too_large"),
    "70 KB of header": (HEAD + b"X-A: " + b"a" * 70_000 + b"\r\n\r\nabc", "http.headers_too_large"),
    "header lines for ever": (HEAD + b"X-A: 1\r\n" * 500_000, "http.headers_too_large"),
    "a header line for ever": (HEAD + b"X-A: " + b"a" * 3_000_000, "http.headers_too_large"),
    # statuses
    "204": (b"HTTP/1.1 204 No\r\n\r\n", "dl.empty"),
    "206": (b"HTTP/1.1 206 Part\r\nContent-Length: 3\r\n\r\nabc", "http.bad_response"),
    "304": (b"HTTP/1.1 304 Not\r\n\r\n", "http.bad_response"),
    "302 to nowhere": (b"HTTP/1.1 302 F\r\nContent-Length: 0\r\n\r\n", "http.bad_response"),
    "302 to two places": (b"HTTP/1.1 302 F\r\nLocation: /a\r\nLocation: /b\r\n\r\n", "http.bad_response"),
    "410": (b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", "http.4xx_gone"),
    "403": (b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\ncut", "http.forbidden"),
    "451": (b"HTTP/1.1 451 Law\r\nContent-Length: 0\r\n\r\n", "http.forbidden"),
    "418": (b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n", "http.4xx_gone"),
    "429": (b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n", "http.rate_limited"),
    "408": (b"HTTP/1.1 408 T\r\nContent-Length: 0\r\n\r\n", "http.5xx"),
    "500": (b"HTTP/1.1 500 E\r\nContent-Length: 0\r\n\r\n", "http.5xx"),
    "503": (b"HTTP/1.1 503 E\r\nContent-Length: 0\r\n\r\n", "http.5xx"),
}


def test_malformed_answers_each_end_with_a_code(server: Any) -> None:
    for number, (raw, _) in enumerate(RAW.values()):
        server.routes[f"/{number}"] = lambda r, raw=raw: r.send(raw)
    start = time.monotonic()
    outs = fetch_all([server.url(f"/{number}") for number in range(len(RAW))])
    assert time.monotonic() - start < 6
    wrong = {}
    for (name, (_, wanted)), out in zip(RAW.items(), outs, strict=True):
        if (out.reason is None) != (wanted is None) or (wanted and out.reason not in wanted.split("|")):
            wrong[name] = (out.reason, out.detail)
        assert (out.body is None) == (out.reason is not None)
        assert (out.status == "ok") == (out.reason is None)
    assert not wrong


def test_too_small_a_length_gives_what_was_promised(server: Any) -> None:
    """By HTTP the answer ends there; a picture cut so is found by the decoder. What follows is no second answer."""
    server.routes["/short"] = lambda r: r.send(HEAD + b"Content-Length: 3\r\n\r\nabc" + HEAD + b"\r\nevil")
    outs = [fetch(server.url("/short")), *fetch_all([server.url("/short"), server.url("/ok")], max_connections=1)]
    assert [out.body for out in outs] == [b"abc", b"abc", BODY]


def test_a_kept_connection_that_has_gone_stale_costs_no_attempt() -> None:
    """The server closes each connection, without saying so, once the second request on it has come in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(HEAD + b"Content-Length: 3\r\n\r\nabc")
                    connection.recv(4096)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        outs = fetch_all([url, url + "2", url + "3"], max_connections=1, retries=0)
    assert [out.status for out in outs] == ["ok"] * 3
    assert [out.num_attempts for out in outs] == [1, 1, 1]


def test_endless_body_is_dropped_at_the_cap(server: Any) -> None:
    sent = 0

    def endless(request: Any) -> None:
        nonlocal sent
        request.send(HEAD + b"\r\n")
        while sent < 200_000_000:
            request.send(bytes(65536))
            sent += 65536

    server.routes["/endless"] = endless
    out = fetch(server.url("/endless"), max_bytes=1_000_000)
    assert (out.status, out.reason, out.body) == ("failed", "dl.too_large", None)
    time.sleep(0.05)
    assert sent < 20_000_000  # the rest is what the kernel's buffers took


def test_body_of_an_error_is_not_read_for_ever(server: Any) -> None:
    def endless(request: Any) -> None:
        request.send(b"HTTP/1.1 404 No\r\n\r\n")
        while True:
            request.send(bytes(65536))

    server.routes["/endless"] = endless
    assert fetch(server.url("/endless")).reason == "http.4xx_gone"


def test_slow_ones_end_in_time_and_hold_up_nobody(server: Any) -> None:
    def drip(request: Any) -> None:
        request.send(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(300):
            request.send(b"x")
            server.sleep(0.02)

    def steady(request: Any) -> None:
        request.send(HEAD + b"\r\n")
        for _ in range(300):
            request.send(bytes(1000))
            server.sleep(0.02)

    def slow_head(request: Any) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 200:
            request.send(bytes([byte]))
            server.sleep(0.02)

    def after_head(request: Any) -> None:
        request.send(HEAD + b"Content-Length: 5\r\n\r\n")
        server.sleep(5)

    server.routes |= {"/silent": lambda _: server.sleep(5), "/drip": drip, "/steady": steady}
    server.routes |= {"/slow_head": slow_head, "/after_head": after_head}
    paths = ["/silent", "/drip", "/steady", "/slow_head", "/after_head"]
    at: dict[int, float] = {}
    start = time.monotonic()
    limits = {"total_timeout_s": 1.8, "first_byte_timeout_s": 0.7, "min_rate_window_s": 0.4}
    with Fetcher(FetchOptions(**(QUICK | limits))) as fetcher:
        urls = [server.url(path) for path in paths] + [server.url(f"/ok?{i}") for i in range(50)]
        outs = fetcher.fetch_many(urls, lambda index, _: at.__setitem__(index, time.monotonic() - start))
    assert [out.reason for out in outs[:5]] == [
        "dl.deadline",
        "dl.too_slow",
        "dl.deadline",
        "dl.too_slow",
        "dl.too_slow",
    ]
    assert all(out.status == "ok" for out in outs[5:])
    assert max(at[i] for i in range(5, 55)) < at[2]
    assert sum(at[i] for i in range(5, 55)) / 50 < min(at[i] for i in range(5))
    assert 0.7 < at[0] < 0.7 + 1  # a sweep, and a busy machine
    assert 1.8 < at[2] < 1.8 + 1
    assert max(at.values()) < 3


def test_refused_and_reset_connections(server: Any) -> None:
    def reset(request: Any) -> None:
        request.send(HEAD + b"Content-Length: 100\r\n\r\nabc")
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    server.routes["/reset"] = reset
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
    assert fetch(server.url("/reset")).reason in {"net.reset", "dl.length_mismatch"}
    refused = fetch(f"http://127.0.0.1:{closed}/", retries=1)
    assert (refused.reason, refused.num_attempts) == ("net.connect_refused", 2)


def test_a_name_that_does_not_exist_is_permanent() -> None:
    out = fetch("http://no-such-host.invalid/", retries=2)  # RFC 2606: .invalid never resolves
    assert out.reason in {"net.dns_nxdomain", "net.dns_servfail", "net.dns_timeout"}
    if out.reason == "net.dns_nxdomain":
        assert out.num_attempts == 1


# Redirects


def to(location: str, status: int = 302, **headers: str) -> Any:
    return lambda r: r.reply(b"moved", status, {"Location": location} | headers)


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


# Opt-outs in the headers

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


# Retries and manners


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


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Self-signed for 127.0.0.1, for another name, and one that has expired; made by the openssl command line."""
    folder = tmp_path_factory.mktemp("tls")
    kinds = {"good": ("IP:127.0.0.1", "2"), "name": ("DNS:example.com", "2"), "expired": ("IP:127.0.0.1", "-1")}
    out = {}
    for kind, (name, days) in kinds.items():
        out[kind] = folder / f"{kind}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        command += ["-subj", "/CN=loopback", "-addext", f"subjectAltName={name}", "-days", days]
        command += ["-keyout", str(out[kind]), "-out", f"{out[kind]}.crt"]
        made = subprocess.run(command, capture_output=True, check=False)
        if made.returncode:
            out[kind] = _expired_certificate(folder)
            continue
        out[kind].write_bytes(out[kind].read_bytes() + Path(f"{out[kind]}.crt").read_bytes())
    return out


def _expired_certificate(folder: Path) -> Path:
    """openssl req takes no negative days in some versions; the cryptography package takes any dates."""
    x509 = pytest.importorskip("cryptography.x509")
    import datetime
    import ipaddress

    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=3))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "expired_by_cryptography.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


@pytest.mark.parametrize(
    ("kind", "is_trusted", "reason"),
    [
        ("good", False, "net.tls_untrusted"),
        ("good", True, None),
        ("name", True, "net.tls_name"),
        ("expired", True, "net.tls_expired"),
    ],
)
def test_certificates(
    certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, is_trusted: bool, reason: str | None
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[kind])
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificates[kind]))
    with loopback.Server(context=context) as server:
        server.routes |= {"/ok": lambda r: r.reply(BODY), "/down": to("http://127.0.0.1/ok")}
        out = fetch(server.url("/ok"))
        assert out.reason == reason
        if reason is None:
            assert out.body == BODY
            down = fetch(server.url("/down"))
            assert (down.reason, down.status) == ("http.redirect_blocked", "refused")
        else:
            assert server.hits == {}


def test_https_to_a_plain_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        out = fetch(f"https://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join(5)
    assert out.reason == "net.tls_handshake"
    assert Path(certificate_bundle()).is_file()


# The environment and the options


def test_the_environment_cannot_redirect_the_fetcher(
    server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with loopback.Server("127.0.0.3") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert fetch(server.url("/ok")).status == "ok"
        assert proxy.num_connections == 0
    assert "authorization" not in server.seen[0].headers


def test_options_are_checked_and_hashable() -> None:
    with pytest.raises(ValidationError, match="no such field"):
        FetchOptions(max_byte=1)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="host bits"):
        FetchOptions(allow_networks=("127.0.0.1/8",))
    with pytest.raises(ValidationError, match="port"):
        FetchOptions(ports=(0,))
    with pytest.raises(ValidationError):
        FetchOptions(user_agent="a\r\nX-Injected: 1")
    assert hash(FetchOptions()) == hash(FetchOptions())
    fields = set(FetchOptions.model_fields)
    source = Path(FetchOptions.__module__.replace(".", "/") + ".py")
    text = (Path(__file__).parents[2] / source).read_text()
    for name in fields:  # a docstring under every field
        assert f"    {name}: " in text
        assert text.split(f"    {name}: ", 1)[1].split("\n", 2)[1].strip().startswith('"""')
