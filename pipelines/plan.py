"""Plan: what a run would do and what it would reuse; nothing runs and nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

from curation.table import find_part
from pipelines.download import wanted_parts
from pipelines.duplicates import planned as planned_duplicates
from pipelines.enrich import planned_enrich
from pipelines.ingest import pending_sources
from pipelines.score import planned_signals
from pipelines.segment_stage import planned_segments
from pipelines.select import planned_parts
from pipelines.stage import Run


@dataclass(frozen=True)
class Planned:
    """One line of a plan."""

    step: str
    to_run: str
    to_reuse: str


def plan(run: Run) -> list[Planned]:
    """The steps of `run`. A step whose input would change or is not there yet is said to depend on it."""
    files, entries = pending_sources(run.recipe, run.store)
    lines = [Planned("ingest", f"{len(files)} link tables", f"{len(entries) - len(files)} link tables")]
    pool = run.store.pool()
    media = wanted_parts(run) if pool else []
    have = [find_part(each.folder, each.index, each.key) for each in media]
    there = [part for part in have if part is not None]
    new = " and those of the new links" if files else ""
    new += " and the failures of an outage" if run.state.outage else ""
    lines.append(Planned("download", f"{len(have) - len(there)} parts{new}", f"{len(there)} parts"))
    if files or len(there) < len(have) or not have or run.state.outage:
        lines.append(Planned("score, dedupe, select, pack", "depends on what is downloaded", ""))
        return lines
    run.state.tables["media"] = [run.store.relative(part.path) for part in there]
    for made_later in ("sources", "texts"):  # as after a download
        run.state.tables.pop(made_later, None)
    if run.recipe.segment is not None:
        missing, present = planned_segments(run, there)
        lines.append(Planned("segment", _parts(missing), _parts(present)))
        if missing:
            lines.append(Planned("score, dedupe, select, pack", "depends on the segments", ""))
            return lines
    if run.recipe.enrich:
        missing, present = planned_enrich(run)
        lines.append(Planned("enrich", _parts(missing), _parts(present)))
        if missing:
            lines.append(Planned("score, dedupe, select, pack", "depends on the texts", ""))
            return lines
    for index, each in enumerate(run.recipe.all_rounds()):
        run.round_index = index
        suffix = "" if index == 0 else f" ({each.name})"
        if any(str(getattr(signal, "model", "")).startswith("run:") for signal in each.signals):
            lines.append(Planned(f"score, dedupe, select, pack{suffix}", "depends on the model that is trained", ""))
            return lines
        missing, present, complete = planned_signals(run)
        lines.append(Planned(f"score{suffix}", f"{missing} parts", f"{present} parts"))
        if not complete:
            lines.append(Planned(f"dedupe, select, pack{suffix}", "depends on the signals", ""))
            return lines
        for step in ("dedupe", "select"):
            if step == "dedupe":
                missing, there_already = planned_duplicates(run)
            else:
                parts = planned_parts(run)
                there_already = sum(part is not None for part in parts)
                missing = len(parts) - there_already
            lines.append(Planned(step + suffix, _parts(missing), _parts(there_already)))
            if missing:
                lines.append(Planned(f"what follows {step}{suffix}", "depends on it", ""))
                return lines
            if step == "select":
                run.state.tables["decisions"] = [run.store.relative(part.path) for part in parts if part]
        lines.append(Planned(f"pack{suffix}", "only shards that are missing", "the version if it is sealed"))
    return lines


def _parts(number: int) -> str:
    return "1 part" if number == 1 else f"{number} parts"
