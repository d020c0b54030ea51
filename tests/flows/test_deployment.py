"""`infra/prefect.yaml` on a real Prefect server, as infra/README.md says: deployed, scheduled, picked up by a worker.

It also guards the pins: with a newer fastapi the server does not start, with a newer SQLAlchemy its scheduler never
inserts a run, and nothing else tells.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.store import Store
from tests.flows.conftest import (
    ROOT,
    TRAINING,
    Crawl,
    Held,
    descendants,
    end_process,
    last_record,
    stage_names,
    wait_for,
)
from tests.flows.prefect_server import PREFECT, Server

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(280)]


@pytest.fixture(scope="module", autouse=True)
def _the_server_ends_here(server: Server) -> Iterator[None]:
    """No later file needs it: where one does, another is started."""
    yield
    server.end()


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
