"""Values that a config names and no row has: a misspelt language or split would leave in what was to be left out.

A language or a split may rightly be absent from one version of many, so these are notes; a source of texts that no
version has is an error, for half of what was asked for would silently never be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pretrain.config import Clause, ConfigError, TrainConfig
from pretrain.rows import Rows
from pretrain.source import Source
from pretrain.version import Version

_SHOWN = 20


def unmet_names(config: TrainConfig, versions: Sequence[Version], sources: Sequence[Source]) -> list[str]:
    """A line for each value that stands in `exclude_languages` or `where` and in no row. Raises ConfigError where that
    holds for one of `texts.sources`."""
    rows = [source.rows for source in sources]
    if config.texts.sources is not None:
        there = _values(rows, ("source",))
        unknown = sorted(set(config.texts.sources) - there)
        if unknown:
            raise ConfigError(f"texts.sources: no text is from {unknown}; texts are from: {_listed(there)}")
    notes = []
    if config.exclude_languages:
        there = _values(rows, ("language", "languages"))
        unknown = sorted(set(config.exclude_languages) - there)
        if unknown:
            notes.append(f"exclude_languages: no text is in {', '.join(unknown)}; languages: {_listed(there)}")
    conditions = (config.where, *(each.where for each in config.mixture))
    for number, (version, where) in enumerate(zip(versions, conditions, strict=True)):
        place = f"mixture.{number - 1}.where" if number else "where"
        for index, clause in enumerate(where):
            notes += _of_clause(f"{place}.{index}", clause, version)
    return notes


def _of_clause(place: str, clause: Clause, version: Version) -> list[str]:
    values = [value for value in (clause.equals, clause.not_equals, *(clause.in_ or ())) if value is not None]
    column = version.read([clause.column]).column(clause.column)
    if pa.types.is_nested(column.type):
        return []
    there = set(pc.unique(column).to_pylist())
    unknown = [value for value in values if value not in there]
    if not unknown:
        return []
    return [f"{place}: no sample has {clause.column} = {unknown}; values: {_listed(there)}"]


def _values(rows: Sequence[Rows], fields: tuple[str, ...]) -> set[str]:
    """All that stands in these fields of the texts, as far as a version has them."""
    found: set[str] = set()
    for each in rows:
        for field in (name for name in fields if name in each.text_fields):
            for _, columns in each.texts_by_shard([field]):
                array = columns[field]
                flat = array.flatten() if pa.types.is_list(array.type) else array
                found |= {value for value in pc.unique(flat).to_pylist() if value is not None}
    return found


def _listed(values: set[object] | set[str]) -> str:
    shown = sorted(str(value) for value in values)
    return ", ".join(shown[:_SHOWN]) + (" ..." if len(shown) > _SHOWN else "")
