"""The stage `dedupe`: every search for duplicates that the recipe asks for, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from curation.table import Part, find_part
from pipelines.decontaminate import TABLES as EVALUATION_TABLES
from pipelines.decontaminate import decontaminate, found_matches, rules_of
from pipelines.dedupe import dedupe, dedupe_key
from pipelines.dedupe_semantic import TABLES as SEMANTIC_TABLES
from pipelines.dedupe_semantic import dedupe_semantic, semantic_key
from pipelines.dedupe_texts import TABLES as TEXT_TABLES
from pipelines.dedupe_texts import dedupe_texts, texts_key
from pipelines.stage import Run
from pipelines.views import SEARCHES

Counts = dict[str, Any]


@dataclass(frozen=True)
class Search:
    """One search: the tables that it makes, what of them is there (None where a part is missing), and its work."""

    tables: tuple[str, ...]
    there: Callable[[], dict[str, list[Part]] | None]
    work: Callable[[], Counts]


def searches(run: Run) -> list[Search]:
    """The searches that this round asks for, in order."""
    texts, semantic = run.recipe.duplicates.texts, run.recipe.duplicates.semantic
    found = [_single(run, ("duplicates",), partial(dedupe_key, run), partial(dedupe, run))]
    if texts is not None:
        found.append(_single(run, TEXT_TABLES, partial(texts_key, run, texts), partial(dedupe_texts, run, texts)))
    if semantic is not None and _has_column(run, semantic.embedding):
        work = partial(dedupe_semantic, run, semantic)
        found.append(_single(run, SEMANTIC_TABLES, partial(semantic_key, run, semantic), work))
    if rules_of(run):
        found.append(Search(EVALUATION_TABLES, partial(found_matches, run), partial(decontaminate, run)))
    return found


def _single(run: Run, tables: tuple[str, ...], key: Callable[[], str], work: Callable[[], Counts]) -> Search:
    """A search whose tables have one part each, all of one key."""

    def there() -> dict[str, list[Part]] | None:
        own = key()
        parts = {table: find_part(run.store.table(table), 0, own) for table in tables}
        known = {table: [part] for table, part in parts.items() if part is not None}
        return known if len(known) == len(tables) else None

    return Search(tables, there, work)


def _has_column(run: Run, name: str) -> bool:
    """Whether a signal of this round writes it: an embedding may be that of a later round's model."""
    return any(name in signal.writes().names for signal in run.recipe.signals_until(run.round_index))


def find_all(run: Run) -> Counts:
    """Run each search, or reuse what it found before; tables of searches that are not asked for leave the views."""
    total: Counts = {}
    wanted = searches(run)
    for table in set(SEARCHES) - {table for search in wanted for table in search.tables}:
        run.state.tables.pop(table, None)
    for search in wanted:
        for name, value in search.work().items():
            total[name] = total.get(name, 0) + value
    return total


def planned(run: Run) -> tuple[int, int]:
    """How many searches would run and how many are there; where all are, the state of `run` names their tables."""
    missing, present = 0, 0
    for search in searches(run):
        parts = search.there()
        if parts is None:
            missing += 1
            continue
        present += 1
        run.state.tables |= {table: [run.store.relative(part.path) for part in some] for table, some in parts.items()}
    return missing, present
