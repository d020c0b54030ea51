"""One part of `segments`: each video or sound of a part of sources becomes several; every source has at least one row.

The table has the columns of `media` (a segment is a medium: its uid, bytes, digest, status and reason) and where it
comes from. So the stages after this one take it for `media`. A source without a segment has one row without bytes that
says why, so that nothing is lost between the two tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.av.cutting_up import Segment, SegmentOptions, cut_up
from curation.av.stills import SHORT_SIDE_PX, as_jpeg
from curation.av.subtitles import Cue, from_packets, within
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits, FrameTap, Wanted
from curation.reasons import DECODER_DEATHS
from curation.schema import SEGMENTS
from curation.step import digest
from curation.table import Part, read_groups, read_part, write_part
from curation.urls import uid
from pipelines.spool import Place, Spool
from pipelines.stage import AccountingError
from pipelines.takedowns import Takedowns, taken

VERSION = 9
"""Of the rules in this file and of how FFmpeg is asked."""
PICTURE = "picture"
"""`role` of the picture beside a sound: it is no source of segments."""
GROUP_BYTES = 64 << 20
"""Of media in a row group: what a worker that reads the segments one group at a time holds."""
GROUP_ROWS = 250


def segment_key(options: SegmentOptions, limits: AvLimits) -> str:
    """Key of the step: all that decides ranges and bytes."""
    return digest("segment", VERSION, options, dataclasses.asdict(limits))


@lru_cache(maxsize=2)
def av_decoder(limits: AvLimits) -> AvDecoder:
    """This process's audio-visual decoder child, started at first use."""
    return AvDecoder(limits)


def segment_part(
    media: Path,
    folder: Path,
    index: int,
    key: str,
    options: SegmentOptions,
    limits: AvLimits,
    fatal: Mapping[str, tuple[str, str | None]] | None = None,
) -> dict[str, Any]:
    """Cut every medium of one part and publish its part of `segments`. Runs in a worker.

    In memory are one row group of sources, the segments of one source, and one row group of segments.
    fatal: SHA-256 of bytes that killed decoders while other parts were made -> reason and detail; they get the same,
    untried. A segment with bytes that were taken down from the store is refused.
    """
    av_decoder(limits).fatal.update(fatal or {})
    rows: list[dict[str, Any]] = []
    uids: list[str] = []
    takedowns = Takedowns.of(folder.parent.parent)
    with Spool(folder) as spool:
        pictures = _pictures(media, spool)
        for sources in read_groups(media):
            bodies = sources.column("bytes")
            for position, source in enumerate(sources.drop_columns(["bytes"]).to_pylist()):
                if source["role"] == PICTURE:
                    continue
                uids.append(source["media_uid"])
                for row in _rows(source, bodies[position].as_py(), options, limits):
                    if row["sha256"] in takedowns.hashes:
                        row = dict.fromkeys(SEGMENTS.names) | taken(row, row["sha256"])
                    row["bytes"] = None if row["bytes"] is None else spool.put(row["bytes"])
                    if row["bytes"] is not None and row["frame"] is None and source["sample_uid"] in pictures:
                        row["picture_uid"], place = pictures[source["sample_uid"]]
                        row["frame"] = spool.get(place)
                    rows.append(row)
        _reconcile(uids, rows)
        part = _publish(folder, index, key, rows, spool, len(uids))
    return {"rows": len(uids), "segments": sum(row["status"] == "ok" for row in rows), "segment_rows": part.num_rows}


def _pictures(media: Path, spool: Spool) -> dict[str, tuple[str, Place]]:
    """sample_uid of a sound -> media_uid and bytes of the picture beside it, where that was fetched."""
    found: dict[str, tuple[str, Place]] = {}
    if PICTURE not in read_part(media, ["role"]).column(0).to_pylist():
        return found
    for group in read_groups(media, ["sample_uid", "media_uid", "role", "bytes"]):
        for row in group.filter(pc.equal(group.column("role"), PICTURE)).to_pylist():
            if row["bytes"] is not None:
                found[row["sample_uid"]] = row["media_uid"], spool.put(row["bytes"])
    return found


def _rows(
    source: dict[str, Any], body: bytes | None, options: SegmentOptions, limits: AvLimits
) -> list[dict[str, Any]]:
    """The rows of one source, its own failure included."""
    if source["status"] != "ok" or body is None:
        return [_row(source, None) | {name: source[name] for name in ("status", "reason", "detail", "sha256")}]
    decoder = av_decoder(limits)
    rows = [_row(source, segment) for segment in cut_up(decoder, body, source["media_uid"], options)]
    cues = from_packets(decoder.texts(body)[1])[0] if any(row["status"] == "ok" for row in rows) else []
    for row in rows:
        if row["status"] == "ok":
            row["frame"] = row["frame"] or _middle_picture(decoder, row)
            row["subtitles"] = [dataclasses.asdict(cue) for cue in _of_segment(cues, row)]
    return _without_killers(source, body, rows, decoder)


