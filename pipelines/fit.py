"""Fit: what some signals need of the whole pool, made once from the stored columns of all parts and kept write-once.

tables/fit_<signal>/00000-<key>.parquet; the key is of the signal and of all parts that were read; what the fit holds is
its identity, on which the signal's parts depend: a fit that comes out the same has them reused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.fitted import FittedSignal, content_digest
from curation.signal import Level
from curation.step import digest
from curation.table import NAME_DIGITS, Part, find_part, open_part, read_part, write_part
from pipelines.part_rows import media_rows, text_rows
from pipelines.stage import Run, Wanted, run_parts
from pipelines.store import StoreError
from pipelines.workers import Task

Sources = tuple[Path, Path, dict[str, Path]]
"""One part of the pool: its media, its texts, and the files of the signals that are read."""


def fit_folder(run: Run, signal: FittedSignal) -> Path:
    """Where the fits of a signal lie."""
    return run.store.table(f"fit_{signal.table_name()}")


def fit_key(part_keys: Sequence[str]) -> str:
    """Of the signal's keys in all parts of the pool: each is of the signal and of what it reads there."""
    return digest("fit", list(part_keys))


def model_keys(run: Run, signal: FittedSignal) -> dict[str, str]:
    """Table -> key of each signal whose columns the fit reads: a fit serves one model's embeddings only."""
    signals = run.recipe.signals_until(run.round_index)
    return {each.table_name(): each.key() for each in signals if set(each.writes().names) & set(signal.reads())}


def find_fit(run: Run, signal: FittedSignal, part_keys: Sequence[str]) -> Part | None:
    """The fit to use, if it is there: the one that the signal names, or that of the pool as it is now.

    Raises StoreError where the named one is not there, or was made by another signal or from other embeddings.
    """
    if signal.fit is None:
        return find_part(fit_folder(run, signal), 0, fit_key(part_keys))
    part = open_part(_named(run, signal, signal.fit))
    for what, wanted in (("signal", signal.key()), ("reads", model_keys(run, signal))):
        if part.stats.get(what) != wanted:
            other = "with other fields or another version" if what == "signal" else "from the columns of another model"
            raise StoreError(f"{type(signal).__name__}.fit: {part.path} was made {other}")
    return part


def _named(run: Run, signal: FittedSignal, name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    there = sorted(fit_folder(run, signal).glob("00000-*.parquet"))
    found = [each for each in there if each.stem.removeprefix("00000-").startswith(name)]
    if len(found) != 1:
        known = ", ".join(each.stem.removeprefix("00000-") for each in there) or "none"
        raise StoreError(
            f"{type(signal).__name__}.fit: {name!r} is neither a file nor the beginning "
            f"of one fit's name; there are: {known}"
        )
    return found[0]


def make_fit(
    run: Run, signal: FittedSignal, part_keys: Sequence[str], sources: Sequence[Sources], levels: dict[str, Level]
) -> tuple[Part, dict[str, Any]]:
    """The fit of `signal` on the pool, made unless it is stored, and the counts of its making."""
    found = find_fit(run, signal, part_keys)
    table = signal.table_name()
    if found is not None:
        if found.path.parent != fit_folder(run, signal):  # from elsewhere: the store keeps what its parts depend on
            found = write_part(
                fit_folder(run, signal), 0, found.key, read_part(found.path), identity=found.identity, stats=found.stats
            )
        return found, {}
    key = fit_key(part_keys)
    arguments = {
        "signal": signal,
        "sources": list(sources),
        "levels": levels,
        "folder": fit_folder(run, signal),
        "key": key,
        "reads": model_keys(run, signal),
    }
    task = Task(f"fit of {table}", fit_signal, arguments)
    (part,), stats = run_parts(run, f"fit {table}", [Wanted(fit_folder(run, signal), 0, key, task)])
    run.say(f"  fit {table}: {key[:NAME_DIGITS]} (to keep it when the pool grows, say `fit: {key[:NAME_DIGITS]}`)")
    return part, {"fits": stats["parts_run"]}


def fit_signal(
    signal: FittedSignal,
    sources: list[Sources],
    levels: dict[str, Level],
    folder: Path,
    key: str,
    reads: dict[str, str],
) -> dict[str, Any]:
    """Fit on all parts, one in memory at a time, and publish the fit. Runs in a worker."""
    table = signal.fit_pool(_Parts(signal, sources, levels))
    stats = {"signal": signal.key(), "reads": reads}
    write_part(folder, 0, key, table, identity=content_digest(table), stats=stats)
    return {}


class _Parts:
    """The columns that a signal reads, part by part; a fit may go through them more than once."""

    def __init__(self, signal: FittedSignal, sources: list[Sources], levels: dict[str, Level]) -> None:
        self._level, self._names = signal.level, list(dict.fromkeys(signal.reads()))
        self._sources, self._levels = sources, levels

    def __iter__(self) -> Iterator[pa.Table]:
        for media, texts, upstream in self._sources:
            rows = media_rows(media, upstream, self._levels, self._names)
            if self._level == "text":
                rows = text_rows(texts, rows, upstream, self._levels, self._names)
            yield rows.select(self._names)
