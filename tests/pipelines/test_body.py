import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.body import Body
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from tests.pipelines import loopback

LARGE = os.urandom(3_000_000)
QUICK: dict[str, Any] = {"allow_networks": ("127.0.0.0/8",), "retries": 0, "memory_cap_bytes": 1_000_000}
QUICK |= {"robots": "ignore", "ai_txt": "ignore", "tdmrep": "ignore", "total_timeout_s": 5}


@pytest.mark.parametrize(("size", "has_file"), [(0, False), (1000, False), (1001, True), (5000, True)])
def test_in_memory_up_to_the_cap(tmp_path: Path, size: int, has_file: bool) -> None:
    body, data = Body(1000, tmp_path / "spool"), os.urandom(size)
    for _ in range(2):  # reusable
        for start in range(0, size, 300):
            body.add(data[start : start + 300])
        assert (body.size, body.sha256()) == (size, hashlib.sha256(data).hexdigest())
        memory, path = body.take()
        assert (memory is None) == (path is not None) == has_file
        assert (memory if path is None else path.read_bytes()) == data
        assert body.size == 0
        if path is not None:
            path.unlink()
    body.add(bytes(2000))
    body.discard()
    assert not list(tmp_path.rglob("*.*"))


def test_large_bodies_go_through_a_file_that_is_the_callers(tmp_path: Path) -> None:
    with loopback.Server() as server, Fetcher(FetchOptions(**QUICK), spool=tmp_path) as fetcher:
        server.routes["/large"] = lambda r: r.reply(LARGE)
        server.routes["/small"] = lambda r: r.reply(b"small")
        large, small = fetcher.fetch_many([server.url("/large"), server.url("/small")])
        assert (large.status, large.body) == ("ok", None)
        assert large.sha256 == hashlib.sha256(LARGE).hexdigest()
        assert large.digest("md5") == hashlib.md5(LARGE).digest()
        assert (small.body, small.body_path) == (b"small", None)
        assert large.body_path is not None
        assert large.body_path.parent == tmp_path
        assert large.take_body() == LARGE
        assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_bodies_that_fail(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text(hashlib.sha256(LARGE).hexdigest())
    spool = tmp_path / "spool"
    options = FetchOptions(**(QUICK | {"max_bytes": 3_500_000, "known_bad_hashes": (tmp_path / "bad",)}))
    with loopback.Server() as server, Fetcher(options, spool=spool) as fetcher:
        server.routes["/endless"] = lambda r: r.send(b"HTTP/1.1 200 OK\r\n\r\n" + LARGE * 2)
        server.routes["/cut"] = lambda r: r.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3400000\r\n\r\n" + LARGE)
        server.routes["/bad"] = lambda r: r.reply(LARGE)
        outs = fetcher.fetch_many([server.url(path) for path in ("/endless", "/cut", "/bad")])
        assert [out.reason for out in outs] == ["dl.too_large", "dl.length_mismatch", "policy.known_bad_hash"]
        assert all(out.body is None and out.body_path is None for out in outs)
        assert list(spool.iterdir()) == []

        def hang(request: Any) -> None:
            request.send(b"HTTP/1.1 200 OK\r\n\r\n" + LARGE)
            server.sleep(3)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        server.routes["/hang"] = hang
        server.routes["/late"] = lambda r: (server.sleep(0.3), r.reply(b"x"))
        with pytest.raises(KeyboardInterrupt):
            fetcher.fetch_many([server.url("/hang"), server.url("/late")], stop)
        assert list(spool.iterdir()) == []


def test_no_room_is_a_failed_row_that_may_heal(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way of the folder")
    with loopback.Server() as server, Fetcher(FetchOptions(**QUICK), spool=tmp_path / "file") as fetcher:
        server.routes["/large"] = lambda r: r.reply(LARGE)
        server.routes["/small"] = lambda r: r.reply(b"small")
        large, small = fetcher.fetch_many([server.url("/large"), server.url("/small")])
        assert (large.reason, small.status) == ("shard.write_failed", "ok")
