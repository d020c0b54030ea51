"""Plan: what a run would do and what it would reuse; nothing runs and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from curation.table import find_part
from pipelines.download import wanted_parts
from pipelines.duplicates import planned as planned_duplicates
from pipelines.enrich import planned_enrich
from pipelines.ingest import pending_sources
from pipelines.score import planned_signals
from pipelines.segment_stage import planned_segments
from pipelines.select import planned_decisions
from pipelines.stage import Run


@dataclass(frozen=True)
class Planned:
    """One line of a plan."""

    step: str
    to_run: str
    to_reuse: str


def plan(run: Run) -> list[Planned]:
    """The steps of `run`. A step whose input would change or is not there yet is said to depend on it."""
    return list(_lines(run))


def _lines(run: Run) -> Iterator[Planned]:
    files, entries = pending_sources(run.recipe, run.store)
    yield Planned("ingest", f"{len(files)} link tables", f"{len(entries) - len(files)} link tables")
    media = wanted_parts(run) if run.store.pool() else []
    found = [find_part(each.folder, each.index, each.key) for each in media]
    there = [part for part in found if part is not None]
    new = " and those of the new links" if files else ""
    new += " and the failures of an outage" if run.state.outage else ""
    yield Planned("download", f"{len(found) - len(there)} parts{new}", f"{len(there)} parts")
    if files or len(there) < len(found) or not found or run.state.outage:
        yield Planned("score, dedupe, select, pack", "depends on what is downloaded", "")
        return
    run.state.tables["media"] = [run.store.relative(part.path) for part in there]
    for made_later in ("sources", "texts"):  # as after a download
        run.state.tables.pop(made_later, None)
    if run.recipe.segment is not None:
        missing, present = planned_segments(run, there)
        yield Planned("segment", _parts(missing), _parts(present))
        if missing:
            yield Planned("score, dedupe, select, pack", "depends on the segments", "")
            return
    if run.recipe.enrich:
        missing, present = planned_enrich(run)
        yield Planned("enrich", _parts(missing), _parts(present))
        if missing:
            yield Planned("score, dedupe, select, pack", "depends on the texts", "")
            return
    for index, each in enumerate(run.recipe.all_rounds()):
        run.round_index = index
        suffix = "" if index == 0 else f" ({each.name})"
        if any(str(getattr(signal, "model", "")).startswith("run:") for signal in each.signals):
            yield Planned(f"score, dedupe, select, pack{suffix}", "depends on the model that is trained", "")
            return
        missing, present = planned_signals(run)
        yield Planned(f"score{suffix}", f"{missing} parts", f"{present} parts")
        if missing:
            yield Planned(f"dedupe, select, pack{suffix}", "depends on the signals", "")
            return
        for step, planned in (("dedupe", planned_duplicates), ("select", planned_decisions)):
            missing, present = planned(run)
            yield Planned(step + suffix, _parts(missing), _parts(present))
            if missing:
                yield Planned(f"what follows {step}{suffix}", "depends on it", "")
                return
        yield Planned(f"pack{suffix}", "only shards that are missing", "the version if it is sealed")


def _parts(number: int) -> str:
    return "1 part" if number == 1 else f"{number} parts"
