"""The report's segments of video and audio: a strip of frames, the picture of the sound, texts, signals and decisions.

As with pictures, the choice depends on uids alone and nothing is decoded in this process: frames and samples come from
the limited child, and what the page holds are small pictures made of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from PIL import Image

from curation.av.spectrogram import sound_picture
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, AvLimits, Frames, FrameTap, Gathered, Samples, Wanted
from pipelines import database, report_pictures
from pipelines.database import Connection
from pipelines.store import State

NUM_KEPT = 8
"""Kept segments of each modality; a page of them is about a megabyte."""
NUM_REFUSED = 24
"""Refused segments over all rules, at most `MOST_OF_A_RULE` of one."""
MOST_OF_A_RULE = 3
NUM_TEXTS = 3
"""Texts shown beside a segment; the others are counted."""
NUM_FRAMES = 6
FRAME_SHORT_SIDE_PX = 84
SHOWN_S = 30.0
"""Of a longer segment its beginning is decoded and shown, and the page says so."""
SOUND_RATE_HZ = 16_000
SOUND_COLUMNS = 360
MAX_SIGNALS = 30
LIMITS = AvLimits(max_bytes=1 << 29, timeout_s=60.0)

Rows = list[dict[str, Any]]

OF_SEGMENT = (
    "m.modality, m.url, m.start_s, m.end_s, m.duration_s, m.width_px, m.height_px, m.frame_rate_hz, m.video_codec, "
    "m.audio_codec, m.sample_rate_hz, m.num_channels"
)


def sections(con: Connection, state: State, refused: Sequence[tuple[str, Rows]]) -> dict[str, Any] | None:
    """Segments as the page shows them: {kept, refused, counts}; None of a store without segments.

    refused: for each rule the texts that are lost at it (`report_pictures.rejected_samples`).
    """
    if "sources" not in state.tables:
        return None
    kept = kept_segments(con)
    chosen = [(rule, rows[:MOST_OF_A_RULE]) for rule, rows in refused]
    chosen = [(rule, rows[: max(1, NUM_REFUSED // len(chosen))]) for rule, rows in chosen[:NUM_REFUSED]]
    lost = [row for _, rows in chosen for row in rows]
    known = facts_of(con, [row["media_uid"] for row in lost])
    for row in lost:
        row |= known[row["media_uid"]]
        row["texts"] = [{"text": row["text"], "language": row["language"], "start_s": None, "end_s": None}]
        row["num_texts"] = 1
    shown = [*kept, *lost]
    signals = signals_of(con, state, [row["media_uid"] for row in shown])
    views = looks(con, shown)
    for row in shown:
        row["signals"], row["look"] = signals.get(row["media_uid"], {}), views.get(row["media_uid"])
    return {"kept": kept, "refused": chosen, "counts": counts(con)}


def counts(con: Connection) -> Rows:
    """Segments with bytes by modality, and how many of them the policy keeps, with their length in seconds."""
    return database.rows(
        con,
        "with kept as (select distinct media_uid from decisions where kept) "
        "select m.modality, count(*) as segments, coalesce(sum(m.duration_s), 0)::double as seconds, "
        "count(k.media_uid) as kept, coalesce(sum(m.duration_s) filter (where k.media_uid is not null), 0)::double "
        "as kept_seconds, count(distinct m.source_uid) as sources "
        "from segments m left join kept k using (media_uid) where m.status = 'ok' group by all order by m.modality",
    )


def kept_segments(con: Connection) -> Rows:
    """Segments that the policy keeps, some of each modality, with some of their kept texts."""
    return database.rows(
        con,
        "with of_kept as (select distinct sample_uid, media_uid from decisions where kept), "
        f"chosen as (select c.sample_uid, c.media_uid, {OF_SEGMENT}, md5(c.sample_uid) as place "
        "from of_kept c join segments m using (media_uid) "
        "qualify row_number() over (partition by m.modality order by md5(c.sample_uid)) <= $segments) "
        "select c.*, list({text: l.text, language: l.language, start_s: l.text_start_s, end_s: l.text_end_s} "
        "order by coalesce(l.text_start_s, -1), l.text_uid)[:$texts] as texts, count(*) as num_texts "
        "from chosen c join ledger l on l.sample_uid = c.sample_uid and l.kept group by all "
        "order by c.modality desc, c.place",
        {"segments": NUM_KEPT, "texts": NUM_TEXTS},
    )


def facts_of(con: Connection, media_uids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """media_uid -> what is known of the segment."""
    rows = database.rows(
        con,
        f"select m.media_uid, {OF_SEGMENT} from segments m where list_contains($uids, m.media_uid)",
        {"uids": sorted(set(media_uids))},
    )
    return {row["media_uid"]: row for row in rows}


def signals_of(con: Connection, state: State, media_uids: Iterable[str]) -> dict[str, dict[str, str]]:
    """media_uid -> the single numbers and truth values that signals of media gave it, as text; nulls are left out."""
    uids = sorted(set(media_uids))
    found: dict[str, dict[str, str]] = {uid: {} for uid in uids}
    for table in sorted(name for name, level in state.signals.items() if level == "media"):
        name = database.quoted(table)
        kinds = database.rows(con, f"describe {name}")
        columns = [
            str(row["column_name"])
            for row in kinds
            if str(row["column_type"]).partition("(")[0] in {*database.NUMERIC, "BOOLEAN"}
        ]
        if not columns:
            continue
        wanted = ", ".join(database.quoted(column) for column in columns)
        rows = database.rows(
            con, f"select media_uid, {wanted} from {name} where list_contains($uids, media_uid)", {"uids": uids}
        )
        for row in rows:
            own = found[row["media_uid"]]
            values = {column: shown(row[column]) for column in columns if row[column] is not None}
            own |= dict(list(values.items())[: MAX_SIGNALS - len(own)])
    return found


def shown(value: object) -> str:
    """A signal's value: yes, no, or a number: three digits, and of a large one the whole."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and not math.isfinite(value):
        return "not finite"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def looks(con: Connection, rows: Rows) -> dict[str, dict[str, Any]]:
    """media_uid -> {frames, sound, shown_s, reason}: pictures as data URIs (`report_pictures.encoded`).

    frames: of a video, evenly spread, each with its time; of a sound that has a picture, that picture. sound: its
    waveform and spectrogram, None without sound. reason: why nothing can be shown.
    """
    wanted = {row["media_uid"]: row for row in rows}
    stored = database.rows(
        con, "select media_uid, bytes, frame from media where list_contains($uids, media_uid)", {"uids": sorted(wanted)}
    )
    alone = [row["media_uid"] for row in stored if wanted[row["media_uid"]]["modality"] != "video"]
    pictures = report_pictures.thumbnails(con, [row["media_uid"] for row in stored if row["media_uid"] in alone])
    found = {}
    with AvDecoder(LIMITS) as decoder:
        for row in stored:
            if row["bytes"] is not None:
                found[row["media_uid"]] = look(decoder, row["bytes"], wanted[row["media_uid"]])
    for uid, picture in pictures.items():
        if uid in found and picture["uri"]:
            found[uid]["frames"] = [picture | {"at_s": None}]
    return found


