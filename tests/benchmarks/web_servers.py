"""Loopback servers for the benchmarks: nginx for speed, and one that is slow, dead or silent by address."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

HOSTS = [f"127.1.0.{n}" for n in range(1, 51)]

_CONF = """
daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off; sendfile on; keepalive_requests 100000; types {{ image/jpeg jpg; }}
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4;
  scgi_temp_path {root}/t5;
  server {{ listen 0.0.0.0:{http} backlog=4096; root {pictures}; }}
  server {{
    listen 0.0.0.0:{https} ssl backlog=4096; root {pictures}; ssl_session_cache off; ssl_session_tickets off;
    ssl_certificate {root}/leaf.pem; ssl_certificate_key {root}/leaf.key; ssl_protocols TLSv1.3;
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_certificates(root: Path) -> Path:
    """A private authority and a P-256 leaf for HOSTS; returns a bundle: the system's authorities and ours."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=root, check=True, capture_output=True)

    names = ",".join(f"IP:{host}" for host in HOSTS)
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-days", "7", "-subj", "/CN=benchmark")
    openssl("req", *curve, "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf")
    (root / "leaf.ext").write_text(f"subjectAltName={names}\n")
    sign = ("-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "7")
    openssl("x509", *sign, "-extfile", "leaf.ext", "-out", "leaf.pem")
    import ssl

    system = ssl.get_default_verify_paths().cafile
    bundle = root / "bundle.pem"
    bundle.write_text((Path(system).read_text() if system else "") + (root / "ca.pem").read_text())
    return bundle


@contextlib.contextmanager
def nginx(root: Path, pictures: Path) -> Iterator[tuple[int, int]]:
    """Serves `pictures` on every address of 127/8; gives the ports of HTTP and HTTPS."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/bin")
    if program is None:
        raise SystemExit("this benchmark needs nginx: apt-get install nginx-light (or brew install nginx)")
    http, https = free_port(), free_port()
    conf = root / "nginx.conf"
    conf.write_text(_CONF.format(root=root, pictures=pictures, http=http, https=https))
    process = subprocess.Popen([program, "-p", str(root), "-c", str(conf)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", https), 0.2):
                break
            if process.poll() is not None:
                raise SystemExit(f"nginx does not start; see {root / 'error.log'}")
            time.sleep(0.1)
        yield http, https
    finally:
        process.terminate()
        process.wait(10)


class Slow(asyncio.Protocol):
    """Answers `delay_s` after each request, or never where the address connected to is in `silent`."""

    def __init__(self, pictures: dict[bytes, bytes], delay_s: float, silent: frozenset[str]) -> None:
        self._pictures, self._delay_s, self._silent = pictures, delay_s, silent
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._is_silent = transport.get_extra_info("sockname")[0] in self._silent

    def data_received(self, data: bytes) -> None:
        self._data += data
        while b"\r\n\r\n" in self._data and not self._is_silent:
            head, _, self._data = self._data.partition(b"\r\n\r\n")
            asyncio.get_running_loop().call_later(self._delay_s, self._answer, head.split(b" ", 2)[1])

    def _answer(self, path: bytes) -> None:
        if self._transport.is_closing():
            return
        body = self._pictures.get(path)
        status = b"404 Not Found" if body is None else b"200 OK"
        body = body or b"no"
        head = b"HTTP/1.1 %s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)  # type: ignore[attr-defined]


async def serve_slowly(port: int, pictures: dict[bytes, bytes], delay_s: float, silent: frozenset[str]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Slow(pictures, delay_s, silent), "0.0.0.0", port, backlog=4096)
    async with server:
        await server.serve_forever()
