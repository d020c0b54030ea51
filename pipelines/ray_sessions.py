"""Folders of Ray sessions that are over. A local Ray makes one a run (logs, sockets: 0.3 MB) and never removes any."""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

_SESSION = re.compile(r"session_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_\d+_(?P<pid>\d+)")
"""As Ray 2.60 names them (`ray._private.node`): when it was started, and by which process."""


def session_folder() -> Path:
    """Where the sessions of local Rays lie; sockets in it, so its path has to be short."""
    return Path(tempfile.gettempdir()) / "tamis-ray"


def remove_old_sessions(folder: Path) -> int:
    """Remove the sessions in `folder` that no process uses, but for the latest, whose logs may still be asked for;
    returns how many. Those of other users stay."""
    try:
        found = [path for path in folder.iterdir() if _SESSION.fullmatch(path.name) and not path.is_symlink()]
    except FileNotFoundError:
        return 0
    old = [path for path in sorted(found)[:-1] if not _is_used(path)]
    for path in old:
        shutil.rmtree(path, ignore_errors=True)  # a run that starts beside us may remove it, too
    return len(old)


def _is_used(session: Path) -> bool:
    """Whether the process that started it is there, or one (of another container, perhaps) answers at its sockets."""
    named = _SESSION.fullmatch(session.name)
    try:
        if session.stat().st_uid != os.getuid() or (named is not None and Path("/proc", named["pid"]).exists()):
            return True
        return any(_answers(path) for path in (session / "sockets").iterdir())
    except FileNotFoundError:  # gone meanwhile, or never had sockets
        return False


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except TimeoutError:
            return True
        except OSError:
            return False
        return True
