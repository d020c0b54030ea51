"""Workers: our own loop over parts, in this process or on Ray actors.

Ray Data merges, renames and doubles parts, and retries a crash without end; this loop runs one call a part, keeps a
bounded number in flight, tries each a bounded number of times and reports which part failed. Exactly-once comes from
write-once parts, not from Ray's view of a node.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.ray_sessions import remove_old_sessions, session_folder

log = logging.getLogger(__name__)
ATTEMPTS = 3
"""Times a part is tried before the run fails: two lost workers in a row are bad luck, three are the part's doing."""
LOCAL_CPUS = 0.5
"""CPUs that a worker reserves of a local Ray. Workers that reserve all of them starve, without a word, whatever else is
to start there; there are no more workers than CPUs anyway."""
MAX_DECODERS = 32
"""Of one worker: what a GPU with the fastest of the usual models takes (about 10,000 pictures of web size a second)."""
NOTICE_S = 600
"""Seconds without the end of any task after which that is said; the longest download 100,000 rows (5 minutes)."""
OBJECT_STORE_BYTES = 200_000_000
"""Only arguments and statistics pass through Ray's object store; media go through files."""


@dataclass(frozen=True)
class Task:
    """One call for one part: `call(**arguments)` returns a small dictionary of statistics."""

    name: str
    call: Callable[..., dict[str, Any]]
    arguments: dict[str, Any] = field(default_factory=dict)
    needs_model: bool = False


class PartFailed(RuntimeError):
    """A part that could not be done, by name, with its cause."""


class AddressError(ValueError):
    """An address that names no kind of workers; the message names the valid ones."""


class Workers(Protocol):
    """Something that runs tasks; results come in any order."""

    @property
    def count(self) -> int:
        """How many tasks without a model run at a time."""

    @property
    def num_gpus(self) -> int:
        """How many workers for tasks with a model hold a GPU."""

    def num_decoders(self, needs_model: bool) -> int:
        """How many decoder processes keep one worker busy."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Run all tasks, yielding each with its result. Raises PartFailed after the others in flight have ended."""

    def close(self) -> None:
        """Let the workers go."""


class SerialWorkers:
    """Everything in this process, one part after the other: for tests, tiny pools and debugging."""

    count = 1
    num_gpus = 0

    def num_decoders(self, needs_model: bool) -> int:  # noqa: ARG002
        return max(1, os.cpu_count() or 1)

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:
        for task in tasks:
            try:
                result = task.call(**task.arguments)
            except (RuntimeError, OSError, ValueError, MemoryError, TypeError, KeyError) as error:
                raise PartFailed(f"{task.name}: {type(error).__name__}: {error}") from error
            yield task, result

    def close(self) -> None:
        pass


class RayWorkers:
    """A pool of Ray actors, one call at a time each; started at the first task, so a run that reuses all starts none.

    `address`: `local` starts Ray in this machine for this run alone; `auto` or a `ray://host:port` joins a cluster.
    """

    def __init__(self, address: str = "local", count: int | None = None) -> None:
        self.address = address
        self._wanted = count
        self._started_ray = False
        self._actors: dict[bool, list[Any]] = {}

    @property
    def count(self) -> int:
        """Workers for tasks without a model."""
        if self._wanted is not None:
            return self._wanted
        return max(1, os.cpu_count() or 1) if self.address == "local" else max(1, int(self._cluster().get("CPU", 1)))

    def _cluster(self) -> dict[str, float]:
        self._start()
        import ray

        return dict(ray.cluster_resources())

    @property
    def num_gpus(self) -> int:
        """Of the cluster; of this machine by its device files, so that nothing is started to find that it has none."""
        if self.address == "local" and not any(Path("/dev").glob("nvidia[0-9]*")):
            return 0
        return int(self._cluster().get("GPU", 0))

    def num_decoders(self, needs_model: bool) -> int:
        """One beside each worker that has a CPU of its own; those with a GPU share all CPUs among them."""
        if not needs_model or self.num_gpus == 0:
            return 1
        return max(1, min(MAX_DECODERS, int(self._cluster().get("CPU", 1)) // self.num_gpus))

    def _start(self) -> None:
        self._started_ray = start_ray(self.address) or self._started_ray

    def _pool(self, needs_model: bool) -> list[Any]:
        """The actors for a kind of task. Where there are GPUs, model tasks get actors that hold one each."""
        self._start()
        gpus = self.num_gpus if needs_model else 0
        kind = needs_model and gpus > 0
        if kind not in self._actors:
            self._actors[kind] = [self._actor(num_gpus=1 if kind else 0) for _ in range(gpus if kind else self.count)]
        return self._actors[kind]

    def _actor(self, num_gpus: int) -> Any:
        import ray

        # our own loop tries tasks again, a bounded number of times; in Ray's libraries the default is without end
        # a worker with a GPU reserves no CPU: on a cluster those without one hold all of them
        cpus = 0 if num_gpus else LOCAL_CPUS if self.address == "local" else 1
        options = {"num_cpus": cpus, "num_gpus": num_gpus, "max_restarts": 0, "max_task_retries": 0}
        return ray.remote(_PartWorker).options(**options).remote()

    def _replaced(self, lost: Any) -> Any:
        """A new actor in the place of one that is gone, so that one part's deaths are not held against other parts."""
        import ray

        (kind,) = [kind for kind, pool in self._actors.items() if any(actor is lost for actor in pool)]
        actor = self._actor(num_gpus=1 if kind else 0)
        self._actors[kind] = [actor if each is lost else each for each in self._actors[kind]]
        ray.kill(lost)  # it may live and only have lost contact
        return actor

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, dict[str, Any]]]:
        for kind in (False, True):
            some = [task for task in tasks if task.needs_model == kind]
            if some:
                yield from _Round(some, self._pool(kind), self._replaced).results()

    def close(self) -> None:
        if not self._actors and not self._started_ray:
            return  # Ray was not needed: to import it takes half a second
        import ray

        for actor in (actor for pool in self._actors.values() for actor in pool):
            ray.kill(actor)
        self._actors = {}
        if self._started_ray:
            ray.shutdown()
            self._started_ray = False


