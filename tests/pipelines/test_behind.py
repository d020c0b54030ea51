"""Rows finished behind the fetching thread: all of them, in order, within a bound, and errors reach the caller."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipelines.behind import MAX_TOGETHER, MAX_TOGETHER_BYTES, Behind, Row
from pipelines.fetched import Fetched


def row(number: int, body: bytes | None = None) -> Fetched:
    return Fetched(f"http://x/{number}", body=body)


def test_every_row_is_finished_in_order_on_the_other_thread() -> None:
    done: list[tuple[int, str]] = []

    def finish(rows: Sequence[Row]) -> None:
        done.extend((index, threading.current_thread().name) for index, _ in rows)

    with Behind(finish) as behind:
        for number in range(130):
            behind.put(number, row(number))
    assert [index for index, _ in done] == list(range(130))
    assert all(name.startswith("decode") for _, name in done)


def test_as_many_as_wait_are_finished_together_up_to_a_limit(tmp_path: Path) -> None:
    has_begun, may_go_on = threading.Event(), threading.Event()
    groups: list[list[int]] = []

    def finish(rows: Sequence[Row]) -> None:
        groups.append([index for index, _ in rows])
        has_begun.set()
        assert may_go_on.wait(10)

    file = tmp_path / "body"
    with file.open("wb") as sparse:
        sparse.truncate(MAX_TOGETHER_BYTES)
    with Behind(finish) as behind:
        behind.put(0, row(0))
        assert has_begun.wait(10)
        for number in range(1, MAX_TOGETHER + 3):
            behind.put(number, row(number))
        behind.put(100, Fetched("http://x/", body_path=file))
        behind.put(101, row(101))
        may_go_on.set()
    assert groups == [[0], list(range(1, MAX_TOGETHER + 1)), [MAX_TOGETHER + 1, MAX_TOGETHER + 2, 100], [101]]


def test_it_is_full_until_the_bytes_are_done() -> None:
    may_go_on, is_done = threading.Semaphore(0), threading.Semaphore(0)
    rows = [row(number, b"x" * 100) for number in range(3)]

    def finish(rows: Sequence[Row]) -> None:
        for _ in rows:
            may_go_on.acquire()
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

    def finish(rows: Sequence[Row]) -> None:
        for index, _ in rows:
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

    def finish(rows: Sequence[Row]) -> None:
        has_begun.set()
        may_end.wait(10)
        done.extend(index for index, _ in rows)

    def use() -> None:
        with Behind(finish) as behind:
            behind.put(0, row(0))
            has_begun.wait(10)
            behind.put(1, Fetched("http://x/", body_path=path))
            threading.Timer(0.05, may_end.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        use()
    assert done == [0]
    assert not path.exists()
