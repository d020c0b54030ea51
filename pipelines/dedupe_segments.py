"""Copies among the segments of a pool, by their fingerprints in time: pairs with offsets, and which make groups.

What two segments share is a fact and is kept (view `segment_matches`); which pairs make duplicates of each other is the
rule of `curation.duplicate_search.SegmentSearch`.

The pairs are searched as those of pictures are (`pipelines.generations`): a pool that has grown compares its new
segments with all, and nothing old with anything old; what is more than one task holds is cut into slices. A hash that
has become common since an old pair was found takes nothing away from it: it was compared over its whole overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.duplicate_search import SegmentSearch
from curation.step import digest
from curation.table import open_part, read_part
from pipelines import database
from pipelines.generations import NAME_DIGITS, grow
from pipelines.segment_job import COLUMNS, Kind, SegmentJob, common_of
from pipelines.stage import Run
from pipelines.views import DUPLICATE_EDGES, SEGMENT_MATCHES

__all__ = ["COLUMNS", "VERSION", "find_matches"]
VERSION = 3
"""Of the rules in this file, in pipelines/segment_job.py and in curation/av/copies.py that decide pairs."""
BITS = 64
"""In which the distance of an edge is told, as that of pictures is."""
TABLE = "segment_pairs"
BUCKET_ENTRIES = 50_000
"""Segments that one slice holds. Two slices of ten-second segments with sound: 4 GB."""
GROUP_PARTS = 250
"""Parts that are bucketed into one file."""


def find_matches(
    run: Run, con: database.Connection, files: Sequence[Path], search: SegmentSearch
) -> tuple[pa.Table, pa.Table]:
    """(edges between duplicates, everything that segments have in common). con: with the view `found` of segments;
    files: the parts of the signal of fingerprints."""
    rows = database.rows(con, "select media_uid, video_fingerprint is not null as seen from found")
    has_video = {row["media_uid"]: row["seen"] for row in rows}
    edges, facts = [], []
    for kind in ("video", "audio"):
        for pair in _pairs(run, files, kind, search):
            one, other = pair["media_uid"], pair["other_uid"]
            if one not in has_video or other not in has_video:
                continue  # found by an earlier run among what is no longer there
            facts.append({**pair, "kind": kind})
            if kind == "video" or not (has_video[one] or has_video[other]):
                distance = round(BITS * pair["distance"])
                edges.append({"media_uid": one, "other_uid": other, "kind": f"{kind} (copy)", "distance": distance})
    facts.sort(key=lambda row: (row["media_uid"], row["other_uid"], row["kind"]))
    return (
        pa.Table.from_pylist(edges, schema=DUPLICATE_EDGES),
        pa.Table.from_pylist(facts, schema=SEGMENT_MATCHES),
    )


def _pairs(run: Run, files: Sequence[Path], kind: Kind, search: SegmentSearch) -> list[dict[str, Any]]:
    """All pairs of one kind that the pool's generations have found, each once."""
    parts = {open_part(path).identity[:NAME_DIGITS]: path for path in files}
    job = SegmentJob(
        folder=run.store.table(f"{TABLE}_{kind}"),
        settings=digest(TABLE, VERSION, kind, search.min_share),
        kind=kind,
        min_share=search.min_share,
        common=tuple(common_of(files, kind)),
    )
    grown = grow(run, job, parts, GROUP_PARTS, BUCKET_ENTRIES)
    found = [pair for path in grown.pairs for pair in read_part(path).to_pylist()]
    return list({(pair["media_uid"], pair["other_uid"]): pair for pair in found}.values())
