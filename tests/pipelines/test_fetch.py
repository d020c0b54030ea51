"""What comes of one request: bodies, malformed answers, deadlines; the options."""

import hashlib
import socket
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from tests.pipelines import loopback
from tests.pipelines.hasty_fetch import BODY, HEAD, QUICK, fetch, fetch_all


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
    "length of 5,000 digits": (
        HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
        "dl.too_large|http.bad_response",
    ),
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
    "429 with a hostile wait": (
        b"HTTP/1.1 429 Slow\r\nRetry-After: \xb2\r\nContent-Length: 0\r\n\r\n",
        "http.rate_limited",
    ),
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
