"""A loopback web server for tests that says exactly the bytes it is told to, and counts what it sees."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

Handler = Callable[["Request"], None]


class Request:
    """One request as it came in; `send` answers with raw bytes, `reply` with a well-formed response."""

    def __init__(self, connection: socket.socket, target: str, headers: dict[str, str], server: "Server") -> None:
        self.connection, self.target, self.headers, self.server = connection, target, headers, server
        self.local_ip = connection.getsockname()[0]
        self.path, _, self.query = target.partition("?")
        self.keep_open = False

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def reply(self, body: bytes = b"", status: int = 200, headers: dict[str, str] | None = None) -> None:
        fields = {"Content-Length": str(len(body)), "Content-Type": "image/png"} | (headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body)
        self.keep_open = True


class Server:
    """Threads on one loopback address. `routes` maps a path to a handler; unknown paths are 404.

    hits: requests by path. num_connections: accepted. max_active: most requests in progress at once.
    """

    def __init__(self, ip: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.routes: dict[str, Handler] = {}
        self.hits: Counter[str] = Counter()
        self.seen: list[Request] = []
        self.num_connections = self.active = self.max_active = 0
        self._context = context
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._listener = socket.socket(family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((ip, port))
        self._listener.listen(256)
        self.ip, self.port = ip, self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.is_closing = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def url(self, path: str, host: str | None = None) -> str:
        scheme = "https" if self._context else "http"
        return f"{scheme}://{host or self.ip}:{self.port}{path}"

    def sleep(self, seconds: float) -> None:
        """Sleep that ends with the server."""
        end = time.monotonic() + seconds
        while not self.is_closing and time.monotonic() < end:
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.num_connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        try:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                while self._one(connection):
                    pass
        except OSError:
            return  # the client went away, as several tests make it do

    def _one(self, connection: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return False
            data += more
        lines = data.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)
        }
        request = Request(connection, lines[0].split(" ")[1], headers, self)
        with self._lock:
            self.seen.append(request)
            self.hits[request.path] += 1
            self.active += 1
            self.max_active = max(self.max_active, self.active)
        try:
            self.routes.get(request.path, lambda r: r.reply(b"no", 404))(request)
        finally:
            with self._lock:
                self.active -= 1
        return request.keep_open
