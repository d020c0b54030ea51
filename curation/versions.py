"""Which dataset version of a store a name means: one rule for those who pack and those who train."""

from __future__ import annotations

import json
import re
from pathlib import Path

VERSION_FORMAT = "tamis.dataset/1"
"""What the manifest of a version says of its layout."""


def sealed_versions(store: Path) -> list[Path]:
    """Folders of the sealed versions of a store, the latest last.

    Latest is what the store's state names last: what was packed last, or found to hold what was packed last. Versions
    that the state does not name, such as those that were copied into the store, come before, by the dates of their
    manifests; a date says little, for a copy of a store has other ones.
    """
    found = {path.parent.name: path for path in (store / "versions").glob("*/manifest.json")}
    named = [name for name in _named(store / "state.json") if name in found]
    others = sorted(found.keys() - set(named), key=lambda name: (found[name].stat().st_mtime_ns, name))
    return [found[name].parent for name in (*others, *dict.fromkeys(named))]


def _named(state: Path) -> list[str]:
    """Versions in the order of the state; a state that is damaged is told by who reads the rest of it."""
    try:
        content = json.loads(state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = content.get("versions", []) if isinstance(content, dict) else []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def matching(folders: list[Path], wanted: str) -> list[Path]:
    """Those of the folders (the latest last) that `wanted` means: one, several where it is not clear which, or none.

    wanted: `latest`; the name of a folder; the name of a recipe or policy, for its latest version; or the first digits
    of the digest, as far as the folder's name has them.
    """
    if wanted == "latest":
        return folders[-1:]
    exact = [folder for folder in folders if folder.name == wanted]
    of_recipe = [folder for folder in folders if folder.name.rpartition("-")[0] == wanted][-1:]
    by_digest = [folder for folder in folders if _begins(folder, wanted)]
    return exact or of_recipe or by_digest


def _begins(folder: Path, wanted: str) -> bool:
    digits = folder.name.rpartition("-")[2]
    return re.fullmatch(r"[0-9a-f]+", wanted) is not None and bool(digits) and wanted.startswith(digits[: len(wanted)])
