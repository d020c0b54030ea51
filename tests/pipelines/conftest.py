"""What several test modules of this folder look at."""

from collections.abc import Iterator

import pytest

from tests.pipelines.av_store import Finished, finished_store


@pytest.fixture(scope="session")
def av_finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Three films and a song as links among what is broken; copies, a still and silence in a folder and a tar."""
    with finished_store(tmp_path_factory.mktemp("av")) as made:
        yield made
