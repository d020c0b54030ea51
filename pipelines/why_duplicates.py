"""What a sample's story tells of near-duplicate texts and of what means the same."""

from __future__ import annotations

from typing import Any

from pipelines import database


def near_texts(con: database.Connection, text: str) -> list[str]:
    """The group of a text and the texts that it was found next to."""
    rows = database.rows(con, "select text_duplicate_group from text_duplicates where text_uid = ?", [text])
    if not rows:
        return []
    lines = [f"  group of near-duplicate texts: {rows[0]['text_duplicate_group']}"]
    edges = database.rows(
        con,
        "select e.kind, e.similarity, t.text_uid, t.text from text_duplicate_edges e "
        "join texts t on t.text_uid = case when e.text_uid = $t then e.other_uid else e.text_uid end "
        "where e.text_uid = $t or e.other_uid = $t order by e.similarity desc, t.text_uid limit 20",
        {"t": text},
    )
    for edge in edges:
        near = f"near-duplicate text at Jaccard similarity {edge['similarity']:.3f}"
        lines.append(f"    {'the same text' if edge['kind'] == 'text (same)' else near}: {edge['text_uid']}")
    return lines


def near_meanings(con: database.Connection, uid: str) -> list[str]:
    """What a medium or a text was found to be like by its embedding, the likest first."""
    rows = database.rows(
        con,
        # of equal vectors the pairs of the first stand for all
        "with own as (select $u as uid union select unnest([uid, other_uid]) from semantic_edges "
        "where ends_with(kind, '(same)') and (uid = $u or other_uid = $u)), "
        "near as (select unnest([uid, other_uid]) as other, similarity, cluster from semantic_edges "
        "where uid in (from own) or other_uid in (from own)), "
        "likest as (select other, max(similarity) as similarity, any_value(cluster) as cluster from near "
        "where other <> $u group by other) "
        "select n.*, coalesce(m.url, t.text) as what from likest n left join media m on m.media_uid = n.other "
        "left join texts t on t.text_uid = n.other order by n.similarity desc, n.other limit 20",
        {"u": uid},
    )
    return [
        f"  semantic duplicate at cosine similarity {row['similarity']:.4f} (cluster {row['cluster']}): {row['what']}"
        for row in rows
    ]


def contamination(decision: dict[str, Any]) -> list[str]:
    """Which item of which evaluation set a text was rejected for, and how near the two are."""
    if decision["evaluation_set"] is None:
        return []
    measure = f"at distance {decision['evaluation_distance']}"
    if decision["evaluation_distance"] is None:
        measure = f"at similarity {decision['evaluation_similarity']:.3f}"
    return [
        f"    in evaluation set {decision['evaluation_set']} by {decision['evaluation_match']} {measure}: "
        f"{decision['evaluation_item']}"
    ]
