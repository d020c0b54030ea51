"""Segment: each video or sound of a part becomes several segments; every source has at least one row.

The table `segments` has the columns of `media` (a segment is a medium: its uid, bytes, digest, status and reason) and
where it comes from. So the stages after this one take it for `media`. A source without a segment has one row without
bytes that says why, so that nothing is lost between the two tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.av.cutting_up import Segment, SegmentOptions, cut_up
from curation.av.subtitles import Cue, within
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits
from curation.schema import MEDIA, TEXTS
from curation.step import digest
from curation.table import Part, read_part, write_part
from curation.urls import uid
from pipelines.stage import AccountingError

VERSION = 1
"""Of the rules in this file and of how FFmpeg is asked."""
SEGMENTS = pa.schema(
    [
        *MEDIA,
        ("source_uid", pa.string()),  # media_uid of the medium that it is cut from
        ("start_s", pa.float64()),  # where it begins in the source; of a copy, its key frame
        ("end_s", pa.float64()),  # as decided
        ("cut_mode", pa.string()),  # copy | exact
        ("duration_s", pa.float64()),
        ("container", pa.string()),  # FFmpeg's demuxer
        ("video_codec", pa.string()),
        ("audio_codec", pa.string()),
        ("frame_rate_hz", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("num_channels", pa.int32()),
    ]
)
"""One row for each segment, and one for each source that has none."""
SEGMENT_TEXTS = pa.schema(
    [*TEXTS, ("source_text_uid", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())]
)
"""Texts of segments: those of the source (no times), and the subtitles that lie in it (times from its start)."""


def segment_key(options: SegmentOptions, limits: AvLimits) -> str:
    """Key of the step: all that decides ranges and bytes."""
    return digest("segment", VERSION, options, dataclasses.asdict(limits))


@lru_cache(maxsize=2)
def av_decoder(limits: AvLimits) -> AvDecoder:
    """This process's audio-visual decoder child, started at first use."""
    return AvDecoder(limits)


def segment_part(
    media: Path, folder: Path, index: int, key: str, options: SegmentOptions, limits: AvLimits
) -> dict[str, Any]:
    """Cut every medium of one part and publish its part of `segments`. Runs in a worker."""
    sources = read_part(media)
    rows: list[dict[str, Any]] = []
    bodies = sources.column("bytes")
    for position, source in enumerate(sources.drop_columns(["bytes"]).to_pylist()):
        rows += _rows(source, bodies[position].as_py(), options, limits)
    _reconcile(sources, rows)
    part = _publish(folder, index, key, rows)
    return {"rows": sources.num_rows, "segments": sum(row["status"] == "ok" for row in rows), "parts": part.num_rows}


def _rows(
    source: dict[str, Any], body: bytes | None, options: SegmentOptions, limits: AvLimits
) -> list[dict[str, Any]]:
    """The rows of one source, its own failure included."""
    if source["status"] != "ok" or body is None:
        return [_row(source, None) | {name: source[name] for name in ("status", "reason", "detail")}]
    return [_row(source, segment) for segment in cut_up(av_decoder(limits), body, source["media_uid"], options)]


def _row(source: dict[str, Any], segment: Segment | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SEGMENTS.names)
    row |= {name: source[name] for name in ("url", "final_url", "role", "modality", "consent", "http_status")}
    row |= {"source_uid": source["media_uid"], "status": "failed"}
    found = None if segment is None else segment.uid
    # A source without segments keeps a name of its own in the ledger.
    row["media_uid"] = found or uid("no segment", source["media_uid"])
    row["sample_uid"] = uid("sample", row["media_uid"])
    if segment is None:
        return row
    row |= {"reason": segment.reason, "detail": segment.detail}
    if segment.probe is not None:
        shared = ("duration_s", "container", "video_codec", "audio_codec", "frame_rate_hz", "sample_rate_hz")
        row |= {name: getattr(segment.probe, name) for name in (*shared, "num_channels", "width_px", "height_px")}
    if segment.span is not None and segment.cut is not None:
        start = segment.cut.start_s
        row |= {"start_s": segment.span.start_s if start is None else start, "end_s": segment.span.end_s}
        row |= {"cut_mode": segment.cut.mode, "num_frames": segment.cut.num_frames}
        if segment.reason is None and segment.cut.body is not None:
            sha256 = hashlib.sha256(segment.cut.body).hexdigest()
            row |= {"status": "ok", "sha256": sha256, "stored_sha256": sha256, "bytes": segment.cut.body}
            row["size_bytes"] = len(segment.cut.body)
    return row


def _reconcile(sources: pa.Table, rows: list[dict[str, Any]]) -> None:
    """Every source has rows, no segment is there twice. Raises AccountingError."""
    lost = set(sources.column("media_uid").to_pylist()) - {row["source_uid"] for row in rows}
    twice = [name for name, count in Counter(row["media_uid"] for row in rows).items() if count > 1]
    if lost or twice:
        raise AccountingError(f"segment: {len(lost)} sources have no row, {len(twice)} segments are there twice")


def _publish(folder: Path, index: int, key: str, rows: list[dict[str, Any]]) -> Part:
    table = pa.Table.from_pylist(rows, schema=SEGMENTS)
    outcome = table.select(["media_uid", "status", "reason", "stored_sha256"])
    return write_part(
        folder,
        index,
        key,
        table,
        identity=digest("segments", outcome.to_pylist()),
        stats={
            "status": dict(Counter(row["status"] for row in rows)),
            "reasons": dict(Counter(row["reason"] for row in rows if row["reason"])),
        },
        plain=["bytes"],
    )


def segment_texts(
    segments: pa.Table, texts: list[dict[str, Any]], source_sample: dict[str, str], cues: dict[str, list[Cue]]
) -> pa.Table:
    """Texts for the segments: each text of the source on each of its segments, and each subtitle on the one it lies in.

    segments: rows of `segments`. texts: rows of `texts` of the sources. source_sample: source's media_uid -> its
    sample_uid there. cues: source's media_uid -> its subtitles.
    """
    by_sample: dict[str, list[dict[str, Any]]] = {}
    for text in texts:
        by_sample.setdefault(text["sample_uid"], []).append(text)
    rows = []
    for segment in segments.select(["media_uid", "sample_uid", "source_uid", "status", "start_s", "end_s"]).to_pylist():
        own = by_sample.get(source_sample.get(segment["source_uid"], ""), [])
        found = [{**text, "source_text_uid": text["text_uid"], "start_s": None, "end_s": None} for text in own]
        if segment["status"] == "ok":
            for cue in within(cues.get(segment["source_uid"], []), segment["start_s"], segment["end_s"]):
                found.append(_subtitle(cue))
        for position, text in enumerate(found):
            place = "" if text["start_s"] is None else f"{text['start_s']:.3f}"
            text |= {"sample_uid": segment["sample_uid"], "position": position}
            text["text_uid"] = uid(
                "text", segment["sample_uid"], place, text["text"] or "", str(text["source_text_uid"])
            )
            rows.append(text)
    return pa.Table.from_pylist(rows, schema=SEGMENT_TEXTS)


def _subtitle(cue: Cue) -> dict[str, Any]:
    return {
        "text": cue.text,
        "text_source": "subtitle",
        "language_claimed": cue.language,
        "languages_claimed": [cue.language] if cue.language else [],
        "source_text_uid": None,
        "start_s": cue.start_s,
        "end_s": cue.end_s,
    }
