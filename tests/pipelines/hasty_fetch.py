"""A fetcher in a hurry, for the tests of what it does with one server's answers."""

from typing import Any

from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched

BODY = b"\x89PNG" + bytes(range(256)) * 40
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
QUICK = {"allow_networks": ("127.0.0.0/8",), "backoff_s": 0.01, "connect_timeout_s": 2.0, "first_byte_timeout_s": 0.5}
QUICK |= {"robots": "ignore", "ai_txt": "ignore", "tdmrep": "ignore", "requests_per_second_per_host": 1e6}
QUICK |= {"circuit_failures": 1000}  # the tests of all these: test_permission.py, test_circuit.py
QUICK |= {"total_timeout_s": 2.0, "min_rate_window_s": 0.4, "retries": 0, "max_retry_after_s": 2.0}


def fetch(url: str, **options: Any) -> Fetched:
    return fetch_all([url], **options)[0]


def fetch_all(urls: list[str], **options: Any) -> list[Fetched]:
    with Fetcher(FetchOptions(**(QUICK | options))) as fetcher:
        return fetcher.fetch_many(urls)


def to(location: str, status: int = 302, **headers: str) -> Any:
    return lambda r: r.reply(b"moved", status, {"Location": location} | headers)
