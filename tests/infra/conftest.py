"""The demo's scripts, importable as they import each other, and one small crawl of drawn pictures for all here."""

import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "infra" / "demo"
if str(DEMO) not in sys.path:
    sys.path.insert(0, str(DEMO))


@pytest.fixture(scope="session")
def demo_scripts() -> Path:
    """The folder of the demo's scripts."""
    return DEMO


@pytest.fixture(scope="session")
def small_crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A crawl of 48 drawn pictures in 4 languages, every label in it; its links begin with corpus.BASE_URL."""
    import corpus

    out = tmp_path_factory.mktemp("crawl")
    corpus.build(out, synthetic=48, limit_languages=4)
    return out
