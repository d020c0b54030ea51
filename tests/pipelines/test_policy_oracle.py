"""Random policies of all kinds of rules over random pools, against a plain reading of what they mean, row for row."""

from __future__ import annotations

import json
import math
import random
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from curation.policy import Policy
from pipelines import quotas
from pipelines.views import DUPLICATES, SEARCHES
from pipelines.yaml_place import RecipeError
from tests.pipelines.dull_policy import GROUPS, NUMBERS, PREDICATES, Dull, Row
from tests.pipelines.policies import COLUMNS, decide

SCHEMA = pa.schema([*COLUMNS, ("quality", pa.float64()), ("heard", pa.string())])
LANGUAGES = [["en"], ["en", "de", None], ["en", "日本語", "e'n", "EN", "", "😀", None], ["ä", "a\u0308", "z"]]
SCORES = [[None, 0.1, 0.3, 0.5, -0.5], [0.3], [n / 97 for n in range(97)]]
QUALITIES = [
    [0.5],
    [None, 0.0, -0.0, 0.25, 0.5, 1.0],
    [None, math.inf, -math.inf, 0.3, 1e300, 5e-324, -1.5],
    [0.1, 0.2],
]
HEARD = [None, "0.2", "0.9", "nan", " NaN", "inf", "", "x"]
OF_MEDIA = ["width_px desc, size_bytes desc", "size_bytes", "width_px nulls first", "height_px desc, width_px"]
OF_TEXTS = [*OF_MEDIA, "clip_score desc", "clip_score nulls first", "quality asc, language desc",
            "language, quality desc nulls first", "quality desc nulls last, text_uid desc",
            "try_cast(heard as double) desc, size_bytes", "try_cast(heard as double)"]  # fmt: skip
ENTRIES = {"en": 0, "de": 10, None: 20}


def pool(chance: random.Random, batch_rows: int) -> list[Row]:
    """Rows in the order of a pool; a sample lies in one batch, and one of ten has no medium."""
    num = chance.choice([0, 1, 2, 5, 12, 30, 60])
    uids = [f"t{n:03d}" for n in range(num)]
    draws = [(n + 0.5) / max(num, 1) for n in range(num)]
    chance.shuffle(uids)
    chance.shuffle(draws)
    languages, scores, qualities = chance.choice(LANGUAGES), chance.choice(SCORES), chance.choice(QUALITIES)
    crowd, media = chance.choice([1, 2, 3]), dict[str, Row]()
    rows = []
    for n in range(num):
        sample = f"{1000 * (n // batch_rows) + chance.randrange(max(1, num // crowd)):06d}"
        if sample not in media:
            sizes = [chance.choice([10, 20, 64, 100]), chance.choice([64, 32, 100]), chance.choice([1, 2, 3])]
            uid, sizes = (None, [None] * 3) if chance.random() < 0.1 else (f"m{sample}", sizes)
            media[sample] = {"media_uid": uid, "width_px": sizes[0], "height_px": sizes[1], "size_bytes": sizes[2]}
        spoken = chance.choice(["en", "de", None])
        matched = {ENTRIES[spoken] + chance.randrange(chance.choice([2, 6])) for _ in range(chance.randrange(4))}
        rows.append(
            {
                "text_uid": uids[n],
                "sample_uid": f"s{sample}",
                **media[sample],
                "clip_score": chance.choice(scores),
                "quality": chance.choice(qualities),
                "language": chance.choice(languages),
                "heard": chance.choice(HEARD),
                "draw": draws[n],
                "entry_language": spoken,
                "entry_ids": None if chance.random() < 0.1 else sorted(matched),
            }
        )
    if chance.random() < 0.1:
        rows = [{**row, **{name: rows[0][name] for name in ("clip_score", "quality", "language")}} for row in rows]
    return rows


