"""Fixtures: a store with one tiny dataset version."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pretrain.version import Version, open_version

# Under importlib mode the helpers beside the tests are not importable, here or in spawned workers.
sys.path.append(str(Path(__file__).parent))

from tiny import sample, write_version


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Models of some thousand weights: a second thread only waits, and on a busy machine for long."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one version of 48 samples, 8 of them held out. Tests that train give their configs own names."""
    root = tmp_path_factory.mktemp("store")
    write_version(root, [sample(n, "val" if n % 6 == 0 else "train") for n in range(48)])
    return root


@pytest.fixture(scope="session")
def version(store: Path) -> Version:
    return open_version(next((store / "versions").iterdir()))