def _without_killers(
    source: dict[str, Any], body: bytes, rows: list[dict[str, Any]], decoder: AvDecoder
) -> list[dict[str, Any]]:
    """The rows, but none of a source that killed its decoders, whenever that was: so that its copies, which are not
    tried, get the same row. A segment that did so has its reason and no bytes. `sha256` is that of what killed."""
    death = decoder.death_of(body)
    if death is not None:
        dead = Segment(None, reason=death[0], detail=death[1])
        return [_row(source, dead) | {"sha256": hashlib.sha256(body).hexdigest()}]
    for row in rows:
        death = None if row["bytes"] is None else decoder.death_of(row["bytes"])
        if death is not None:
            row |= {"status": "failed", "reason": death[0], "detail": death[1]}
            row |= dict.fromkeys(("bytes", "stored_sha256", "size_bytes", "frame", "subtitles"))
            row |= dict.fromkeys(("picture_track", "motion_track"))
    return rows


def _of_segment(cues: list[Cue], row: dict[str, Any]) -> list[Cue]:
    return within(cues, row["start_s"], row["end_s"])


def _middle_picture(decoder: AvDecoder, row: dict[str, Any]) -> bytes | None:
    """The picture shown in the middle of a segment of whose source no still is there, as JPEG; None if it has none."""
    if row["modality"] != "video":
        return None
    middle_s = (row["duration_s"] or 0.0) / 2
    tap = FrameTap("times", (middle_s,), short_side_px=SHORT_SIDE_PX)
    for start_s in (middle_s, 0.0):  # from the key frame before it, or else from the front
        _, got = decoder.gather(row["bytes"], Wanted(frames=(tap,), start_s=start_s, end_s=middle_s + 1.0))
        frames = got.frames()
        if frames is not None and len(frames.pixels):
            break
    else:
        return None
    return as_jpeg(frames.pixels[0])


def _row(source: dict[str, Any], segment: Segment | None) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SEGMENTS.names)
    row |= {name: source[name] for name in ("url", "final_url", "role", "modality", "consent", "http_status")}
    row |= {"source_uid": source["media_uid"], "status": "failed", "replaced_sha256": source["replaced_sha256"]}
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
        # a stream of which nothing can be decoded is none
        row["video_codec"] = row["video_codec"] if segment.probe.has_video else None
        row["audio_codec"] = row["audio_codec"] if segment.probe.has_audio else None
        row["modality"] = (
            "video" if segment.probe.has_video else "audio" if segment.probe.has_audio else row["modality"]
        )
    if segment.span is not None and segment.cut is not None:
        start = segment.cut.start_s
        row |= {"start_s": segment.span.start_s if start is None else start, "end_s": segment.span.end_s}
        row |= {"cut_mode": segment.cut.mode, "num_frames": segment.cut.num_frames}
        if segment.cut.body is not None and (segment.reason is None or segment.reason in DECODER_DEATHS):
            row["sha256"] = hashlib.sha256(segment.cut.body).hexdigest()
        if segment.cut.body is not None and segment.reason is None:
            row |= {"status": "ok", "stored_sha256": row["sha256"], "bytes": segment.cut.body}
            row["size_bytes"] = len(segment.cut.body)
            if segment.track is not None:
                row["picture_track"], row["motion_track"] = segment.track.as_bytes()
            row["frame"] = segment.frame
    return row


def _reconcile(sources: Iterable[str], rows: list[dict[str, Any]]) -> None:
    """Every source has rows, no segment is there twice. Raises AccountingError."""
    lost = set(sources) - {row["source_uid"] for row in rows}
    twice = [name for name, count in Counter(row["media_uid"] for row in rows).items() if count > 1]
    if lost or twice:
        raise AccountingError(f"segment: {len(lost)} sources have no row, {len(twice)} segments are there twice")


def _publish(folder: Path, index: int, key: str, rows: list[dict[str, Any]], spool: Spool, num_sources: int) -> Part:
    outcome = ("media_uid", "status", "reason", "stored_sha256", "picture_uid")
    return write_part(
        folder,
        index,
        key,
        pa.RecordBatchReader.from_batches(SEGMENTS, _row_groups(rows, spool)),
        identity=digest("segments", [{name: row[name] for name in outcome} for row in rows]),
        stats={
            "status": dict(Counter(row["status"] for row in rows)),
            "reasons": dict(Counter(row["reason"] for row in rows if row["reason"])),
            "sources": num_sources,
        },
        plain=["bytes", "frame", "picture_track"],
    )


def _row_groups(rows: list[dict[str, Any]], spool: Spool) -> Iterator[pa.RecordBatch]:
    group: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        more = 0 if row["bytes"] is None else row["bytes"].size
        if group and (size + more > GROUP_BYTES or len(group) == GROUP_ROWS):
            yield pa.RecordBatch.from_pylist(group, schema=SEGMENTS)
            group, size = [], 0
        group.append(row if row["bytes"] is None else row | {"bytes": spool.get(row["bytes"])})
        size += more
    yield pa.RecordBatch.from_pylist(group, schema=SEGMENTS)