def similar(chance: random.Random, level: str, uids: list[str]) -> list[Row]:
    """Rows of `semantic_edges`: stars of equal vectors around their first, and pairs of these."""
    vectors: dict[int, list[str]] = {}
    for uid in uids:
        if chance.random() < 0.8:
            vectors.setdefault(chance.randrange(max(1, len(uids) // 2)), []).append(uid)
    firsts = sorted(each[0] for each in vectors.values())
    pairs = [(each[0], other, "embedding (same)", 1.0) for each in vectors.values() for other in each[1:]]
    for place, first in enumerate(firsts):
        pairs += [(first, other, "embedding", 0.96) for other in firsts[place + 1 :] if chance.random() < 0.2]
    names = ("uid", "other_uid", "kind", "similarity")
    return [{**dict(zip(names, pair, strict=True)), "level": level, "cluster": 0} for pair in pairs]


def found(chance: random.Random, rows: list[Row]) -> Dull:
    """The pool with what searches found in it."""
    media = sorted({row["media_uid"] for row in rows} - {None})
    texts = sorted(row["text_uid"] for row in rows)
    groups = {uid: f"g{chance.randrange(4)}" for uid in media if chance.random() < 0.6}
    groups |= {"m999999": "g0"} if chance.random() < 0.3 else {}  # one that the pool does not have
    text_groups = {uid: f"h{chance.randrange(4)}" for uid in texts if chance.random() < 0.5}
    level, uids = chance.choice([("media", media), ("text", texts)])
    held = []
    for _ in range(chance.randrange(4) if media else 0):
        kind, those = chance.choice([("media", media), ("text", texts)])
        match = {"evaluation_set": "e", "item": "i", "kind": "text", "distance": None, "similarity": 1.0}
        held.append({"rule": f"r{chance.randrange(4)}", "level": kind, "uid": chance.choice(those), **match})
    return Dull(rows, groups, text_groups, similar(chance, level, uids), held)


def balance(chance: random.Random) -> dict[str, Any]:
    item = {"where": chance.choice(["true", *PREDICATES]), "no_match": chance.choice(["drop", "keep"])}
    by = {"by": chance.choice(GROUPS)}
    t = {"t": chance.choice([1, 2, 3, 20])}
    fair = {"exponent": chance.choice([0, 0.3, 0.5, 1.0]), "fraction": chance.choice([0.1, 0.3, 0.7, 1.0])}
    ways = [t, t | {"per_language": "en"}, t | by, by | {"most": chance.choice([1, 2, 5])}, by | fair]
    return item | chance.choice(ways)


def quota(chance: random.Random) -> dict[str, Any]:
    return {
        "per": chance.choice(GROUPS),
        "at_most": chance.choice([1, 1, 2, 3, 10]),
        "unit": chance.choice(["samples", "texts"]),
        "more": chance.choice(["thin", "drop"]),
        "among": chance.choice(["passed", "all"]),
        "prefer": chance.choice([None, *OF_TEXTS]),
        "seed": chance.choice([0, 3]),
    }


def top(chance: random.Random) -> dict[str, Any]:
    return {
        "by": chance.choice(NUMBERS),
        "fraction": chance.choice([0.01, 0.1, 0.28, 0.3, 0.5, 0.57, 0.9, 1.0]),
        "among": chance.choice(["passed", "all"]),
        "of": chance.choice(["counted", "pool"]),
        "ties": chance.choice(["break", "keep"]),
    }


def a_policy(chance: random.Random) -> list[dict[str, Any]]:
    """Up to five rules, named r0, r1, ..."""
    made: list[dict[str, Any]] = []
    for n in range(chance.randrange(1, 6)):
        kind = chance.choice(["rule", "rule", "top", "quota", "dedupe", "decontaminate", "balance", "weight", "gate"])
        of = chance.choice(["media", "texts", "semantic"])
        fields = {
            "rule": {"keep": chance.choice(PREDICATES)},
            "top": top(chance),
            "quota": quota(chance),
            "dedupe": {"of": of, "prefer": chance.choice(OF_MEDIA if of == "semantic" else OF_TEXTS)},
            "decontaminate": {"against": ["e"]},
            "balance": balance(chance),
            "weight": {"value": chance.choice(NUMBERS)},
            "gate": {"of": "r0"},
        }
        made += [{kind: f"r{n}", **fields[kind]}] if n or kind != "gate" else []
    return made


def same(a: float | None, b: float | None) -> bool:
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from([1, 3, 7, 100]), st.sampled_from([1, 2, 5, 1000]))
def test_decisions_are_those_of_a_plain_reading(chance: random.Random, batch_rows: int, bucket_rows: int) -> None:
    policy = a_policy(chance)
    pool_rows = pool(chance, batch_rows)
    dull = found(chance, pool_rows)
    groups = {
        "duplicates": (DUPLICATES, dull.groups),
        "text_duplicates": (SEARCHES["text_duplicates"], dull.text_groups),
    }
    searches = {
        name: pa.table([list(members), list(members.values())], schema=schema)
        for name, (schema, members) in groups.items()
    }
    searches["semantic_edges"] = pa.Table.from_pylist(list(dull.similar), schema=SEARCHES["semantic_edges"])
    searches["evaluation_matches"] = pa.Table.from_pylist(list(dull.held), schema=SEARCHES["evaluation_matches"])
    table = pa.Table.from_pylist(pool_rows, schema=SCHEMA)
    with patch.object(quotas, "_BUCKET_ROWS", bucket_rows):
        try:
            dull.decide(TypeAdapter(Policy).validate_python(policy))
        except ZeroDivisionError:  # no text with an entry of the reference
            with pytest.raises(RecipeError, match="no text matches an entry of 'en'"):
                decide(table, policy, searches, batch_rows)
            return
        made = decide(table, policy, searches, batch_rows, threads=2).to_pylist()
    assert [each["text_uid"] for each in made] == [row["text_uid"] for row in pool_rows]
    for each in made:
        uid = each["text_uid"]
        assert each["rejected_by"] == dull.rejected[uid], (uid, policy)
        assert each["kept"] == (not dull.rejected[uid])
        assert len([json.loads(saw) for saw in each["saw"]]) == len(each["rejected_by"])
        for name in ("duplicate_of", "text_duplicate_of", "semantic_duplicate_of"):
            assert each[name] == dull.said[uid].get(name), (uid, policy)
        for name in ("keep_probability", "sampling_weight"):
            assert same(each[name], dull.said[uid].get(name)), (uid, name, policy)
