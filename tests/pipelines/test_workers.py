"""Workers: each part a bounded number of times, failures by name, nothing left behind."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.workers import ATTEMPTS, AddressError, PartFailed, RayWorkers, SerialWorkers, Task, make_workers


def square(number: int) -> dict[str, Any]:
    return {"square": number * number, "pid": os.getpid()}


def fails(error: type[BaseException], log: str = "") -> dict[str, Any]:
    if log:
        with open(log, "a") as file:
            file.write("x")
    raise error("of this part")


def note(log: str) -> int:
    """How many times this was called with `log`, this time included."""
    with open(log, "a") as file:
        file.write("x")
    return os.path.getsize(log)


def dies(log: str, times: int) -> dict[str, Any]:
    if note(log) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"tries": os.path.getsize(log)}


def meets(folder: str) -> dict[str, Any]:
    """How many processes are here at a time: each waits for a second one."""
    (Path(folder) / str(os.getpid())).touch()
    end = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    return {"processes": len(list(Path(folder).iterdir()))}


def full_disk(log: str, times: int) -> dict[str, Any]:
    if note(log) <= times:
        raise OSError(28, "No space left on device")
    return {"tries": os.path.getsize(log)}


def squares(count: int) -> list[Task]:
    return [Task(f"square of {i}", square, {"number": i}) for i in range(count)]


def test_serial_runs_in_order_in_this_process() -> None:
    done = list(SerialWorkers().run(squares(4)))
    assert [(task.name, result["square"]) for task, result in done] == [(f"square of {i}", i * i) for i in range(4)]
    assert {result["pid"] for _, result in done} == {os.getpid()}


@pytest.mark.parametrize("error", [ValueError, OSError, RuntimeError, MemoryError, TypeError, KeyError])
def test_serial_names_the_part_and_the_cause(error: type[Exception]) -> None:
    tasks = [*squares(1), Task("download of part 7", fails, {"error": error}), *squares(1)]
    done = []
    with pytest.raises(PartFailed, match=f"download of part 7: {error.__name__}: .*of this part") as caught:
        done += [task.name for task, _ in SerialWorkers().run(tasks)]
    assert isinstance(caught.value.__cause__, error)


def test_addresses() -> None:
    assert isinstance(make_workers("serial"), SerialWorkers)
    for address in ("local", "auto", "ray://head:10001"):
        assert isinstance(make_workers(address), RayWorkers)
    for wrong in ("", "loca", "head:6379", "tcp://x"):
        with pytest.raises(AddressError, match="valid are serial, local, auto"):
            make_workers(wrong)


def test_a_pool_that_was_not_used_starts_nothing() -> None:
    workers = RayWorkers("local", count=2)
    assert list(workers.run([])) == []
    workers.close()
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()


def mine(*_: object) -> None:
    """A handler of SIGTERM; Ray would put its own in its place."""


@pytest.fixture(scope="module")
def pool() -> Iterator[RayWorkers]:
    before = signal.signal(signal.SIGTERM, mine)
    workers = RayWorkers("local", count=2)
    yield workers
    workers.close()
    assert signal.signal(signal.SIGTERM, before) is mine


@pytest.mark.ray
@pytest.mark.timeout(180)
class TestRay:
    """One local Ray for all of them."""

    def test_all_parts_on_several_processes(self, pool: RayWorkers, tmp_path: Path) -> None:
        tasks = [Task(f"meeting {i}", meets, {"folder": str(tmp_path)}) for i in range(2)]
        assert [result for _, result in pool.run(tasks)] == [{"processes": 2}] * 2
        done = list(pool.run(squares(12)))
        assert Counter(task.name for task, _ in done) == Counter(f"square of {i}" for i in range(12))
        assert os.getpid() not in {result["pid"] for _, result in done}

    def test_sigterm_is_still_ours(self, pool: RayWorkers) -> None:
        list(pool.run(squares(1)))
        assert signal.getsignal(signal.SIGTERM) is mine

    def test_a_killed_worker_is_replaced(self, pool: RayWorkers, tmp_path: Path) -> None:
        deadly = Task("deadly", dies, {"log": str(tmp_path / "log"), "times": 1})
        done = {task.name: result for task, result in pool.run([*squares(3), deadly, *squares(3)])}
        assert done["deadly"] == {"tries": 2}
        assert len(done) == 4

    def test_no_task_waits_with_a_worker_that_has_no_place(self, pool: RayWorkers) -> None:
        """As after the loss of a node: the pool holds a CPU, so one of the workers that take one each cannot start."""
        list(pool.run(squares(4)))
        cpus = int(pool._cluster()["CPU"])
        if cpus < 2:
            pytest.skip("no place for any")
        crowd = RayWorkers("auto", count=cpus)
        try:
            assert len(list(crowd.run(squares(3 * cpus)))) == 3 * cpus
        finally:
            crowd.close()

    def test_the_deaths_of_one_part_are_not_held_against_others(self, pool: RayWorkers, tmp_path: Path) -> None:
        # more deaths than two actors with three restarts each would survive
        tasks = [Task(f"deadly {i}", dies, {"log": str(tmp_path / str(i)), "times": 2}) for i in range(4)]
        assert {task.name: result["tries"] for task, result in pool.run(tasks)} == {f"deadly {i}": 3 for i in range(4)}

    def test_a_part_that_always_kills_fails_by_name_and_the_others_are_kept(
        self, pool: RayWorkers, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        deadly = Task("score of part 3", dies, {"log": str(log), "times": 99})
        done: list[str] = []
        with pytest.raises(PartFailed, match=f"score of part 3: its worker died {ATTEMPTS} times"):
            done.extend(task.name for task, _ in pool.run([*squares(2), deadly]))
        assert log.stat().st_size == ATTEMPTS
        assert sorted(done) == ["square of 0", "square of 1"]
        assert len(list(pool.run(squares(4)))) == 4  # and the pool is as good as new

    def test_a_full_disk_is_tried_again(self, pool: RayWorkers, tmp_path: Path) -> None:
        task = Task("full", full_disk, {"log": str(tmp_path / "log"), "times": 2})
        assert [result for _, result in pool.run([task])] == [{"tries": 3}]
        with pytest.raises(PartFailed, match=r"full: OSError: .*No space left"):
            list(pool.run([Task("full", full_disk, {"log": str(tmp_path / "two"), "times": 99})]))

    def test_a_mistake_is_not_tried_again(self, pool: RayWorkers, tmp_path: Path) -> None:
        log = tmp_path / "log"
        with pytest.raises(PartFailed, match="wrong: ValueError: of this part"):
            list(pool.run([Task("wrong", fails, {"error": ValueError, "log": str(log)})]))
        assert log.stat().st_size == 1
