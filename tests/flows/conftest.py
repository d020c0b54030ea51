"""A tiny crawl on a loopback server, and a recipe for it without models: what flows and jobs are run on."""

import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.flows.prefect_server import Server

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "infra" / "demo"
if str(DEMO) not in sys.path:
    sys.path.insert(0, str(DEMO))

RECIPE = """\
name: tiny
description: All stages, no model.
source:
  columns: {url: url, text: caption, language: language, extra: [split]}
samples_per_part: 20
download:
  fetch: {requests_per_second_per_host: 10000, backoff_s: 0.01}
signals:
  - use: curation.signals.text_hygiene.TextHygiene
  - use: curation.signals.probe.Probe
  - use: curation.signals.content_hash.ContentHash
duplicates: {perceptual: false}
policy:
  - {rule: some_text, keep: text_clean is not null}
  - {dedupe: exact}
pack: {samples_per_shard: 20, columns: [split]}
"""
TRAINING = """\
name: tiny
decontamination: waived
where: [{column: split, not_equals: val}]
model:
  embed_dim: 8
  streams:
    image:
      embedding: {use: pretrain.embeddings.pictures.ConvStem, width: 16, stages: 2}
      encoder: {use: pretrain.encoders.transformer.FeedForward, pool: flatten}
    text:
      embedding: {use: pretrain.embeddings.ngrams.HashedNgrams, width: 16, buckets: 256, n: [2, 3]}
      encoder: {use: pretrain.encoders.transformer.FeedForward}
targets:
  - {use: pretrain.targets.info_nce.InfoNCE, a: image, b: text}
image_size: 32
batch_size: 8
steps: 2
"""


@dataclass(frozen=True)
class Crawl:
    """recipe and links: files; counts: what the corpus was built with (`rows`: links)."""

    recipe: Path
    links: Path
    counts: dict[str, Any]


@pytest.fixture(scope="session")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawl]:
    """36 drawn pictures in 2 languages with their dirt, served while the tests run."""
    import corpus
    from server import DemoServer

    root = tmp_path_factory.mktemp("crawl")
    server = DemoServer(root, port=0)
    counts = corpus.build(root, base_url=server.url, synthetic=36, limit_languages=2)
    recipe = root / "tiny.yaml"
    recipe.write_text(RECIPE)
    with server:
        yield Crawl(recipe, root / "links.parquet", counts)


def free_port() -> int:
    """A port that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(**changes: str) -> dict[str, str]:
    """For a child: no Prefect or Ray settings but these, tamis importable, nothing phoned home."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "RAY_"))}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    return {**kept, **quiet, "PYTHONPATH": path, **changes}


def wait_for(what: str, found: Callable[[], Any], seconds: float, every: float = 0.25) -> Any:
    """What `found` returns, once it is true; fails the test after `seconds`."""
    end = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > end:
            pytest.fail(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)
    return value


def descendants(pid: int) -> list[int]:
    """Processes that `pid` started, directly or not, deepest last."""
    import psutil

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """SIGKILL for it and what it started, by id. (Asked to end, Prefect's server and worker take 15 s and more.)"""
    for pid in [*descendants(process.pid), process.pid]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def last_record(store: Path) -> dict[str, Any]:
    """The store's newest run, as it recorded itself."""
    newest = max((store / "runs").glob("*.json"))
    record = json.loads(newest.read_text())
    assert isinstance(record, dict)
    return record


def stage_names(record: dict[str, Any]) -> list[str]:
    return [stage["stage"] for stage in record["stages"]]


class HeldServer(http.server.ThreadingHTTPServer):
    """Answers nothing until `release`d, then 404; `asked` once the first request for a picture is there."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        self.asked, self.released = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), _HeldHandler)


class _HeldHandler(http.server.BaseHTTPRequestHandler):
    server: HeldServer

    def do_GET(self) -> None:
        if self.path != "/robots.txt":
            self.server.asked.set()
            self.server.released.wait(60)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Held:
    """A link table with one link to a server that holds its answer: a run that is under way for as long as it takes."""

    server: HeldServer
    links: Path


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    server = HeldServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    links = tmp_path / "held.csv"
    links.write_text(
        f"url,caption,language,split\nhttp://127.0.0.1:{server.server_port}/held.png,a held picture,en,train\n"
    )
    yield Held(server, links)
    server.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def prefect_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], "Server"]]:
    """Gives the server that is running, or starts one: two files need it, and it takes long to start."""
    from tests.flows.prefect_server import Server

    started: list[Server] = []

    def running() -> Server:
        if not (started and started[-1].is_running):
            started.append(Server.start(tmp_path_factory.mktemp("prefect")))
        return started[-1]

    yield running
    for each in started:
        each.end()


@pytest.fixture(scope="module")
def server(prefect_servers: Callable[[], "Server"]) -> "Server":
    return prefect_servers()
