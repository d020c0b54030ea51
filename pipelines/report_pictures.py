"""The report's pictures: which few samples and duplicate groups are shown, and their thumbnails as data URIs.

The choice depends on uids alone. Nothing is decoded in this process: the bytes are strangers', and so is each name.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable
from typing import Any

from PIL import Image

from curation.media.decode import Decoder
from pipelines import database
from pipelines.database import Connection

THUMBNAIL_PX = 128
"""Longer side of a thumbnail: twice what the page shows, for fine screens."""
NUM_KEPT = 35
NUM_REJECTED = 63
"""Rejected pictures over all rules; each rule gets its share, at most `MOST_OF_A_RULE`: one row of the page."""
MOST_OF_A_RULE = 7
GROUPS_BY_SIZE, GROUPS_BY_DISTANCE, GROUPS_BY_UID = 2, 4, 6
"""Duplicate groups: the largest, those joined over the largest distances (the doubtful ones), and a plain sample."""
MEMBERS_SHOWN = 4
NUM_TEXTS = 2
"""Captions shown below a kept picture; the others are counted."""

Rows = list[dict[str, Any]]


def kept_samples(con: Connection) -> Rows:
    """Samples that the policy keeps, with some of their kept texts: {sample_uid, media_uid, ..., texts, num_texts}."""
    return database.rows(
        con,
        "with chosen as (select sample_uid, any_value(media_uid) as media_uid from decisions where kept "
        "group by sample_uid order by md5(sample_uid) limit $samples) "
        "select c.sample_uid, c.media_uid, m.url, m.width_px, m.height_px, m.image_format, "
        "list({text: l.text, language: l.language, clip_score: l.clip_score} order by l.text_uid)[:$texts] as texts, "
        "count(*) as num_texts, md5(c.sample_uid) as place "
        "from chosen c join media m on m.sample_uid = c.sample_uid and m.role = 'primary' "
        "join ledger l on l.sample_uid = c.sample_uid and l.kept group by all order by place",
        {"samples": NUM_KEPT, "texts": NUM_TEXTS},
    )


def rejected_samples(con: Connection, rules: list[str]) -> list[tuple[str, Rows]]:
    """For each rule downloaded samples that are lost at it, if possible by it alone, with the values that it saw.

    At most one of a duplicate group. Rules that reject duplicates are left out: `duplicate_strips` shows their work.
    """
    rows = database.rows(
        con,
        "with lost as (select d.* exclude (saw), d.rejected_by[1] as rule, d.saw[1] as saw, "
        "l.text, l.language, m.width_px, m.height_px, m.image_format "
        "from decisions d join ledger l using (text_uid) join media m on m.media_uid = d.media_uid and m.status = 'ok' "
        """where not d.kept and not contains(d.saw[1], '"duplicate_of":') """
        "qualify row_number() over (partition by d.rejected_by[1], coalesce(d.duplicate_group, d.sample_uid) "
        "order by len(d.rejected_by), d.text_uid) = 1) "
        "select * from lost "
        "qualify row_number() over (partition by rule order by len(rejected_by), md5(text_uid)) <= $most "
        "order by len(rejected_by), md5(text_uid)",
        {"most": MOST_OF_A_RULE},
    )
    for row in rows:
        row["saw"] = _saw(json.loads(row["saw"]))
    by_rule = ((rule, [row for row in rows if row["rule"] == rule]) for rule in rules)
    shown = [(rule, found) for rule, found in by_rule if found]
    return [(rule, found[: max(1, NUM_REJECTED // len(shown))]) for rule, found in shown[:NUM_REJECTED]]


def _saw(values: dict[str, Any]) -> dict[str, str]:
    """The values as text, without a `top` rule's score where it is just the one column that it reads."""
    if len(values) == 2 and len(set(map(str, values.values()))) == 1:
        values = {name: value for name, value in values.items() if name != "value"}
    return {name: _shown(value) for name, value in values.items()}


