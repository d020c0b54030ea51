"""Selections: what each policy decided on the store, kept under a name, so that two of them can be compared.

A selection is a small file: its policy, and which files made up every table that it read. The parts themselves are
never overwritten, so a selection stays readable however often the pool grows or a policy changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from curation.policy import Policy, PolicyItem
from curation.table import open_part, replace_text
from pipelines.store import State, Store, StoreError

FOLDER = "selections"
NAME_DIGITS = 12
LEFT_OUT = ("text_uid", "media_uid", "reason")
"""Columns of a signal's part that are not the signal's."""


@dataclass(frozen=True)
class Selection:
    """One policy's decisions."""

    name: str
    label: str
    """The recipe's name (and round), or what `tamis select --name` said."""
    number: int
    """Order in which the selections of a store were made first, from 1."""
    policy: list[dict[str, Any]]
    tables: dict[str, list[str]]
    """Table -> files, `texts` and `decisions` among them."""
    signals: dict[str, str]
    columns: dict[str, list[str]]
    """Signal table -> its columns."""
    version: str | None = None
    """The version packed from it."""
    gates: list[dict[str, Any]] = field(default_factory=list)
    """What each gate of the policy found: its settings, texts counted and kept in all and of each group, and the
    groups that are treated badly."""

    def items(self) -> list[PolicyItem]:
        """The policy."""
        return TypeAdapter(Policy).validate_python(self.policy)

    def files(self, store: Store, table: str) -> list[Path]:
        """Files of a table as the policy read it."""
        return [store.root / name for name in self.tables.get(table, [])]


def keep_selection(
    store: Store, state: State, label: str, key: str, policy: Sequence[PolicyItem], gates: Sequence[dict[str, Any]] = ()
) -> str:
    """Write down what was decided and what its gates found, and make it the present selection; returns its name."""
    name = f"{label}-{key[:NAME_DIGITS]}"
    known = {each.name: each for each in selections(store)}
    if name not in known:
        texts = [store.relative(path) for path in store.texts_files(state)]
        made = Selection(
            name=name,
            label=label,
            number=max((each.number for each in known.values()), default=0) + 1,
            policy=[item.model_dump() for item in policy],
            tables={**state.tables, "texts": texts},
            signals=dict(state.signals),
            columns={table: _columns(store, state, table) for table in sorted(state.signals)},
            gates=list(gates),
        )
        _write(store, made)
    state.selection = name
    return name


def _columns(store: Store, state: State, table: str) -> list[str]:
    files = store.files(state, f"signal_{table}")
    return [name for name in pq.read_schema(files[0]).names if name not in LEFT_OUT] if files else []


def note_version(store: Store, state: State, version: str) -> None:
    """Remember which version holds what the present selection keeps."""
    for each in selections(store):
        if each.name == state.selection and each.version != version:
            _write(store, Selection(**{**asdict(each), "version": version}))


def gates_of_present(store: Store, state: State) -> list[dict[str, Any]]:
    """What the gates of the present selection found; empty without any."""
    return next((each.gates for each in selections(store) if each.name == state.selection), [])


def rename_version(store: Store, old: str, new: str | None) -> None:
    """Let the selections that a version was packed from name the one in its place, None where there is none."""
    for each in selections(store):
        if each.version == old:
            _write(store, Selection(**{**asdict(each), "version": new}))


def _write(store: Store, selection: Selection) -> None:
    content = json.dumps(asdict(selection), indent=1, sort_keys=True) + "\n"
    replace_text(store.root / FOLDER / f"{selection.name}.json", content)


def selections(store: Store) -> list[Selection]:
    """All selections, in the order in which they were made. Raises StoreError where a file is damaged."""
    found = []
    for path in sorted((store.root / FOLDER).glob("*.json")):
        try:
            found.append(Selection(**json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path} is damaged: {error}") from error
    return sorted(found, key=lambda each: each.number)


def find_selection(store: Store, name: str) -> Selection:
    """The selection of that name, label (the last one), digest or version; `latest` is the present one.

    Raises StoreError naming those that there are.
    """
    known = selections(store)
    wanted = store.state().selection if name == "latest" else name
    for matches in (
        [each for each in known if each.name == wanted],
        [each for each in known if each.version is not None and wanted in (each.version, each.version[-NAME_DIGITS:])],
        [each for each in known if each.label == wanted],
        [each for each in known if wanted and each.name.rpartition("-")[2].startswith(wanted)],
    ):
        if matches:
            return matches[-1]
    manifest = store.root / "versions" / name / "manifest.json"
    noise = json.loads(manifest.read_text(encoding="utf-8")).get("noise") if manifest.is_file() else None
    if noise is not None:
        raise StoreError(f"{name} has no decisions of its own: `tamis noise` made it of {noise['of']}: name that one")
    there = ", ".join(each.name + (f" (version {each.version})" if each.version else "") for each in known)
    raise StoreError(f"{store.root} has no selection or version {name!r}; there are: {there or 'none'}")


def decided_policy(store: Store) -> list[PolicyItem]:
    """The policy that made the present decisions; empty before the first."""
    files = store.files(store.state(), "decisions")
    if not files:
        return []
    return TypeAdapter(Policy).validate_python(open_part(files[0]).stats.get("policy", []))


def state_of(store: Store, name: str) -> State:
    """The store as a selection saw it: its decisions, and the tables that it read. Raises StoreError where there is no
    such selection, or a take-down has removed what it read.
    """
    found = find_selection(store, name)
    gone = [path for table in found.tables for path in found.files(store, table) if not path.is_file()]
    if gone:
        raise StoreError(
            f"{store.root}: {len(gone)} files that the selection {found.name} read are no longer there, such as "
            f"{store.relative(gone[0])}: a take-down removes them; `tamis run` and `tamis select` decide anew"
        )
    return replace(
        store.state(), tables=found.tables, signals=found.signals, selection=found.name, policy_name=found.label
    )
