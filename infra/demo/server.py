"""Serve the demo's crawl from this machine to this machine only.

    python infra/demo/server.py OUT [--port 8071] [--port-file F] [--max-seconds N]

It answers for the paths of OUT/routes.json. A route may hold
    file      path under OUT of the body           type      Content-Type to claim
    status    HTTP status; 0 closes the connection without an answer
    location  for redirects; {origin} and {port} are this server's
    headers   more headers                         delay     seconds before the answer
    short     send only so many bytes of the length that Content-Length claims, then close
    cut       serve only the first so many bytes, as if they were the file
GET /__stats gives counters as JSON, GET /robots.txt allows everything.

127.66.6.6 stands for a private network, where the machine has that loopback address (a Mac has not): no careful fetcher
follows a redirect to it; whatever comes is counted as `forbidden_hits`.

Only loopback addresses are bound. The server ends after --max-seconds, and when the process that started it ends.
In a test:  with DemoServer(root, port=0) as server: ...server.url...
"""

import argparse
import contextlib
import hashlib
import http.server
import ipaddress
import json
import os
import socket
import socketserver
import sys
import threading
import time
import urllib.parse
from pathlib import Path
from typing import Any

from counters import Counters
from dirt import FORBIDDEN_HOST

DEFAULT_PORT = 8071  # corpus.BASE_URL has it too: the links must be the same in every run
IDLE_TIMEOUT_S = 30  # of a kept-alive connection
PARENT_POLL_S = 0.5
MAX_DELAY_S = 120.0


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection. Statuses are counted as answered; 0 is a connection closed without an answer."""

    protocol_version = "HTTP/1.1"
    server_version = "tamis-demo"
    timeout = IDLE_TIMEOUT_S
    wbufsize = 1 << 16  # headers and a small body leave together
    disable_nagle_algorithm = True
    server: "Listener"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the counters tell."""

    def do_GET(self) -> None:
        self._count_and_answer(True)

    def do_HEAD(self) -> None:
        self._count_and_answer(False)

    def _count_and_answer(self, with_body: bool) -> None:
        path = urllib.parse.urlsplit(self.path).path
        counters = self.server.demo.counters
        if path == "/__stats":
            self._send(200, json.dumps(counters.as_dict()).encode(), "application/json", with_body=with_body)
            return
        counters.enter()
        status, self._sent = 0, 0
        try:
            status = self._answer(path, with_body)
            self.wfile.flush()
        except (ConnectionError, TimeoutError):
            counters.add("client_aborts")
            self.close_connection = True
        finally:
            counters.leave(status, self._sent)

    def _answer(self, path: str, with_body: bool) -> int:
        demo = self.server.demo
        if self.server.is_forbidden:
            demo.counters.add("forbidden_hits")
            return self._send(200, b"secret\n", "text/plain", with_body=with_body)
        if path == "/robots.txt":
            return self._send(200, b"User-agent: *\nAllow: /\n", "text/plain", with_body=with_body)
        route = demo.routes.get(path, {"status": 404})
        time.sleep(min(route.get("delay", 0.0), MAX_DELAY_S))
        status, headers = int(route.get("status", 200)), dict(route.get("headers", {}))
        if status == 0:
            self.close_connection = True
            return 0
        if "location" in route:
            place = route["location"].replace("{origin}", demo.url).replace("{port}", str(demo.port))
            return self._send(status, b"", None, {**headers, "Location": place}, with_body=with_body)
        if "file" not in route:
            return self._send(status, f"status {status}\n".encode(), "text/plain", headers, with_body=with_body)
        data = (demo.root / route["file"]).read_bytes()[: route.get("cut")]
        etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
        headers["ETag"] = etag
        known = [tag.strip().removeprefix("W/") for tag in self.headers.get("If-None-Match", "").split(",")]
        if etag in known or known == ["*"]:
            return self._send(304, b"", None, headers, with_body=False)
        kind = str(route.get("type", "application/octet-stream"))
        return self._send(status, data, kind, headers, with_body=with_body, short=route.get("short"))

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str | None,
        headers: dict[str, str] | None = None,
        *,
        with_body: bool,
        short: int | None = None,
    ) -> int:
        self.send_response(status)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        if kind:
            self.send_header("Content-Type", kind)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            sent = body[:short]
            self.wfile.write(sent)
            self._sent = len(sent)
            if short is not None:
                self.close_connection = True
        return status


