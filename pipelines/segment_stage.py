"""The stage `segment`: sources become segments, which the later stages take for media, and get the sources' texts.

Before it, `media` in the state names the downloaded parts; after it, those are called `sources`, `media` names the
parts of segments and `texts` those of their texts. A recipe without `segment` has no such stage and none of these
tables.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from curation.av.cutting_up import SegmentOptions
from curation.step import digest
from curation.table import Part, find_part
from pipelines.download import fatal_bytes, media_parts
from pipelines.segment import segment_key, segment_part
from pipelines.segment_texts import VERSION, segment_texts_part
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

SEGMENTS_TABLE, TEXTS_TABLE = "segments", "segment_texts"


def segment(run: Run) -> dict[str, Any]:
    """Cut the media of every part that has not been cut so, and give the segments their texts."""
    sources = media_parts(run)
    cut, stats = run_parts(run, "segment", wanted_segments(run, sources))
    texts, of_texts = run_parts(run, "texts of segments", wanted_texts(run, sources, cut))
    name_segments(run, sources, cut, texts)
    outcome: Counter[str] = Counter()
    for part in cut:
        outcome.update(part.stats["status"])
    made = {name: stats[name] + of_texts[name] for name in ("parts_run", "parts_reused")}
    return {"sources": sum(part.stats["sources"] for part in cut), "segments": outcome["ok"],
            "without": sum(outcome.values()) - outcome["ok"], "texts": sum(part.num_rows for part in texts),
            **made}  # fmt: skip


def name_segments(run: Run, sources: list[Part], cut: list[Part], texts: list[Part]) -> None:
    """What the tables of the state are from now on."""
    tables = {"sources": sources, "media": cut, "texts": texts}
    run.state.tables |= {name: [run.store.relative(each.path) for each in parts] for name, parts in tables.items()}


def planned_segments(run: Run, sources: list[Part]) -> tuple[int, int]:
    """Parts that a run would make and those it would reuse; where all are there, the state of `run` names them."""
    wanted = wanted_segments(run, sources)
    cut = [part for part in map(_found, wanted) if part is not None]
    if len(cut) < len(wanted):
        return 2 * len(wanted) - len(cut), len(cut)
    texts = [part for part in map(_found, wanted_texts(run, sources, cut)) if part is not None]
    if len(texts) == len(cut):
        name_segments(run, sources, cut, texts)
    return len(cut) - len(texts), len(cut) + len(texts)


def _found(wanted: Wanted) -> Part | None:
    return find_part(wanted.folder, wanted.index, wanted.key)


def options_of(run: Run) -> SegmentOptions:
    """The recipe's; the stage is there only where it has some."""
    assert run.recipe.segment is not None
    return run.recipe.segment


def wanted_segments(run: Run, sources: list[Part]) -> list[Wanted]:
    """One part of segments for each part of sources. What killed decoders while the parts that are there were made is
    told to the tasks of the others, as in `pipelines.download`."""
    options, limits = options_of(run), run.recipe.download.av
    step, folder = segment_key(options, limits), run.store.table(SEGMENTS_TABLE)
    keys = [digest(step, part.identity) for part in sources]
    made = [find_part(folder, part.index, key) for part, key in zip(sources, keys, strict=True)]
    fatal = fatal_bytes(part for part in made if part is not None) if None in made else {}
    wanted = []
    for part, key in zip(sources, keys, strict=True):
        arguments = {"media": part.path, "folder": folder, "index": part.index, "key": key,
                     "options": options, "limits": limits, "fatal": fatal}  # fmt: skip
        task = Task(f"segment of part {part.index}", segment_part, arguments, options.needs_model())
        wanted.append(Wanted(folder, part.index, key, task))
    return wanted


def wanted_texts(run: Run, sources: list[Part], cut: list[Part]) -> list[Wanted]:
    """One part of texts for each part of segments."""
    timed, folder = sorted(options_of(run).subtitles), run.store.table(TEXTS_TABLE)
    wanted = []
    for source, part, each in zip(sources, cut, run.store.pool(), strict=True):
        key = digest("segment texts", VERSION, timed, part.key, part.identity, each.texts.identity)
        arguments = {"segments": part.path, "media": source.path, "texts": each.texts.path, "folder": folder,
                     "index": part.index, "key": key, "timed": timed}  # fmt: skip
        task = Task(f"texts of segments of part {part.index}", segment_texts_part, arguments)
        wanted.append(Wanted(folder, part.index, key, task))
    return wanted