class _Round:
    """Tasks of one kind on their actors: which tasks wait, which run where, and which actors are not ready yet."""

    def __init__(self, tasks: Sequence[Task], actors: Sequence[Any], replaced: Callable[[Any], Any]) -> None:
        """replaced: gives a new actor in the place of one that is gone."""
        self._waiting = [(task, 1) for task in reversed(tasks)]
        self._idle: list[Any] = []
        # where a node is lost, its workers' successors may wait for a place for ever: no task waits with them
        self._starting = {actor.ready.remote(): actor for actor in actors}
        self._running: dict[Any, tuple[Task, int, Any]] = {}
        self._replaced = replaced
        self._starts_left = ATTEMPTS * len(actors)
        self._failure: PartFailed | None = None

    def results(self) -> Iterator[tuple[Task, dict[str, Any]]]:
        """Each task with its result. Raises PartFailed once those in flight have ended."""
        import ray

        while self._running or (self._waiting and self._failure is None):
            while self._waiting and self._idle and self._failure is None:
                task, attempt = self._waiting.pop()
                actor = self._idle.pop()
                self._running[actor.run.remote(task.call, task.arguments)] = (task, attempt, actor)
            ended, _ = ray.wait([*self._running, *self._starting], num_returns=1, timeout=NOTICE_S)
            if not ended:
                name = next((task.name for task, _, _ in self._running.values()), "none is running")
                log.warning("no task has ended for %d s (%s ...): long ones, or no free CPUs", NOTICE_S, name)
            elif ended[0] in self._starting:
                self._started(ended[0])
            elif (done := self._ended(ended[0])) is not None:
                yield done
        if self._failure is not None:
            raise self._failure

    def _started(self, reference: Any) -> None:
        """An actor is ready, or its process could not be started."""
        import ray

        actor = self._starting.pop(reference)
        try:
            ray.get(reference)
        except ray.exceptions.RayError as error:
            self._starts_left -= 1
            if self._starts_left > 0:
                self._replace(actor)
            elif not (self._idle or self._running or self._starting):
                self._failure = PartFailed(f"{self._waiting[-1][0].name}: no worker starts: {error}")
        else:
            self._idle.append(actor)

    def _replace(self, actor: Any) -> None:
        successor = self._replaced(actor)
        self._starting[successor.ready.remote()] = successor

    def _ended(self, reference: Any) -> tuple[Task, dict[str, Any]] | None:
        """A task with its result; None where it failed and is tried again, or nothing more is begun because of it."""
        import ray

        task, attempt, actor = self._running.pop(reference)
        try:
            result = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            self._idle.append(actor)
            cause = error.cause if error.cause is not None else error
            if isinstance(cause, OSError) and attempt < ATTEMPTS:
                self._waiting.append((task, attempt + 1))
            else:
                self._failure = PartFailed(f"{task.name}: {type(cause).__name__}: {cause}")
                self._failure.__cause__ = error
        except ray.exceptions.RayError as error:
            # the worker's process is gone (killed, out of memory, its node lost): a new one tries the part again
            self._replace(actor)
            if attempt >= ATTEMPTS:
                self._failure = PartFailed(f"{task.name}: its worker died {attempt} times: {error}")
            self._waiting.append((task, attempt + 1))
        else:
            self._idle.append(actor)
            return task, result
        return None


class _PartWorker:
    """The actor: a process that keeps models, decoder and connections between parts."""

    def ready(self) -> None:
        """Returns once there is a process."""

    def run(self, call: Callable[..., dict[str, Any]], arguments: dict[str, Any]) -> dict[str, Any]:
        return call(**arguments)


def start_ray(address: str) -> bool:
    """Start or join Ray unless this process has it already; returns whether it did.

    Puts the process's SIGTERM handler back, which Ray replaces (Prefect cancels with SIGTERM). A local Ray serves this
    process alone, so it needs no token; in its default mode it would write one, readable by all, into the home folder.
    """
    if address == "local":  # Ray reads these when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        return False
    previous = signal.getsignal(signal.SIGTERM)
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address == "local":
        remove_old_sessions(session_folder())
        options |= {
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            "_temp_dir": str(session_folder()),
        }
    ray.init(address=address, **options)
    with contextlib.suppress(ValueError):  # not in the main thread: Ray left the handler alone
        signal.signal(signal.SIGTERM, previous)
    return True


def make_workers(address: str) -> Workers:
    """Workers for `serial`, `local`, `auto` or a `ray://host:port`. Raises AddressError for anything else."""
    if address == "serial":
        return SerialWorkers()
    if address in ("local", "auto") or address.startswith("ray://"):
        return RayWorkers(address)
    raise AddressError(
        f"--address {address!r}: valid are serial, local, auto, ray://HOST:PORT and http://HOST:PORT (a job)"
    )