class Listener(http.server.ThreadingHTTPServer):
    """One bound address of a DemoServer."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], demo: "DemoServer", *, is_forbidden: bool = False) -> None:
        self.demo, self.is_forbidden = demo, is_forbidden
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        # not HTTPServer's, which asks the name service for this host's name
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        self.demo.counters.add("connections")
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is counted; any other error is shown."""
        if isinstance(sys.exception(), ConnectionError | TimeoutError):
            self.demo.counters.add("client_aborts")
        else:
            super().handle_error(request, client_address)

    def hang_up(self) -> None:
        """Close what clients still hold open."""
        with self._lock:
            held = list(self._open)
        for connection in held:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # closed meanwhile
                continue


class DemoServer:
    """The crawl of `root`, served in background threads.

    The port is bound at once (0: a free one, see `url`), so that a corpus can be built for it; start() reads the routes
    and answers. Raises ValueError for an address that is not loopback, OSError where the port is taken, and, from
    start(), FileNotFoundError where `root` holds no corpus.
    """

    def __init__(self, root: Path, *, host: str = "127.0.0.1", port: int = DEFAULT_PORT) -> None:
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"{host} is not a loopback address: the demo is served to this machine only")
        self.root, self.counters = root, Counters()
        self.routes: dict[str, dict[str, Any]] = {}
        self._listeners = [Listener((host, port), self)]
        self.port = self._listeners[0].server_port
        self.url = f"http://{host}:{self.port}"
        with contextlib.suppress(OSError):  # a machine with 127.0.0.1 only: then a followed redirect fails, uncounted
            self._listeners.append(Listener((FORBIDDEN_HOST, self.port), self, is_forbidden=True))
        self._threads: list[threading.Thread] = []

    def start(self) -> "DemoServer":
        with (self.root / "routes.json").open(encoding="utf-8") as file:
            self.routes = json.load(file)["routes"]
        for listener in self._listeners:
            thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def stats(self) -> dict[str, Any]:
        """connections, requests, body_bytes, client_aborts, forbidden_hits, max_in_flight, status: {status: count}."""
        return self.counters.as_dict()

    def close(self) -> None:
        """Stop answering, and hang up; safe to call twice."""
        for listener in self._listeners:
            if self._threads:
                listener.shutdown()
            listener.server_close()
            listener.hang_up()
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def __enter__(self) -> "DemoServer":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def wait(parent: int, max_seconds: float) -> None:
    """Until the time is up or the parent process is gone: then another one adopts this process."""
    end = time.monotonic() + max_seconds
    while os.getppid() == parent and (left := end - time.monotonic()) > 0:
        time.sleep(min(PARENT_POLL_S, left))


def main() -> None:
    parent = os.getppid()  # at once: it may be gone by the time the server answers
    parser = argparse.ArgumentParser(description="Serve the demo's crawl on a loopback address.")
    parser.add_argument("root", type=Path, help="the folder that corpus.py wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one (default %(default)s)")
    parser.add_argument("--port-file", type=Path, help="where to write the port, once it answers")
    parser.add_argument("--max-seconds", type=float, default=3600.0)
    args = parser.parse_args()
    try:
        server = DemoServer(args.root, host=args.host, port=args.port)
        server.start()
    except ValueError as error:
        sys.exit(f"error: {error}")
    except FileNotFoundError as error:
        sys.exit(
            f"error: {error.filename} is not there: build the corpus first (python infra/demo/corpus.py {args.root})"
        )
    except OSError as error:
        sys.exit(
            f"error: cannot listen on {args.host}:{args.port} ({error.strerror}). The demo's links point there: end "
            f"what uses the port, or build the corpus with another --base-url and serve it on that --port."
        )
    if args.port_file:
        part = args.port_file.with_name(f".{args.port_file.name}.part")
        part.write_text(str(server.port), encoding="ascii")
        part.replace(args.port_file)
    print(f"serving {len(server.routes)} paths of {args.root} at {server.url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        wait(parent, args.max_seconds)
    server.close()


if __name__ == "__main__":
    main()
