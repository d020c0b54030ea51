"""What a story tells of segments: the source that one is cut from, all segments of a source, and what two share."""

from __future__ import annotations

from typing import Any

from curation.urls import canonical_url, uid
from pipelines import database

MAX_SEGMENTS = 50
MAX_MATCHES = 20


def story_of_source(con: database.Connection, what: str) -> list[str] | None:
    """The story of the source that `what` (its media_uid, sample_uid or URL) names: its segments and what became of
    each; None where it names none, as in a pool of pictures."""
    canonical = canonical_url(what)[0] if "://" in what else None
    found = database.rows(
        con,
        # of a picture beside a sound, the sound's
        "with named as (select sample_uid from sources where media_uid = $a or sample_uid in ($a, $b) or url = $a "
        "or final_url = $a or split_part(url, '?sha256=', 1) = $a order by role <> 'primary', media_uid limit 1) "
        "select s.* exclude (bytes) from sources s join named using (sample_uid) where s.role = 'primary'",
        {"a": what, "b": uid("sample", canonical or what)},
    )
    if not found:
        return None
    source = found[0]
    shown = {name: value for name, value in source.items() if value is not None and name not in ("role",)}
    lines = [
        f"source {source['media_uid']}",
        "link and fetch",
        *(f"  {name}: {value}" for name, value in shown.items()),
    ]
    beside = database.rows(
        con,
        "select url, status, reason, width_px, height_px from sources where sample_uid = ? and role = 'picture'",
        [source["sample_uid"]],
    )
    for picture in beside:
        known = (f"{name} {value}" for name, value in picture.items() if value is not None)
        lines.append(f"picture beside it: {', '.join(known)}")
    said = database.rows(con, "select text, text_source from source_texts where sample_uid = ?", [source["sample_uid"]])
    lines += [f"text ({text['text_source']}): {text['text']!r}" for text in said]
    segments = database.rows(
        con,
        "select s.sample_uid, s.start_s, s.end_s, s.status, s.reason, s.detail, count(l.text_uid) as texts, "
        "count(*) filter (where l.kept) as kept, list_sort(list_distinct(flatten(list(l.rejected_by)))) as rules "
        "from segments s left join ledger l using (sample_uid) where s.source_uid = ? "
        "group by all order by s.start_s, s.sample_uid",
        [source["media_uid"]],
    )
    lines.append("segments")
    lines += [_line(row) for row in segments[:MAX_SEGMENTS]] or ["  not cut yet"]
    if len(segments) > MAX_SEGMENTS:
        lines.append(
            f"  ... and {len(segments) - MAX_SEGMENTS} more; `tamis sql STORE` has them in the view `segments`"
        )
    return lines


def _line(row: dict[str, Any]) -> str:
    if row["status"] != "ok":
        place = "none" if row["start_s"] is None else f"{row['start_s']:.2f} to {row['end_s']:.2f} s"
        return f"  {place}: {row['reason']} ({row['detail'] or 'no detail'}); sample {row['sample_uid']}"
    became = f"{row['kept']} of {row['texts']} texts kept"
    became += f", rejected by {', '.join(row['rules'])}" if row["rules"] else ""
    return f"  {row['start_s']:.2f} to {row['end_s']:.2f} s: {became}; sample {row['sample_uid']}"


def cut_from(con: database.Connection, medium: dict[str, Any]) -> list[str]:
    """Where a segment comes from; nothing for a medium that is no segment."""
    if medium.get("source_uid") is None:
        return []
    sources = database.rows(
        con,
        "select url, status, reason, size_bytes, http_status from sources where media_uid = ?",
        [medium["source_uid"]],
    )
    of = ", ".join(f"{name} {value}" for name, value in (sources[0] if sources else {}).items() if value is not None)
    return [f"cut from source {medium['source_uid']}: {of}"]


def in_common(con: database.Connection, medium: str) -> list[str]:
    """What a segment shares with others, with the offset in time, the longest first."""
    rows = database.rows(
        con,
        "select e.kind, e.overlap_s, e.distance, s.url, s.start_s, s.sample_uid, "
        "case when e.media_uid = $m then e.offset_s else -e.offset_s end as offset_s from segment_matches e "
        "join segments s on s.media_uid = case when e.media_uid = $m then e.other_uid else e.media_uid end "
        f"where e.media_uid = $m or e.other_uid = $m order by e.overlap_s desc, s.sample_uid limit {MAX_MATCHES}",
        {"m": medium},
    )
    return [_shared(row) for row in rows]


def _shared(row: dict[str, Any]) -> str:
    later = f"{abs(row['offset_s']):.2f} s {'later' if row['offset_s'] >= 0 else 'earlier'} there"
    where = f"the segment from {row['start_s']:.2f} s of {row['url']}"
    same = f"{row['overlap_s']:.2f} s of the same {row['kind']}"
    return f"  {same} as {where}, {later} ({row['distance']:.3f} of the bits differ)"
