"""`tamis run --address http://...` on a real Ray cluster of one node, with a token."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

from flows.explained import HUNG_UP
from flows.jobs import JobError, _Lines, entrypoint, logical_id, submit
from flows.main_job import Options
from tests.flows.conftest import ROOT, Crawl, Held, environment, free_port, last_record, stage_names, wait_for

HEAD_START_S = 90.0


@dataclass(frozen=True)
class Head:
    address: str
    token: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment of somebody who may use it."""
        return environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=self.token)


def kill_all_of(temp_dir: Path) -> None:
    """SIGKILL the processes of the Ray that was started with this temporary folder, and no others: `ray stop` would
    end every Ray of the machine."""
    import psutil

    marker = str(temp_dir)
    ours = []
    for process in psutil.process_iter():
        try:
            if any(marker in word for word in process.cmdline()) or process.environ().get("TAMIS_TEST_RAY") == marker:
                ours.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    ours = [process for process in ours if process.pid != os.getpid()]
    for process in ours:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(ours, timeout=10)


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A cluster of this machine alone. Its temporary folder is short: Ray's sockets lie in it, and their names have a
    limit of 107 bytes."""
    temp_dir = Path(tempfile.mkdtemp(prefix="tr", dir="/tmp"))
    token = secrets.token_hex(16)
    dashboard = free_port()
    variables = environment(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token, TAMIS_TEST_RAY=str(temp_dir))
    first = 20000 + os.getpid() % 100 * 100
    command = [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--node-ip-address", "127.0.0.1"),
        *("--port", str(free_port()), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(dashboard)),
        # its default is the same for every Ray of a machine, and a Ray that does not get it takes no jobs
        *("--dashboard-agent-listen-port", str(free_port()), "--dashboard-agent-grpc-port", str(free_port())),
        *("--ray-client-server-port", str(free_port()), "--num-cpus", "2", "--object-store-memory", "150000000"),
        *("--min-worker-port", str(first), "--max-worker-port", str(first + 99)),
        *("--disable-usage-stats", "--temp-dir", str(temp_dir)),
    ]
    try:
        subprocess.run(command, env=variables, check=True, timeout=HEAD_START_S, stdout=subprocess.DEVNULL, cwd=ROOT)
        yield Head(f"http://127.0.0.1:{dashboard}", token)
    finally:
        kill_all_of(temp_dir)
        shutil.rmtree(temp_dir, ignore_errors=True)


def options(crawl: Crawl, store: Path, address: str) -> Options:
    return Options(crawl.recipe, store, (crawl.links,), None, ("127.0.0.0/8",), address)


def command(chosen: Options) -> list[str]:
    links = [word for link in chosen.links for word in ("--links", str(link))]
    where = ["--store", str(chosen.store), "--allow-net", "127.0.0.0/8", "--address", chosen.address]
    return [sys.executable, "-m", "flows.cli", "run", str(chosen.recipe), *links, *where]


def tamis(chosen: Options, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """The command, in a process of its own: Ray reads its variables once a process."""
    return subprocess.run(
        command(chosen), env=variables, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_command_runs_as_a_job_and_again_as_its_next_attempt(head: Head, crawl: Crawl, tmp_path: Path) -> None:
    chosen = options(crawl, tmp_path / "store", head.address)
    done = tamis(chosen, head.variables)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"job {logical_id(chosen)}-a1 submitted to {head.address}"
    assert any(line.startswith("pack: version tiny-") for line in lines)
    assert lines.count("ingest ...") == 1  # the log is said once
    first = last_record(chosen.store)
    assert first["outcome"] == "complete"
    assert stage_names(first) == ["ingest", "download", "score", "dedupe", "select", "pack"]
    assert first["stages"][0]["counts"]["links_read"] == crawl.counts["rows"]

    again = tamis(chosen, head.variables)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith(f"job {logical_id(chosen)}-a2 ")
    second = last_record(chosen.store)
    assert second["run"] != first["run"]
    assert sum(stage["parts_run"] or 0 for stage in second["stages"]) == 0


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_failed_run_gives_its_exit_status(head: Head, crawl: Crawl, tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "other").write_text("not a store")
    done = tamis(options(crawl, store, head.address), head.variables)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "neither empty nor a tamis store" in done.stdout
    assert not (store / "store.json").exists()


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_second_submitter_attaches_and_an_interruption_stops_the_job(
    head: Head, crawl: Crawl, held: Held, tmp_path: Path
) -> None:
    chosen = replace(options(crawl, tmp_path / "store", head.address), links=(crawl.links, held.links))
    name = f"{logical_id(chosen)}-a1"
    client = JobSubmissionClient(head.address, headers={"Authorization": f"Bearer {head.token}"})
    first, second = (tmp_path / "first", tmp_path / "second")
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for output, said in ((first, "ingest"), (second, "attached to it")):
            with output.open("wb") as file:
                processes.append(subprocess.Popen(command(chosen), env=head.variables, cwd=ROOT, stdout=file))
            wait_for(said, lambda output=output, said=said: said in output.read_text(), 60)
        processes[0].send_signal(signal.SIGTERM)
        statuses = [process.wait(30) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert f"interrupted: stopping job {name}" in first.read_text()
    assert f"job {name} is " in second.read_text()
    assert "submitted" not in second.read_text()
    assert statuses[0] == 143
    assert statuses[1] != 0  # the job that it followed did not end well
    assert client.get_job_status(name) == JobStatus.STOPPED
    held.server.released.set()
    last = tamis(chosen, head.variables)  # and the store is free: the next attempt does what is left
    assert last.returncode == 0, last.stdout + last.stderr
    assert last_record(chosen.store)["outcome"] == "complete"
    assert last_record(chosen.store)["stages"][1]["counts"]["media"] == crawl.counts["urls"] + 1


@pytest.mark.ray
@pytest.mark.timeout(120)
@pytest.mark.parametrize("token", ["", "not-the-token"])
def test_without_the_token_it_says_what_to_export(head: Head, crawl: Crawl, tmp_path: Path, token: str) -> None:
    given = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {}
    chosen = options(crawl, tmp_path / "store", head.address)
    done = tamis(chosen, environment(HOME=str(tmp_path), **given))
    assert done.returncode not in (0, 1), done.stdout + done.stderr
    assert "export RAY_AUTH_MODE=token" in done.stderr
    assert "export RAY_AUTH_TOKEN=" in done.stderr
    assert "Traceback" not in done.stderr
    assert not chosen.store.exists()


def test_nobody_there_is_said(crawl: Crawl, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no Ray dashboard answers at"):
        submit(options(crawl, tmp_path / "store", f"http://127.0.0.1:{free_port()}"), print)


def test_the_id_is_that_of_the_work(crawl: Crawl, tmp_path: Path) -> None:
    one = Options(tmp_path / "My recipe.yaml", tmp_path / "s", (crawl.links,), None, (), "http://127.0.0.1:1")
    one.recipe.write_text("name: one")
    before = logical_id(one)
    assert before == logical_id(replace(one, address="http://127.0.0.1:2")), "the cluster is no part of the work"
    assert before.startswith("tamis-my-recipe-")
    others = [replace(one, store=tmp_path / "t"), replace(one, links=()), replace(one, allow_net=("10.0.0.0/8",))]
    assert len({before, *(logical_id(other) for other in others)}) == 4
    one.recipe.write_text("name: two")
    assert logical_id(one) != before


def test_the_entry_point_survives_the_shell(tmp_path: Path) -> None:
    """Whatever the names hold, the shell gives them to the command as they are."""
    odd = tmp_path / 'it\'s $HOME; `x` "y"'
    chosen = Options(odd / "r.yaml", odd, (odd / "l.csv",), "url=a b,text=$c", ("127.0.0.0/8",), "http://x")
    shown = entrypoint(chosen).replace("exec ", "exec printf '%s\\n' ", 1)
    done = subprocess.run(["sh", "-c", shown], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words == [
        *(sys.executable, "-u", "-m", "flows.cli", "run", str(odd / "r.yaml"), "--store", str(odd)),
        *("--links", str(odd / "l.csv"), "--columns", "url=a b,text=$c"),
        *("--allow-net", "127.0.0.0/8", "--address", "auto"),
    ]


def test_lines_said_before_a_lost_connection_are_not_said_again() -> None:
    said: list[str] = []
    lines = _Lines(said.append)
    lines.restart()
    lines.take("one\ntw")
    lines.restart()
    lines.take("one")
    lines.take("\ntwo\nth")
    assert lines.moved
    lines.restart()
    lines.take("one\ntwo\nth")
    assert not lines.moved
    lines.end()
    assert said == ["one", "two", "th"]


@pytest.mark.parametrize(("status", "is_stopped"), [(128 + signal.SIGTERM, True), (HUNG_UP, False)])
def test_a_lost_terminal_stops_no_job(status: int, is_stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object) -> None:
        raise SystemExit(status)

    stopped: list[object] = []
    monkeypatch.setattr("flows.jobs._connect", lambda _: None)
    monkeypatch.setattr("flows.jobs._ensure", lambda *_: "job")
    monkeypatch.setattr("flows.jobs._follow", ends)
    monkeypatch.setattr("flows.jobs._stop", lambda *_: stopped.append(_))
    with pytest.raises(SystemExit):
        submit(Options(Path("r.yaml"), Path("s"), address="http://head"), print)
    assert bool(stopped) == is_stopped