def _shown(value: object) -> str:
    if value is None:
        return "no value"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def duplicate_strips(con: Connection) -> Rows:
    """Duplicate groups, largest first: {duplicate_group, media, members}, the survivor being the first member.

    A member has the kind and distance (Hamming, of 64 bits) of the pair that joins it, if possible to the survivor.
    """
    groups = database.rows(
        con,
        "with numbered as (select *, row_number() over (order by media desc, duplicate_group) as by_size, "
        "row_number() over (order by largest_distance desc nulls last, duplicate_group) as by_distance, "
        f"row_number() over (order by md5(duplicate_group)) as by_uid from ({database.query('report/duplicate_groups')}"
        "\n)) select duplicate_group, media from numbered "
        "where by_size <= $size or (by_distance <= $distance and largest_distance > 0) or by_uid <= $uid "
        "order by media desc, duplicate_group",
        {"size": GROUPS_BY_SIZE, "distance": GROUPS_BY_DISTANCE, "uid": GROUPS_BY_UID},
    )
    members = database.rows(
        con,
        "with survivors as (select distinct duplicate_group, duplicate_of as sample_uid from decisions "
        "where duplicate_of is not null), "
        "members as (select d.duplicate_group, m.*, s.sample_uid is not null as survives from duplicates d "
        "join (select media_uid, sample_uid, url, width_px, height_px, image_format, size_bytes from media) m "
        "using (media_uid) left join survivors s on s.duplicate_group = d.duplicate_group "
        "and s.sample_uid = m.sample_uid where list_contains($groups, d.duplicate_group)), "
        "pairs as (select media_uid, other_uid, kind, distance from duplicate_edges "
        "union all select other_uid, media_uid, kind, distance from duplicate_edges), "
        # of several kinds at one distance the exact ones say more; they come last in the alphabet
        "nearest as (select a.media_uid, first({kind: p.kind, distance: p.distance} "
        "order by coalesce(b.survives, false) desc, p.distance, p.kind desc) as pair "
        "from members a join pairs p using (media_uid) left join members b on b.media_uid = p.other_uid group by all) "
        "select * from members left join nearest using (media_uid) "
        "qualify row_number() over (partition by duplicate_group "
        "order by survives desc, pair.distance desc nulls last, md5(media_uid)) <= $members "
        "order by survives desc, pair.distance desc nulls last, md5(media_uid)",
        {"groups": [group["duplicate_group"] for group in groups], "members": MEMBERS_SHOWN},
    )
    for group in groups:
        group["members"] = [each for each in members if each["duplicate_group"] == group["duplicate_group"]]
    return groups


def thumbnails(con: Connection, media_uids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of each medium with bytes a thumbnail {uri, width_px, height_px} or why there is none {uri: None, reason}.

    Decoded in a child process; a picture that was packed under older limits may be refused by today's.
    """
    wanted = sorted(set(media_uids))
    if not wanted:
        return {}
    there = {str(row["column_name"]) for row in database.rows(con, "describe media")}
    column = "frame" if "frame" in there else "bytes"  # of a segment the picture in its middle
    rows = database.rows(
        con,
        f"select media_uid, {column} as bytes from media "
        f"where list_contains($uids, media_uid) and {column} is not null",
        {"uids": wanted},
    )
    found = {}
    with Decoder() as decoder:
        for row in rows:
            decoded = decoder.decode(row["bytes"], short_side_px=THUMBNAIL_PX)
            shown = {"reason": decoded.reason} if decoded.pixels is None else encoded(Image.fromarray(decoded.pixels))
            found[str(row["media_uid"])] = {"uri": None, "reason": None, **shown}
    return found


def encoded(picture: Image.Image, side_px: int = THUMBNAIL_PX) -> dict[str, Any]:
    """A copy of at most `side_px` as a data URI: PNG where that is smaller (drawings, flat colours), else JPEG."""
    picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    files = {}
    for kind, options in (("jpeg", {"quality": 80, "optimize": True}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        files[kind] = buffer.getvalue()
    kind = min(files, key=lambda each: len(files[each]))
    uri = f"data:image/{kind};base64,{base64.b64encode(files[kind]).decode()}"
    return {"uri": uri, "width_px": picture.width, "height_px": picture.height}
