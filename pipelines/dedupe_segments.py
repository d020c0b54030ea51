"""Copies among the segments of a pool, by their fingerprints in time: pairs with offsets, and which make groups.

What two segments share is a fact and is kept (view `segment_matches`); which pairs make duplicates of each other is the
rule of `curation.duplicate_search.SegmentSearch`.

All fingerprints are held at once, some 0.25 kB for a second of video with sound, and the search is done anew when the
pool has grown: meant for pools of up to some 100,000 segments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from curation.av.copies import AUDIO_RULE, VIDEO_RULE, Match, Track, copies
from curation.duplicate_search import SegmentSearch
from curation.signals.media_fingerprint import audio_track, video_track
from pipelines import database
from pipelines.views import DUPLICATE_EDGES, SEGMENT_MATCHES

VERSION = 1
"""Of the rules in this file and in curation/av/copies.py that decide pairs."""
BITS = 64
"""In which the distance of an edge is told, as that of pictures is."""
COLUMNS = ("video_fingerprint", "video_known", "audio_fingerprint", "audio_known", "audio_start_s")


def find_matches(con: database.Connection, search: SegmentSearch) -> tuple[pa.Table, pa.Table]:
    """(edges between duplicates, everything that segments have in common). con: with the view `found` of segments."""
    columns = ", ".join(COLUMNS)
    rows = database.rows(con, f"select media_uid, {columns} from found order by media_uid")
    matches = [("video", *each) for each in _of(rows, "video", search)]
    matches += [("audio", *each) for each in _of(rows, "audio", search)]
    has_video = {row["media_uid"]: row["video_fingerprint"] is not None for row in rows}
    edges, facts = [], []
    for kind, one, other, match in matches:
        facts.append(
            {"media_uid": one, "other_uid": other, "kind": kind, "offset_s": match.offset_s,
             "overlap_s": match.overlap_s, "distance": match.distance}
        )  # fmt: skip
        if kind == "video" or not (has_video[one] or has_video[other]):
            distance = round(BITS * match.distance)
            edges.append({"media_uid": one, "other_uid": other, "kind": f"{kind} (copy)", "distance": distance})
    facts.sort(key=lambda row: (row["media_uid"], row["other_uid"], row["kind"]))
    return (
        pa.Table.from_pylist(edges, schema=DUPLICATE_EDGES),
        pa.Table.from_pylist(facts, schema=SEGMENT_MATCHES),
    )


def _of(rows: Sequence[dict[str, Any]], kind: str, search: SegmentSearch) -> list[tuple[str, str, Match]]:
    """Pairs of segments that share a stretch of their pictures or of their sound."""
    there = [row for row in rows if row[f"{kind}_fingerprint"]]
    rule = dataclasses.replace(VIDEO_RULE if kind == "video" else AUDIO_RULE, min_share=search.min_share)
    found = copies([_track(row, kind) for row in there], rule)
    return [(there[match.a]["media_uid"], there[match.b]["media_uid"], match) for match in found]


def _track(row: dict[str, Any], kind: str) -> Track:
    if kind == "video":
        return video_track(row["video_fingerprint"], row["video_known"])
    return audio_track(row["audio_fingerprint"], row["audio_known"], row["audio_start_s"])
