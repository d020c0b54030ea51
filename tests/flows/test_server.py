"""Whether a Prefect server is configured, told without Prefect."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.server import SETTINGS, check_home, prefect_is_configured
from tests.flows.conftest import ROOT, environment

PROFILES = """
active = "ours"
[profiles.ours]
PREFECT_API_URL = "http://127.0.0.1:4200/api"
[profiles.bare]
PREFECT_LOGGING_LEVEL = "INFO"
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    return tmp_path


def test_nothing_is_configured() -> None:
    assert not prefect_is_configured()


def test_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    assert prefect_is_configured()


def test_the_active_profile_configures(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "profiles.toml").write_text(PROFILES)
    assert prefect_is_configured()
    monkeypatch.setenv("PREFECT_PROFILE", "bare")
    assert not prefect_is_configured()
    monkeypatch.setenv("PREFECT_PROFILE", "none-such")
    assert not prefect_is_configured()


@pytest.mark.parametrize("damage", [b"active = ", b"\xff\xfe", b'active = "ours"\nprofiles = 3\n'])
def test_a_damaged_profile_is_left_to_prefect(home: Path, damage: bytes) -> None:
    (home / "profiles.toml").write_bytes(damage)
    assert not prefect_is_configured()


def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.setattr(Path, "home", none)
    assert not prefect_is_configured()


def test_the_profile_is_the_one_that_prefect_reads(home: Path) -> None:
    """What `prefect config set` writes is what is found; Prefect itself is the oracle for where that is."""
    command = [
        str(Path(sys.executable).with_name("prefect")),
        "config",
        "set",
        "PREFECT_API_URL=http://127.0.0.1:9/api",
    ]
    given = environment(PREFECT_HOME=str(home))
    subprocess.run(command, env=given, cwd=home, check=True, capture_output=True, timeout=60)
    assert prefect_is_configured()


def test_prefect_is_not_imported_and_gets_its_settings() -> None:
    """Nor is anything else that takes long to import and that the command line, recipes and downloading need seldom."""
    code = (
        "import sys, os; from flows import cli, server; server.prefect_is_configured(); server.prepare_environment();"
        "import pipelines.recipe, pipelines.download;"
        "assert cli.__name__ and not {'prefect', 'ray', 'numba', 'torch', 'scipy', 'cv2', 'av'} & set(sys.modules);"
        "print(os.environ['PREFECT_RESULTS_DEFAULT_SERIALIZER'], os.environ['DO_NOT_TRACK'])"
    )
    given = {name: value for name, value in environment(DO_NOT_TRACK="0").items() if name not in SETTINGS}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**given, "DO_NOT_TRACK": "0"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["json", "0"], done.stderr  # what was set stays


def test_a_home_that_cannot_be_written_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_home()
    (home / "file").touch()
    monkeypatch.setenv("PREFECT_HOME", str(home / "file" / "prefect"))
    with pytest.raises(PermissionError, match=r"PREFECT_HOME.*file/prefect"):
        check_home()
    monkeypatch.setenv("PREFECT_HOME", str(home / "new" / "prefect"))
    check_home()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"PREFECT_HOME.*new/prefect"):
        check_home()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    check_home()  # a server keeps its own
