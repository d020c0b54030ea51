"""The flow `curate`: the main job as Prefect sees it, one task for each step, so that it can be scheduled and watched.

Truth is the store; Prefect is a view of it. So nothing is retried here (parts are, where they run; what still fails is
a recipe's or a machine's doing, and running again continues), nothing is kept as a Prefect result (only the text of an
exception, as JSON: Prefect's default would be a pickle), and a Prefect server that is lost on the way does not undo
work that is done: see `run_flow`.
"""

from __future__ import annotations

import json
import queue
import signal
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from flows import server
from flows.main_job import Options, closing, running, steps
from pipelines.stage import Report, Run
from pipelines.summary import report_rows
from pipelines.views import open_store
from pipelines.yaml_place import RecipeError

server.prepare_environment()

import httpx  # noqa: E402
from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.events.worker import EventsWorker  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402


@flow(name="curate", persist_result=False, result_serializer="json")
def curate(
    recipe: str,
    store: str,
    links: list[str] | None = None,
    columns: str | None = None,
    allow_net: list[str] | None = None,
    address: str = "local",
    retry_failed: bool = False,
    refresh: bool = False,
) -> dict[str, Any]:
    """Run a recipe on a store, as `tamis run` does; returns the recipe's name and what each stage did.

    recipe, store, links: paths, relative to the deployment's folder; columns, allow_net, retry_failed, refresh: see
    `tamis run --help`.
    address: serial | local | auto | ray://HOST:PORT, or http://HOST:8265, where the whole run is one Ray job.
    """
    say = teller()
    check_given(recipe=recipe, store=store, links=links)
    nets = tuple(allow_net or ())
    options = Options(Path(recipe), Path(store), _paths(links), columns, nets, address, retry_failed, refresh)
    if address.startswith(("http://", "https://")):
        return as_task("ray job", lambda: _job(options, say))
    with running(options, say) as run:
        for step in steps(run, address):
            as_task(step.name, step.work)
        _publish(run, say)
        say(closing(run))
        return {"recipe": run.recipe.name, "stages": run.stages}


def run_flow(options: Options) -> dict[str, Any]:
    """The flow, from the command line: what it did. A Prefect server that is lost meanwhile costs a warning.

    Prefect raises at the flow's end where it cannot report it: after its own retries, some two minutes, or at once to a
    server that came back with an empty database. By then the store's record says how the run ended; a run that is
    complete there is complete.
    """
    server.check_home()
    before = records(options.store)
    try:
        return curate(
            recipe=str(options.recipe),
            store=str(options.store),
            links=[str(link) for link in options.links] or None,
            columns=options.columns,
            allow_net=list(options.allow_net) or None,
            address=options.address,
            retry_failed=options.retry_failed,
            refresh=options.refresh,
        )
    except (httpx.HTTPError, ObjectNotFound) as lost:
        _drop_events()
        done = completed_since(options.store, before)
        if done is None:
            raise
        print(f"warning: Prefect was lost ({type(lost).__name__}: {lost}); the run itself is complete", flush=True)
        return done


def _drop_events() -> None:
    """Forget what Prefect still wants to tell a server that is gone: at exit it would try for 7 s an event, minutes in
    all. There is no public way (3.8.8, which is pinned)."""
    for worker in tuple(EventsWorker._instances.values()):  # type: ignore[misc]
        with suppress(queue.Empty):
            while True:
                worker._queue.get_nowait()


def records(store: Path) -> set[Path]:
    """The records of the store's runs."""
    return set((store / "runs").glob("*.json"))


def completed_since(store: Path, before: Collection[Path]) -> dict[str, Any] | None:
    """What the run did whose record has come since there were those of `before`, if it is complete; else None.

    Which record is new is not asked of the clock: it may have been set back since an older one was written.
    """
    new = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(records(store) - set(before))]
    if not new or any(record["outcome"] != "complete" for record in new):
        return None
    return {"recipe": new[-1]["recipe"], "stages": new[-1]["stages"]}


def as_task(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do `work` as one Prefect task of that name; returns its counts."""

    @task(name=name, persist_result=False, result_serializer="json", cache_policy=NO_CACHE)
    def step() -> dict[str, Any]:
        with _terminable():
            return work()

    return step()


@contextmanager
def _terminable() -> Iterator[None]:
    """Makes SIGTERM end what runs inside, then hands it to the handler that was there, Prefect's, outside of Ray.

    Ray's blocking calls (2.60) let SystemExit and KeyboardInterrupt through; any other exception that a handler raises,
    such as Prefect's TerminationSignal, they keep to themselves until they return, and a cancelled run would go on.
    """
    theirs = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(theirs):
        yield
        return
    came = False

    def end(number: int, _: FrameType | None) -> None:
        nonlocal came
        came = True
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except SystemExit:
        if came:
            theirs(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, theirs)


def teller() -> Report:
    """Says a line on stdout and in the flow run's log."""
    log = get_run_logger()

    def say(line: str) -> None:
        print(line, flush=True)
        log.info("%s", line)

    return say


def artifact(key: str, rows: list[dict[str, Any]], description: str, say: Report) -> None:
    """Publish a table under `key` (its characters that Prefect does not take become dashes). A lost server is said."""
    shown = [{name: value if isinstance(value, int | float) else str(value) for name, value in r.items()} for r in rows]
    try:
        create_table_artifact(shown, key=key.lower().replace("_", "-"), description=description)
    except httpx.HTTPError as lost:
        say(f"warning: Prefect did not take the table {key} ({type(lost).__name__}: {lost})")


def _publish(run: Run, say: Report) -> None:
    """What each stage did, and the funnel of the last policy, as tables beside the flow run."""
    name = run.recipe.name
    stages = [{**stage, "counts": json.dumps(stage["counts"], default=str)} for stage in run.stages]
    artifact(f"stages-{name}", stages, f"What each stage of {name} did; store: {run.store.root}", say)
    funnel = report_rows(open_store(run.store, run.state), "funnel")
    artifact(f"funnel-{name}", funnel, f"Texts lost at each rule of {name}'s last policy, and what is left", say)


def _job(options: Options, say: Report) -> dict[str, Any]:
    from flows.jobs import submit

    status = submit(options, say)
    if status:
        raise RuntimeError(f"the Ray job ended with exit status {status}: see its last lines above")
    return {"recipe": options.recipe.name, "address": options.address}


def check_given(**parameters: str | list[str] | None) -> None:
    """Raises RecipeError, naming the parameter, where a path is empty: it would be read as the present folder."""
    for name, value in parameters.items():
        if value is not None and not all(each.strip() for each in ([value] if isinstance(value, str) else value)):
            raise RecipeError(
                f"the parameter {name!r} has an empty path ({value!r}): give one (-p {name}=...), or deploy again with "
                "TAMIS_HOME, TAMIS_STORE and TAMIS_LINKS exported, which infra/prefect.yaml reads"
            )


def _paths(names: list[str] | None) -> tuple[Path, ...]:
    return tuple(Path(name) for name in names or ())
