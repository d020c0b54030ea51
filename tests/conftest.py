"""A crawl served on loopback, and one finished store of it, for all tests that only look; which worker runs what."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import settings

from tests.stores import ROOT, Served, recipe, run

CLUSTERS = {
    "tests/flows/test_curate_flow.py",
    "tests/flows/test_deployment.py",
    "tests/flows/test_jobs.py",
    "tests/pipelines/test_workers.py",
    "tests/pretrain/test_launch.py",
    "tests/test_idempotence.py",
}
"""Files that start Ray or a Prefect server, in tests that are not slow."""
TOGETHER = {
    "tests/pipelines/test_families.py": "families",
    "tests/pipelines/test_family_selections.py": "families",
}
"""Files that look at the same thing, which is made once where one worker has them all."""
# An example may take as long as a busy machine makes it take: a law is about what is true, not about when.
settings.register_profile("tamis", deadline=None)
settings.load_profile("tamis")

DEMO = ROOT / "infra" / "demo"
if str(DEMO) not in sys.path:
    sys.path.insert(0, str(DEMO))

FULL_SIGNALS = [
    "text_hygiene.TextHygiene",
    "caption_statistics.CaptionStatistics",
    "boilerplate.Boilerplate",
    "metadata_entries.MetadataEntries",
    "keyed_draw.KeyedDraw",
    "probe.Probe",
    "picture_statistics.PictureStatistics",
    "content_hash.ContentHash",
    "perceptual_hash.PerceptualHash",
]
FULL_POLICY: list[dict[str, Any]] = [
    {"rule": "caption_not_empty", "keep": "text_clean is not null"},
    {"rule": "no_boilerplate", "keep": "not is_boilerplate and not is_file_name"},
    {"rule": "large_enough", "keep": "short_side_px >= 8"},
    {"dedupe": "near_duplicate"},
    {"balance": "metaclip", "t": 3, "where": "language_claimed = 'en'"},
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What starts Ray or a Prefect server comes first: it takes longest, and with workers one of them does it all."""
    for item in items:
        if any(map(item.get_closest_marker, ("ray", "prefect"))) and not item.get_closest_marker("slow"):
            file = item.nodeid.partition("::")[0]
            assert file in CLUSTERS, f"{file} starts Ray or Prefect: name it in CLUSTERS of tests/conftest.py"
    items.sort(key=lambda item: item.nodeid.partition("::")[0] not in CLUSTERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With workers (`pytest -n`): a file, or what is TOGETHER, is one worker's, so that what its tests share is made
    once; never two Rays."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "clusters" if file in CLUSTERS else TOGETHER.get(file, file)

    return ByFile(config, log)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What can be made again (matchers' tables) is not put among the user's own."""
    os.environ["TAMIS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _disks_need_not_be_waited_for() -> Iterator[None]:
    """A run syncs a hundred files; only a machine that loses its power, which no test does, could tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """A library that changes the priority of the thread it is called on would starve every later test."""
    before = os.sched_getscheduler(0)
    yield
    assert os.sched_getscheduler(0) == before


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """40 drawn pictures in 4 languages with every kind of dirt, served while the tests run."""
    import corpus
    from server import DemoServer

    root = tmp_path_factory.mktemp("served")
    server = DemoServer(root, port=0)
    corpus.build(root, base_url=server.url, synthetic=40, limit_languages=4)
    truth = pq.read_table(root / "truth.parquet").to_pylist()
    clean = tuple(sorted(row["url"] for row in truth if row["label"] == "clean"))
    with server:
        yield Served(root / "links.parquet", clean, server.url)


@pytest.fixture(scope="session")
def finished(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of the whole crawl, with near-duplicates and balancing; to be copied before it is damaged."""
    root = tmp_path_factory.mktemp("finished")
    full = recipe(
        root / "full.yaml",
        FULL_POLICY,
        name="full",
        samples_per_part=20,
        signals=[{"use": f"curation.signals.{name}"} for name in FULL_SIGNALS],
        duplicates={"exact": ["sha256", "pixel_hash"], "perceptual": True, "texts": {"similarity": 0.7}},
        pack={
            "samples_per_shard": 10,
            "columns": ["split", "phash"],
            "text_columns": ["num_words", "keep_probability"],
        },
    )
    run(root / "store", full, served.links)
    return root / "store"