def look(decoder: AvDecoder, body: bytes, row: dict[str, Any]) -> dict[str, Any]:
    """What one segment looks and sounds like, from one decoding of at most its first `SHOWN_S` seconds."""
    shown_s = min(row["duration_s"] or SHOWN_S, SHOWN_S)
    times = tuple((place + 0.5) / NUM_FRAMES * shown_s for place in range(NUM_FRAMES))
    tap = FrameTap("times", times, short_side_px=FRAME_SHORT_SIDE_PX)
    wanted = Wanted(
        frames=(tap,) if row["video_codec"] else (),
        audio=(AudioTap(SOUND_RATE_HZ),) if row["audio_codec"] else (),
        end_s=shown_s,
    )
    outcome, got = decoder.gather(body, wanted)
    return {
        "frames": _strip(got),
        "sound": _sound(got, shown_s),
        "shown_s": shown_s if (row["duration_s"] or 0.0) > SHOWN_S + 0.1 else None,
        "reason": outcome.reason,
    }


def _strip(got: Gathered) -> Rows:
    frames: Frames | None = got.frames()
    if frames is None:
        return []
    made = []
    for pixels, at_s in zip(frames.pixels, frames.times_s.tolist(), strict=True):
        made.append(report_pictures.encoded(Image.fromarray(pixels)) | {"at_s": at_s})
    return made[:NUM_FRAMES]


def _sound(got: Gathered, shown_s: float) -> dict[str, Any] | None:
    samples: Samples | None = got.samples()
    if samples is None or not len(samples.pcm):
        return None
    pcm = samples.pcm[: round(shown_s * samples.rate_hz), 0]
    picture = Image.fromarray(sound_picture(pcm, samples.rate_hz, SOUND_COLUMNS))
    return report_pictures.encoded(picture, picture.width)
