"""Rows finished behind the fetching thread: all of them, in order, within a bound, and errors reach the caller."""

import threading
from pathlib import Path

import pytest

from pipelines.behind import Behind
from pipelines.fetched import Fetched


def row(number: int, body: bytes | None = None) -> Fetched:
    return Fetched(f"http://x/{number}", body=body)


def test_every_row_is_finished_in_order_on_the_other_thread() -> None:
    done: list[tuple[int, str]] = []
    with Behind(lambda index, _: done.append((index, threading.current_thread().name))) as behind:
        for number in range(13):
            behind.put(number, row(number))
    assert [index for index, _ in done] == list(range(13))
    assert all(name.startswith("decode") for _, name in done)


def test_it_is_full_until_the_bytes_are_done() -> None:
    may_go_on, is_done = threading.Semaphore(0), threading.Semaphore(0)
    rows = [row(number, b"x" * 100) for number in range(3)]

    def finish(_: int, fetched: Fetched) -> None:
        may_go_on.acquire()
        fetched.drop_body()
        is_done.release()

    with Behind(finish, max_waiting_bytes=150) as behind:
        assert not behind.is_full(1000)  # nothing is known of them
        for number, each in enumerate(rows):
            behind.put(number, each)
        assert behind.is_full(0)
        may_go_on.release(3)
        for _ in rows:
            is_done.acquire()
        behind.put(3, row(3))
        may_go_on.release()
        is_done.acquire()
        assert not behind.is_full(2)  # expected: (300 + 0) / 4 bytes each
        assert behind.is_full(3)


def test_an_error_stops_it_and_reaches_the_caller(tmp_path: Path) -> None:
    bodies = [tmp_path / str(number) for number in range(3)]
    done: list[int] = []

    def finish(index: int, _: Fetched) -> None:
        if index == 1:
            raise OSError("row 1")
        done.append(index)

    def use() -> None:
        with Behind(finish) as behind:
            for number, path in enumerate(bodies):
                path.write_bytes(b"large")
                behind.put(number, Fetched("http://x/", body_path=path))
            while not behind.is_full(0):  # never is: it raises
                pass

    with pytest.raises(OSError, match="row 1"):
        use()
    assert done == [0]
    assert not any(path.exists() for path in bodies)


def test_an_interrupt_drops_what_waits(tmp_path: Path) -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    path = tmp_path / "body"
    path.write_bytes(b"large")
    done: list[int] = []

    def finish(index: int, _: Fetched) -> None:
        has_begun.set()
        may_end.wait(10)
        done.append(index)

    def use() -> None:
        with Behind(finish) as behind:
            behind.put(0, row(0))
            behind.put(1, Fetched("http://x/", body_path=path))
            has_begun.wait(10)
            threading.Timer(0.05, may_end.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert done == [0]
    assert not path.exists()
