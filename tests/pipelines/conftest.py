"""What several test modules of this folder look at."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.pipelines import loopback
from tests.pipelines.av_store import Finished, finished_store
from tests.pipelines.family_pool import Pool, served_pool
from tests.pipelines.hasty_fetch import BODY


@pytest.fixture(scope="session")
def av_finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Three films and a song as links among what is broken; copies, a still and silence in a folder and a tar."""
    with finished_store(tmp_path_factory.mktemp("av")) as made:
        yield made


@pytest.fixture
def server() -> Iterator[Any]:
    """A web server on loopback with a body at /ok; a test adds the routes that it wants."""
    with loopback.Server() as it:
        it.routes["/ok"] = lambda r: r.reply(BODY)
        yield it


@pytest.fixture(scope="session")
def family_pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Drawn pictures with teachers' embeddings, tags, translations and rows with nothing."""
    with served_pool(tmp_path_factory.mktemp("families")) as made:
        yield made
