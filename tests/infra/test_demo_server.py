"""The demo's server: each behaviour a route can ask for, seen by a plain client."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dirt import FORBIDDEN_HOST
from server import DemoServer

BODY = bytes(range(256)) * 40
ROUTES = {
    "/whole": {"file": "files/body", "type": "image/png"},
    "/short": {"file": "files/body", "type": "image/png", "short": 100},
    "/cut": {"file": "files/body", "cut": 100},
    "/gone": {"status": 410},
    "/closed": {"status": 0},
    "/near": {"status": 302, "location": "/whole"},
    "/far": {"status": 301, "location": "{origin}/whole"},
    "/forbidden": {"status": 302, "location": f"http://{FORBIDDEN_HOST}:{{port}}/latest/"},
    "/noai": {"file": "files/body", "headers": {"X-Robots-Tag": "noai"}},
    "/slow": {"status": 404, "delay": 0.2},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "body").write_bytes(BODY)
    (tmp_path / "routes.json").write_text(json.dumps({"routes": ROUTES}))
    return tmp_path


@pytest.fixture
def server(root: Path) -> Iterator[DemoServer]:
    with DemoServer(root, port=0) as running:
        yield running


@pytest.fixture
def client(server: DemoServer) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    yield connection
    connection.close()


def get(
    client: http.client.HTTPConnection, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> tuple[http.client.HTTPResponse, bytes]:
    client.request(method, path, headers=headers or {})
    answer = client.getresponse()
    return answer, answer.read()


def test_many_answers_on_one_connection(server: DemoServer, client: http.client.HTTPConnection) -> None:
    for _ in range(3):
        answer, body = get(client, "/whole?size=large")
        assert (answer.status, answer.headers["Content-Type"], body) == (200, "image/png", BODY)
    assert get(client, "/gone")[0].status == 410
    assert get(client, "/not/there")[0].status == 404
    assert get(client, "/robots.txt")[1] == b"User-agent: *\nAllow: /\n"
    stats = server.stats()
    assert stats["connections"] == 1
    assert stats["requests"] == 6
    assert stats["status"] == {"200": 4, "404": 1, "410": 1}
    assert stats["max_in_flight"] == 1


def test_etag(client: http.client.HTTPConnection) -> None:
    tag = get(client, "/whole")[0].headers["ETag"]
    assert tag
    for known in (tag, f'"other", W/{tag}', "*"):
        answer, body = get(client, "/whole", {"If-None-Match": known})
        assert (answer.status, body, answer.headers["ETag"]) == (304, b"", tag)
    answer, body = get(client, "/cut", {"If-None-Match": tag})
    assert (answer.status, len(body)) == (200, 100)


def test_head_has_the_length_and_no_body(client: http.client.HTTPConnection) -> None:
    answer, body = get(client, "/whole", method="HEAD")
    assert (answer.headers["Content-Length"], body) == (str(len(BODY)), b"")
    assert get(client, "/whole")[1] == BODY  # the connection is still in step


def test_short_body(client: http.client.HTTPConnection) -> None:
    client.request("GET", "/short")
    answer = client.getresponse()
    assert answer.headers["Content-Length"] == str(len(BODY))
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.partial == BODY[:100]


def test_cut_file_looks_whole(client: http.client.HTTPConnection) -> None:
    answer, body = get(client, "/cut")
    assert (answer.headers["Content-Length"], body) == ("100", BODY[:100])


def test_closed_without_an_answer(server: DemoServer, client: http.client.HTTPConnection) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        get(client, "/closed")
    assert server.stats()["status"] == {"0": 1}


def test_redirects(server: DemoServer, client: http.client.HTTPConnection) -> None:
    for path, status, place in (
        ("/near", 302, "/whole"),
        ("/far", 301, f"{server.url}/whole"),
        ("/forbidden", 302, f"http://{FORBIDDEN_HOST}:{server.port}/latest/"),
    ):
        answer, body = get(client, path)
        assert (answer.status, answer.headers["Location"], body) == (status, place, b"")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the whole of 127.0.0.0/8")
def test_the_forbidden_address_counts(server: DemoServer) -> None:
    assert server.stats()["forbidden_hits"] == 0
    connection = http.client.HTTPConnection(FORBIDDEN_HOST, server.port, timeout=5)
    assert get(connection, "/latest/")[1] == b"secret\n"
    connection.close()
    assert server.stats()["forbidden_hits"] == 1


def test_headers_and_delay(client: http.client.HTTPConnection) -> None:
    assert get(client, "/noai")[0].headers["X-Robots-Tag"] == "noai"
    began = time.monotonic()
    assert get(client, "/slow")[0].status == 404
    assert time.monotonic() - began >= 0.2


def test_stats_page_is_the_stats(server: DemoServer, client: http.client.HTTPConnection) -> None:
    get(client, "/whole")
    answer, body = get(client, "/__stats")
    assert answer.headers["Content-Type"] == "application/json"
    assert json.loads(body) == server.stats()
    assert (server.stats()["requests"], server.stats()["body_bytes"]) == (1, len(BODY))  # itself it does not count


def test_close_hangs_up_and_frees_the_port(root: Path) -> None:
    server = DemoServer(root, port=0).start()
    client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    assert get(client, "/whole")[0].status == 200
    server.close()
    server.close()
    assert client.sock.recv(1) == b""  # the kept-alive connection too
    client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)
    with DemoServer(root, port=server.port):
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_other_than_loopback_is_refused(root: Path, host: str) -> None:
    with pytest.raises(ValueError, match="not a loopback address"):
        DemoServer(root, host=host, port=0)


def test_a_port_in_use_is_said_so(root: Path, server: DemoServer, demo_scripts: Path) -> None:
    command = [sys.executable, str(demo_scripts / "server.py"), str(root), "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{server.port}" in done.stderr


def test_a_folder_without_a_corpus_is_said_so(tmp_path: Path, demo_scripts: Path) -> None:
    command = [sys.executable, str(demo_scripts / "server.py"), str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "build the corpus first" in done.stderr


def wait_for(what: Path, seconds: float = 20.0) -> str:
    end = time.monotonic() + seconds
    while not what.exists():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)
    return what.read_text()


def test_ends_after_its_time(root: Path, tmp_path: Path, demo_scripts: Path) -> None:
    command = [sys.executable, str(demo_scripts / "server.py"), str(root), "--port", "0", "--max-seconds", "0.2"]
    done = subprocess.run(
        [*command, "--port-file", str(tmp_path / "port")], capture_output=True, text=True, timeout=30, check=True
    )
    assert f"http://127.0.0.1:{wait_for(tmp_path / 'port')}" in done.stdout


def test_ends_with_its_parent(root: Path, tmp_path: Path, demo_scripts: Path) -> None:
    command = [sys.executable, str(demo_scripts / "server.py"), str(root), "--port", "0", "--max-seconds", "60"]
    command += ["--port-file", str(tmp_path / "port")]
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess; subprocess.Popen({command!r}).wait()"], stdout=subprocess.DEVNULL
    )
    try:
        port = int(wait_for(tmp_path / "port"))
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    finally:
        os.kill(parent.pid, 9)
        parent.wait(timeout=10)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                break
        time.sleep(0.1)
    else:
        pytest.fail("the server outlived its parent")
