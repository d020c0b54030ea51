"""On a real Prefect server: the flow `curate`, what Prefect shows of it and how it fails; and `infra/prefect.yaml`, as
infra/README.md says: deployed, scheduled, picked up by a worker.

It also guards the pins: with a newer fastapi the server does not start, with a newer SQLAlchemy its scheduler never
inserts a run, and nothing else tells.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import get_client
from prefect.artifacts import Artifact
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from flows.curate import completed_since, curate
from flows.main_job import Options, running, steps
from pipelines.store import Store
from pipelines.yaml_place import RecipeError
from tests.flows.conftest import (
    ROOT,
    TRAINING,
    Crawl,
    Held,
    descendants,
    end_process,
    environment,
    free_port,
    last_record,
    stage_names,
    wait_for,
)

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(280)]
PREFECT = str(Path(sys.executable).with_name("prefect"))
SERVER_START_S = 120.0
PROMPT = {
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
"""Seconds after which the server writes down what it would else write down after 5: the tests wait for it.
Whole ones: of less it makes 0, and is busy all the time."""


@dataclass(frozen=True)
class Server:
    """A running server: its API's address, the environment of its clients, and the process."""

    api: str
    variables: dict[str, str]
    process: "subprocess.Popen[bytes]"

    def ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> Any:
        answer = httpx.request(method, f"{self.api}{path}", json=content, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def prefect(self, *words: str, **variables: str) -> str:
        """The command `prefect`; fails the test where it fails."""
        done = subprocess.run(
            [PREFECT, *words],
            env={**self.variables, **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"prefect {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def runs(self, deployment: str, kind: str) -> list[dict[str, Any]]:
        """Runs of a deployment whose state is of a type such as SCHEDULED, the soonest first."""
        wanted = {
            "deployments": {"id": {"any_": [self.ask("GET", f"/deployments/name/{deployment}")["id"]]}},
            "flow_runs": {"state": {"type": {"any_": [kind]}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        return list(self.ask("POST", "/flow_runs/filter", wanted))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home, port = tmp_path_factory.mktemp("prefect"), free_port()
    api = f"http://127.0.0.1:{port}/api"
    variables = environment(PREFECT_HOME=str(home), PREFECT_API_URL=api, COLUMNS="200", **PROMPT)
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"],
            env=variables,
            cwd=home,
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def answers() -> bool:
        assert process.poll() is None, (home / "server.log").read_text()
        try:
            return httpx.get(f"{api}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        wait_for("the Prefect server", answers, SERVER_START_S)
        yield Server(api, variables, process)
    finally:
        end_process(process)


@pytest.fixture(scope="module")
def prefect_results(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Flows that are called here are runs of that server; gives the folder where Prefect would keep results."""
    storage = tmp_path_factory.mktemp("results")
    with temporary_settings({PREFECT_API_URL: server.api, PREFECT_LOCAL_STORAGE_PATH: storage}):
        yield storage


def arguments(crawl: Crawl, store: Path) -> dict[str, Any]:
    return {
        "recipe": str(crawl.recipe),
        "store": str(store),
        "links": [str(crawl.links)],
        "allow_net": ["127.0.0.0/8"],
        "address": "serial",
    }


def newest_run() -> FlowRun:
    with get_client(sync_client=True) as client:
        called = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(is_null_=True))
        return client.read_flow_runs(flow_run_filter=called, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=1)[0]


def test_one_task_a_step_and_the_tables(
    crawl: Crawl, prefect_results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    began = time.time()
    done = curate(**arguments(crawl, store))
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("pack: version tiny-") for line in shown)

    record = last_record(store)
    assert record["outcome"] == "complete"
    assert done == {"recipe": "tiny", "stages": record["stages"]}
    assert completed_since(store, began) == done
    assert completed_since(store, time.time() + 60) is None

    run = newest_run()
    assert run.state_name == "Completed"
    again = Options(crawl.recipe, store, (crawl.links,), None, ("127.0.0.0/8",), "serial")
    with running(again, lambda _: None) as opened:
        names = [step.name for step in steps(opened, "serial")]
    assert names == ["ingest", "download", "score", "dedupe", "select", "pack", "audit"]

    def tasks() -> list[str]:
        chosen = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(flow_run_filter=chosen)
        ended = sorted((each for each in found if each.state_name == "Completed"), key=lambda each: each.end_time or 0)
        return [each.name.rpartition("-")[0] for each in ended]

    # Prefect writes them down some seconds later
    wait_for("the task runs", lambda: len(tasks()) == len(names), 40, every=1)
    assert tasks() == names

    stages = Artifact.get("stages-tiny")
    assert stages is not None
    rows = json.loads(str(stages.data))
    assert [row["stage"] for row in rows] == stage_names(record)
    assert json.loads(rows[0]["counts"])["links_read"] == crawl.counts["rows"]
    funnel = Artifact.get("funnel-tiny")
    assert funnel is not None
    left = [row["texts_left"] for row in json.loads(str(funnel.data))]
    assert left[0] == crawl.counts["rows"]
    assert left == sorted(left, reverse=True)
    assert left[0] > left[-1] > 0

    assert not list(prefect_results.iterdir())


@pytest.mark.usefixtures("prefect_results")
def test_a_recipe_that_cannot_run_fails_the_flow_before_anything_is_made(crawl: Crawl, tmp_path: Path) -> None:
    recipe = tmp_path / "typo.yaml"
    recipe.write_text(crawl.recipe.read_text().replace("text_clean is not null", "text_cleen is not null"))
    with pytest.raises(RecipeError, match="text_cleen"):
        curate(**{**arguments(crawl, tmp_path / "store"), "recipe": str(recipe)})
    run = newest_run()
    assert run.state_name == "Failed"
    assert run.state is not None
    assert "typo.yaml" in str(run.state.message)
    assert not (tmp_path / "store").exists()


@pytest.mark.usefixtures("prefect_results")
@pytest.mark.parametrize("empty", [{"store": ""}, {"links": [""]}])
def test_an_empty_path_is_not_the_present_folder(crawl: Crawl, tmp_path: Path, empty: dict[str, Any]) -> None:
    """What a deployment holds whose variables were not set."""
    with pytest.raises(RecipeError, match=f"'{next(iter(empty))}' has an empty path.*TAMIS_STORE"):
        curate(**{**arguments(crawl, tmp_path / "store"), **empty})


def test_a_stage_that_fails_fails_the_run(crawl: Crawl, prefect_results: Path, tmp_path: Path) -> None:
    links = tmp_path / "broken.parquet"
    links.write_bytes(b"PAR1 this is none")
    store = tmp_path / "store"
    began = time.time()
    with pytest.raises(ValueError, match=r"broken\.parquet"):
        curate(**{**arguments(crawl, store), "links": [str(links)]})
    assert newest_run().state_name == "Failed"
    assert last_record(store)["outcome"] == "failed"
    assert completed_since(store, began) is None
    kept = [json.loads(path.read_text()) for path in prefect_results.iterdir()]
    assert kept  # the exception's text
    said = ("broken.parquet", "typo.yaml", "empty path")
    assert all(any(words in str(each) for words in said) for each in kept)  # and none is a pickle


@pytest.fixture(scope="module")
def deployed(server: Server, crawl: Crawl, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """Deployed as the README says. The default store is not used: the schedule's runs lie in the future."""
    server.prefect("work-pool", "create", "local-process", "--type", "process")
    server.prefect(
        *("--no-prompt", "deploy", "--all", "--prefect-file", "infra/prefect.yaml"),
        TAMIS_HOME=str(ROOT),
        TAMIS_STORE=str(tmp_path_factory.mktemp("default") / "store"),
        TAMIS_LINKS=str(crawl.links),
    )
    return server


@pytest.fixture(scope="module")
def worker(deployed: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[bytes]"]:
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [PREFECT, "worker", "start", "--pool", "local-process", "--type", "process", "--name", "w1"],
            env={**deployed.variables, "PREFECT_WORKER_QUERY_SECONDS": "1"},  # 10 by default, which would be waited for
            cwd="/",
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    yield process
    end_process(process)
    print(log.read_text())  # pytest shows it where a test failed


def given(crawl: Crawl, store: Path, *links: Path, address: str = "local") -> list[str]:
    """The flow's parameters, as the command line takes them."""
    tables = ", ".join(f'"{path}"' for path in (crawl.links, *links))
    values = {"recipe": str(crawl.recipe), "store": str(store), "links": f"[{tables}]"}
    values |= {"allow_net": '["127.0.0.0/8"]', "address": address}
    return [word for name, value in values.items() for word in ("-p", f"{name}={value}")]


def test_the_schedule_inserts_runs(deployed: Server, crawl: Crawl) -> None:
    runs = wait_for("scheduled runs", lambda: deployed.runs("curate/nightly", "SCHEDULED"), 120, every=1)
    assert all("T03:00:00" in run["expected_start_time"] for run in runs)
    parameters = runs[0]["parameters"]
    assert parameters["recipe"] == "curation/recipes/image_text.yaml"
    assert parameters["links"] == [str(crawl.links)]
    assert parameters["store"].endswith("/store")
    assert deployed.runs("pretrain/latest", "SCHEDULED") == []


@pytest.mark.usefixtures("worker")
def test_a_worker_runs_curate_and_pretrain(deployed: Server, crawl: Crawl, tmp_path: Path) -> None:
    store = tmp_path / "store"
    deployed.prefect("deployment", "run", "curate/nightly", "--watch", *given(crawl, store, address="serial"))
    record = last_record(store)
    assert record["outcome"] == "complete"
    assert stage_names(record) == ["ingest", "download", "score", "dedupe", "select", "pack"]
    assert record["stages"][0]["counts"]["links_read"] == crawl.counts["rows"]
    (run,) = deployed.runs("curate/nightly", "COMPLETED")
    wanted = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "limit": 200}
    logged = wait_for("the log", lambda: [each["message"] for each in deployed.ask("POST", "/logs/filter", wanted)], 20)
    assert "ingest ..." in logged

    config = tmp_path / "tiny.yaml"
    config.write_text(TRAINING)
    chosen = ["-p", f"config={config}", "-p", f"store={store}", "-p", "address=serial"]
    deployed.prefect("deployment", "run", "pretrain/latest", "--watch", *chosen)
    (trained,) = (store / "models").glob("tiny-*/result.json")
    assert json.loads(trained.read_text())["num_steps"] == 2
    wanted = {"artifacts": {"key": {"like_": "figures-tiny-"}}}
    (figures,) = deployed.ask("POST", "/artifacts/filter", wanted)
    assert {row["suite"] for row in json.loads(figures["data"])} == {"held_out_pictures"}


@pytest.mark.slow
def test_cancelling_ends_the_workers_and_frees_the_store(
    deployed: Server, worker: "subprocess.Popen[bytes]", crawl: Crawl, held: Held, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    said = deployed.prefect("deployment", "run", "curate/nightly", *given(crawl, store, held.links))
    found = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", said)
    assert found is not None, said
    wait_for("the download", held.server.asked.is_set, 90)
    running = descendants(worker.pid)
    assert len(running) > 3  # the flow's process and its Ray
    deployed.prefect("flow-run", "cancel", found[0])

    def state() -> str:
        return str(deployed.ask("GET", f"/flow_runs/{found[0]}")["state"]["type"])

    wait_for("cancelled", lambda: state() == "CANCELLED", 60)
    wait_for("its processes are gone", lambda: not set(running) & set(descendants(worker.pid)), 30)
    assert not [pid for pid in running if Path(f"/proc/{pid}").exists()]
    assert last_record(store)["outcome"] == "failed"
    with Store.open(store).locked():
        pass


@pytest.mark.slow
def test_a_lost_server_does_not_undo_what_is_done(server: Server, crawl: Crawl, held: Held, tmp_path: Path) -> None:
    """Last here: it kills the server."""
    store = tmp_path / "store"
    links = [word for path in (crawl.links, held.links) for word in ("--links", str(path))]
    where = ["--store", str(store), "--allow-net", "127.0.0.0/8", "--address", "serial"]
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(crawl.recipe), *links, *where],
        env={**server.variables, "PREFECT_CLIENT_MAX_RETRIES": "0"},  # 5 by default: two minutes of waiting
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_for("the download", held.server.asked.is_set, 60)
        for pid in (server.process.pid, *descendants(server.process.pid)):
            os.kill(pid, signal.SIGKILL)
        held.server.released.set()
        output, _ = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, output
    assert "warning: Prefect was lost" in output
    assert last_record(store)["outcome"] == "complete"
