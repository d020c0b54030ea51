"""Whether there is a Prefect server, and what Prefect is told before it is imported (not here: that costs a second)."""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path

SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Without a server Prefect starts one for the run, in 14-25 s on two busy cores; its default patience is 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # The default serializer is pickle, which executes what it reads. Results are not kept, but exceptions are.
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # A run says everything itself, on stdout and in the flow run's log: on the console it would appear twice. Under a
    # worker Prefect is imported before this, and the deployment says it (infra/prefect.yaml).
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}
"""What a process that imports Prefect here is given, unless its environment says otherwise."""


def prepare_environment() -> None:
    """Set what is not set already. To be called before Prefect is imported: it reads its settings then."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def prefect_is_configured() -> bool:
    """Whether the environment or the active Prefect profile names a server (`PREFECT_API_URL`)."""
    return bool(os.environ.get("PREFECT_API_URL") or _profile().get("PREFECT_API_URL"))


def check_home() -> None:
    """Raises PermissionError where there is no server and the one that Prefect starts for a run could not make its
    database: it would be waited for, for two minutes, and the reason not be told."""
    home = _home()
    if prefect_is_configured() or home is None:
        return
    there = next(folder for folder in (home, *home.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "Prefect cannot keep its database here (PREFECT_HOME)", str(home))


def _home() -> Path | None:
    """Where Prefect keeps its things; None for a user without a home folder, as in some containers."""
    try:
        return Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    except RuntimeError:
        return None


def _profile() -> dict[str, str]:
    """The active profile's settings; empty where there is none or the file cannot be read (Prefect then complains)."""
    home = _home()
    if home is None:
        return {}
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    profiles, active = content.get("profiles"), os.environ.get("PREFECT_PROFILE") or content.get("active")
    found = profiles.get(active) if isinstance(profiles, dict) else None
    return found if isinstance(found, dict) else {}
