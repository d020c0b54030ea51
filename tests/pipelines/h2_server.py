"""A loopback HTTP/2 server over TLS for tests: a path is answered by (headers, body), or by what a function does."""

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, RequestReceived, WindowUpdated
from h2.exceptions import ProtocolError

Route = tuple[dict[str, str], bytes] | Callable[[H2Connection, int], None]


class H2Server:
    """One thread a connection. hits: requests by path; num_connections: TLS sessions that agreed on h2."""

    def __init__(self, certificate: Path) -> None:
        self.routes: dict[str, Route] = {}
        self.hits: Counter[str] = Counter()
        self.num_connections = self.max_streams = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}{path}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.settimeout(10)
        with contextlib.suppress(OSError, ProtocolError), self._context.wrap_socket(plain, server_side=True) as tls:
            assert tls.selected_alpn_protocol() == "h2"
            self.num_connections += 1
            h2 = H2Connection(H2Configuration(client_side=False))
            h2.initiate_connection()
            tls.sendall(h2.data_to_send())
            left: dict[int, bytes] = {}
            while data := tls.recv(65536):
                for event in h2.receive_data(data):
                    match event:
                        case RequestReceived():
                            self._answer(h2, event, left)
                        case DataReceived():
                            h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                        case ConnectionTerminated():
                            return
                        case WindowUpdated():
                            pass
                for stream in list(left):
                    self._send(h2, stream, left)
                tls.sendall(h2.data_to_send())

    def _answer(self, h2: H2Connection, event: RequestReceived, left: dict[int, bytes]) -> None:
        path = dict(event.headers)[b":path"].decode().partition("?")[0]
        self.hits[path] += 1
        route = self.routes.get(path, ({":status": "404"}, b"no"))
        if callable(route):
            route(h2, event.stream_id)
            return
        headers, body = route
        h2.send_headers(event.stream_id, [*({":status": "200"} | headers).items()])
        left[event.stream_id] = body
        self.max_streams = max(self.max_streams, len(left))

    def _send(self, h2: H2Connection, stream: int, left: dict[int, bytes]) -> None:
        try:
            while left[stream]:
                size = min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size, len(left[stream]))
                if size <= 0:
                    return
                h2.send_data(stream, left[stream][:size])
                left[stream] = left[stream][size:]
            h2.end_stream(stream)
        except ProtocolError:  # the client has ended the stream
            pass
        del left[stream]
