"""One part of the texts of segments: what is said of a source is said of each of its segments, subtitles of those they
lie in.

Every text of a source has at least one row on every segment of that source (an audit counts them): a plain text one
row; a file of subtitles one row for each cue that lies in the segment, or, where none does, one without a text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.av.subtitles import Cue, parse, within
from curation.schema import SEGMENT_TEXTS, TEXTS
from curation.step import digest
from curation.table import read_part, write_part
from curation.urls import uid

VERSION = 2
"""Of the rules in this file."""
FROM_WITHIN = "subtitle track"
"""`text_source` of subtitles that the medium itself holds."""
OF_SEGMENTS = ["media_uid", "sample_uid", "source_uid", "status", "start_s", "end_s", "subtitles"]


def segment_texts_part(
    segments: Path, media: Path, texts: Path, folder: Path, index: int, key: str, timed: Collection[str]
) -> dict[str, Any]:
    """Publish one part of the texts of segments. Runs in a worker.

    segments, media, texts: the parts of segments, of the sources that they are cut from, and of the sources' texts.
    timed: text columns (`text_source`) that hold whole subtitle files.
    """
    owners = read_part(media, ["media_uid", "sample_uid"]).to_pylist()
    made = segment_texts(
        read_part(segments, OF_SEGMENTS),
        read_part(texts),
        {owner["media_uid"]: owner["sample_uid"] for owner in owners},
        timed,
    )
    write_part(folder, index, key, made, identity=digest("segment texts", made.to_pylist()))
    return {"rows": made.num_rows}


def segment_texts(
    segments: pa.Table, texts: pa.Table, source_sample: dict[str, str], timed: Collection[str] = ()
) -> pa.Table:
    """Texts for the segments, in their order. source_sample: media_uid of a source -> its sample_uid."""
    extra = [field for field in texts.schema if field.name not in SEGMENT_TEXTS.names]
    schema = pa.schema([*SEGMENT_TEXTS, *extra])
    own: dict[str, list[dict[str, Any]]] = {}
    cues: dict[str, list[Cue]] = {}
    for text in texts.to_pylist():
        own.setdefault(text["sample_uid"], []).append(text)
        if text["text_source"] in timed and text["text"] is not None:
            cues[text["text_uid"]] = parse(text["text"], text["language_claimed"])[0]
    rows: list[dict[str, Any]] = []
    for segment in segments.select(OF_SEGMENTS).to_pylist():
        found: dict[str, dict[str, Any]] = {}
        for text in _said_of(segment, own.get(source_sample[segment["source_uid"]], []), cues):
            name = _uid(segment["sample_uid"], text)
            found.setdefault(name, text | {"text_uid": name, "sample_uid": segment["sample_uid"]})
        rows += [text | {"position": position} for position, text in enumerate(found.values())]
    return pa.Table.from_pylist(rows, schema=schema)


def _said_of(
    segment: dict[str, Any], own: list[dict[str, Any]], cues: dict[str, list[Cue]]
) -> Iterator[dict[str, Any]]:
    is_cut = segment["status"] == "ok"
    for text in own:
        plain = text | {"source_text_uid": text["text_uid"], "text_start_s": None, "text_end_s": None}
        if text["text_uid"] not in cues:
            yield plain
            continue
        inside = within(cues[text["text_uid"]], segment["start_s"], segment["end_s"]) if is_cut else []
        for cue in inside:
            yield plain | {"text": cue.text, "text_start_s": cue.start_s, "text_end_s": cue.end_s}
        if not inside:
            yield plain | {"text": None}
    for each in segment["subtitles"] or []:
        language = each["language"]
        yield dict.fromkeys(TEXTS.names) | {
            "text": each["text"],
            "text_source": FROM_WITHIN,
            "language_claimed": language,
            "languages_claimed": [language] if language else [],
            "source_text_uid": None,
            "text_start_s": each["start_s"],
            "text_end_s": each["end_s"],
        }


def _uid(sample: str, text: dict[str, Any]) -> str:
    start = "" if text["text_start_s"] is None else f"{text['text_start_s']:.3f}"
    of = text["source_text_uid"] or f"{FROM_WITHIN} {text['language_claimed'] or ''}"
    return uid("text", sample, start, text["text"] or "", of)
