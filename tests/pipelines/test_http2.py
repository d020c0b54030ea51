"""The same guards where the server speaks HTTP/2."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched
from tests.pipelines.h2_server import H2Server

BODY = bytes(range(256)) * 2000  # more than a stream's first window


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[H2Server]:
    path = tmp_path / "tls.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path)]
    subprocess.run([*command, "-out", f"{path}.crt"], capture_output=True, check=True)
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with H2Server(path) as it:
        it.routes["/ok"] = ({"content-type": "image/png", "content-length": str(len(BODY))}, BODY)
        yield it


def fetch_all(urls: list[str], **options: Any) -> list[Fetched]:
    quick: dict[str, Any] = {"allow_networks": ("127.0.0.0/8",), "retries": 0, "requests_per_second_per_host": 1e6}
    with Fetcher(FetchOptions(**(quick | {"total_timeout_s": 5, "circuit_failures": 100} | options))) as fetcher:
        return fetcher.fetch_many(urls)


def test_bodies_arrive_whole_over_few_connections(server: H2Server) -> None:
    outs = fetch_all([server.url(f"/ok?{i}") for i in range(40)], max_connections_per_host=8)
    assert [out.reason for out in outs] == [None] * 40
    assert all(out.body == BODY for out in outs)
    assert {(out.http_status, out.content_type) for out in outs} == {(200, "image/png")}
    assert server.hits["/ok"] == 40
    assert server.hits["/robots.txt"] == 1
    assert server.num_connections <= 8
    assert server.max_streams <= 8


def test_the_guards_hold(server: H2Server) -> None:
    server.routes["/robots.txt"] = ({}, b"User-agent: *\nDisallow: /private")
    server.routes["/noai"] = ({"x-robots-tag": "noai"}, b"abc")
    server.routes["/large"] = ({"content-length": "99999999"}, b"abc")
    server.routes["/endless"] = ({}, bytes(3_000_000))
    server.routes["/gzip"] = ({"content-encoding": "gzip"}, b"abc")
    server.routes["/busy"] = ({":status": "503"}, b"no")
    server.routes["/away"] = ({":status": "302", "location": "https://10.0.0.1/"}, b"")
    server.routes["/hop"] = ({":status": "302", "location": "/ok"}, b"")
    server.routes["/headers"] = ({f"x-{i}": "a" * 1000 for i in range(90)}, b"abc")
    server.routes["/cut"] = lambda h2, stream: (
        h2.send_headers(stream, [(":status", "200"), ("content-length", "9")]),
        h2.send_data(stream, b"abc"),
        h2.reset_stream(stream, 2),
    )
    wanted = {
        "/private": "policy.robots", "/noai": "policy.x_robots", "/large": "dl.too_large", "/endless": "dl.too_large",
        "/gzip": "dl.encoding", "/busy": "http.5xx", "/away": "net.blocked_address", "/hop": None,
        "/headers": "http.headers_too_large", "/gone": "http.4xx_gone", "/ok": None,
    }  # fmt: skip
    outs = fetch_all([server.url(path) for path in wanted], max_bytes=1_000_000)
    assert {path: out.reason for path, out in zip(wanted, outs, strict=True)} == wanted
    assert server.hits["/private"] == 0
    (cut,) = fetch_all([server.url("/cut")])
    assert (cut.status, cut.body) == ("failed", None)
    assert cut.reason in {"net.reset", "dl.length_mismatch"}
