"""Why: one sample's whole story, from the link to the versions that hold it."""

from __future__ import annotations

import json
from typing import Any

from curation.urls import canonical_url, uid
from pipelines import database
from pipelines.report_tables import explained
from pipelines.selections import decided_policy
from pipelines.sources import SourceError
from pipelines.store import Store
from pipelines.views import open_store
from pipelines.why_duplicates import contamination, near_meanings, near_texts
from pipelines.why_segments import cut_from, in_common, story_of_source

MAX_TEXTS = 20
"""Texts whose story is told in full; the others are counted."""
LONG = 160


def story(store: Store, what: str) -> str:
    """The story of the sample that `what` names: a uid or a URL. Raises SourceError if there is none."""
    con = open_store(store)
    source = story_of_source(con, what)
    if source is not None:
        return "\n".join(map(_short_line, source))
    sample = _find(con, what)
    lines = [f"sample {sample}"]
    media = database.rows(
        con, "select * exclude (bytes) from media where sample_uid = ? and role = 'primary'", [sample]
    )
    if not media:
        link = database.rows(con, "select count(*) as texts from texts where sample_uid = ?", [sample])
        return "\n".join([*lines, f"  not downloaded yet; {link[0]['texts']} texts"])
    medium = media[0]
    lines.append("link and fetch")
    lines += _fields({name: medium[name] for name in medium if name not in ("sample_uid", "role", "modality")})
    lines += map(_short_line, cut_from(con, medium))
    signals = store.state().signals
    for table in sorted(name for name, level in signals.items() if level == "media"):
        found = database.rows(
            con,
            f"select * exclude (media_uid) from {database.quoted(table)} where media_uid = ?",
            [medium["media_uid"]],
        )
        # none where a run was ended between download and score
        lines += [f"signal {table}", *(_fields(found[0]) if found else ["  not computed yet"])]
    lines += _duplicates(con, str(medium["media_uid"]))
    lines += map(_short, near_meanings(con, str(medium["media_uid"])))
    texts = database.rows(con, "select * from texts where sample_uid = ? order by position", [sample])
    chosen = sorted(texts, key=lambda text: text["text_uid"] != what)[:MAX_TEXTS]
    asked = {item.name: " ".join(explained(item).split()) for item in decided_policy(store)}
    for text in chosen:
        lines += _text(con, text, [table for table, level in sorted(signals.items()) if level == "text"], asked)
    if len(texts) > len(chosen):
        lines.append(f"... and {len(texts) - len(chosen)} more texts; name one by its text_uid to see it")
    return "\n".join(lines)


def _find(con: database.Connection, what: str) -> str:
    canonical = canonical_url(what)[0] if "://" in what else None
    candidates = [what, uid("sample", canonical or what)]
    rows = database.rows(
        con,
        "select sample_uid from texts where sample_uid in ($a, $b) or text_uid = $a "
        "union select sample_uid from media where media_uid = $a or url = $a or final_url = $a limit 1",
        {"a": candidates[0], "b": candidates[1]},
    )
    if not rows:
        raise SourceError(f"the pool has no sample, text, medium or URL {_short(what)!r}")
    return str(rows[0]["sample_uid"])


def _duplicates(con: database.Connection, medium: str) -> list[str]:
    rows = database.rows(con, "select duplicate_group from duplicates where media_uid = ?", [medium])
    group = rows[0]["duplicate_group"] if rows else None
    if group is None:
        return ["duplicates", "  none"]
    lines = ["duplicates", f"  group {group}"]
    edges = database.rows(
        con,
        "select e.kind, e.distance, m.url from duplicate_edges e "
        "join media m on m.media_uid = case when e.media_uid = $m then e.other_uid else e.media_uid end "
        "where e.media_uid = $m or e.other_uid = $m order by e.distance, m.url",
        {"m": medium},
    )
    for edge in edges:
        if edge["kind"].startswith(("picture", "video", "audio")):
            how_near = "" if edge["distance"] is None else f" at distance {edge['distance']}"
            lines.append(f"  near-duplicate of {edge['url']}{how_near}, by {edge['kind']}")
        else:
            lines.append(f"  the same {edge['kind']} as {edge['url']}")
    return [*lines, *in_common(con, medium)]


def _text(con: database.Connection, text: dict[str, Any], signals: list[str], asked: dict[str, str]) -> list[str]:
    key = text["text_uid"]
    lines = [f"text {key}", *_fields({name: text[name] for name in text if name not in ("text_uid", "sample_uid")})]
    for table in signals:
        for row in database.rows(
            con, f"select * exclude (text_uid) from {database.quoted(table)} where text_uid = ?", [key]
        ):
            lines += _fields(row)
    lines += [*near_texts(con, key), *map(_short, near_meanings(con, key))]
    decisions = database.rows(con, "select * from decided where text_uid = ?", [key])
    for decision in decisions:
        lines.append(f"  decision: {'kept' if decision['kept'] else 'rejected'}")
        for rule, saw in zip(decision["rejected_by"], decision["saw"], strict=True):
            wants = f"; it asks for {asked[rule]}" if rule in asked else ""
            lines.append(f"    rejected by {rule}: {_saw(saw)}{wants}")
        if decision["sampling_weight"] is not None:
            lines.append(f"    sampling weight {decision['sampling_weight']:.6g}")
        if decision["duplicate_of"] is not None:
            lines.append(f"    duplicate of sample {decision['duplicate_of']}")
        if decision["semantic_duplicate_of"] is not None:
            near = f"{decision['semantic_duplicate_of']}, cosine similarity {decision['semantic_similarity']:.4f}"
            lines.append(f"    too like {near}")
        lines += map(_short, contamination(decision))
        if decision["keep_probability"] is not None:
            lines.append(
                f"    balance: keep probability {decision['keep_probability']:.4f}, draw {decision['draw']:.4f}"
            )
    versions = database.rows(con, "select distinct version from members where text_uid = ? order by version", [key])
    lines.append(f"  versions that hold it: {', '.join(str(row['version']) for row in versions) or 'none'}")
    return lines


def _saw(saw: str) -> str:
    values = json.loads(saw)
    return ", ".join(f"{name} = {_short(value)}" for name, value in values.items()) or "no values"


def _fields(row: dict[str, Any]) -> list[str]:
    return [f"  {name}: {_short(value)}" for name, value in row.items() if value is not None]


def _short_line(line: str) -> str:
    return line if len(line) <= 2 * LONG else line[: 2 * LONG] + " ..."


def _short(value: object) -> str:
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = value if isinstance(value, str) else str(value)
    text = "".join(ch if ch.isprintable() else f"\\x{ord(ch):02x}" for ch in text)
    return text if len(text) <= LONG else text[:LONG] + " ..."
