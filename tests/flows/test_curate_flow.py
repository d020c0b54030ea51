"""The flow `curate` on a real Prefect server: what Prefect shows of it and how it fails."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect import get_client
from prefect.artifacts import Artifact
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from flows.curate import completed_since, curate, records, run_flow
from flows.main_job import Options, running, steps
from pipelines.outage import Outage
from pipelines.store import Store
from pipelines.yaml_place import RecipeError
from tests.flows.conftest import Crawl, free_port, last_record, stage_names, wait_for
from tests.flows.prefect_server import Server

pytestmark = [pytest.mark.prefect, pytest.mark.timeout(280)]


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
    done = curate(**arguments(crawl, store))
    shown = capsys.readouterr().out.splitlines()
    assert any(line.startswith("pack: version tiny-") for line in shown)

    record = last_record(store)
    assert record["outcome"] == "complete"
    assert done == {"recipe": "tiny", "stages": record["stages"]}
    assert completed_since(store, []) == done
    assert completed_since(store, records(store)) is None

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
    with pytest.raises(ValueError, match=r"broken\.parquet"):
        curate(**{**arguments(crawl, store), "links": [str(links)]})
    assert newest_run().state_name == "Failed"
    assert last_record(store)["outcome"] == "failed"
    assert completed_since(store, []) is None
    kept = [json.loads(path.read_text()) for path in prefect_results.iterdir()]
    assert kept  # the exception's text
    said = ("broken.parquet", "typo.yaml", "empty path")
    assert all(any(words in str(each) for words in said) for each in kept)  # and none is a pickle


@pytest.mark.usefixtures("prefect_results")
def test_an_outage_fails_the_run(crawl: Crawl, tmp_path: Path) -> None:
    """Nobody answers: the operator sees a run that failed, and why."""
    links, port = tmp_path / "links.csv", free_port()
    pairs = [f"http://127.0.0.1:{port}/{number}.png,a picture,en,train" for number in range(20)]
    links.write_text("\n".join(["url,caption,language,split", *pairs]) + "\n")
    store = tmp_path / "store"
    with pytest.raises(Outage, match="of 20 links"):
        curate(**{**arguments(crawl, store), "links": [str(links)]})
    run = newest_run()
    assert run.state_name == "Failed"
    assert run.state is not None
    assert "outage: of 20 links that were asked for, 20 were not reached" in str(run.state.message)
    assert last_record(store)["outcome"] == "outage"
    with Store.open(store).locked():
        pass


@pytest.mark.parametrize("lost", [httpx.ConnectError("no route"), ObjectNotFound(Exception("no such flow run"))])
@pytest.mark.parametrize("outcome", ["complete", "failed"])
def test_a_run_that_prefect_forgot_is_what_its_store_says(
    lost: Exception, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server went away, or came back with an empty database; an older record is from before the clock was set."""
    runs = tmp_path / "store" / "runs"
    runs.mkdir(parents=True)

    def write(name: str, ended: str) -> None:
        content = {"recipe": "r", "stages": [{"stage": name}], "outcome": ended}
        (runs / f"{name}.json").write_text(json.dumps(content))

    def flow(**_: object) -> None:
        write("2026", outcome)
        raise lost

    write("2039", "complete")
    os.utime(runs / "2039.json", (2**31, 2**31))
    monkeypatch.setattr("flows.curate.curate", flow)
    options = Options(tmp_path / "r.yaml", tmp_path / "store")
    if outcome == "complete":
        assert run_flow(options) == {"recipe": "r", "stages": [{"stage": "2026"}]}
        assert "warning: Prefect was lost" in capsys.readouterr().out
    else:
        with pytest.raises(type(lost)):
            run_flow(options)
