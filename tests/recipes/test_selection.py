"""Each published recipe keeps just those rows that a plain reading of its source keeps, on a made-up pool.

The readings are written from the papers' and repositories' rules, over Python dictionaries; nothing of the policies,
their SQL or their arithmetic is used.
"""

import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.policy import Policy
from pipelines.recipe import Recipe
from pipelines.yaml_place import load
from tests.pipelines.policies import decide
from tests.recipes.pool import SCHEMA, Row, make
from tests.recipes.published import published

Rows = list[Row]
Kept = set[str]
Reading = Callable[[Rows], Kept]
READINGS: dict[str, Reading] = {}
SEMANTIC = [("m0001", "m0002", 0.99), ("m0002", "m0003", 0.98), ("m0007", "m0030", 0.975), ("m0030", "m0100", 0.99)]


def reading(function: Reading) -> Reading:
    READINGS[function.__name__] = function
    return function


def uids(rows: Rows) -> Kept:
    return {row["text_uid"] for row in rows}


def ok(rows: Rows) -> Rows:
    return [row for row in rows if row["status"] == "ok"]


def english(row: Row) -> bool:
    return row["language"] is not None and row["language"].split("-")[0] == "en"


def sides(row: Row) -> tuple[int, int]:
    """Shorter and longer side; a shape that no rule lets through where they are unknown."""
    if row["original_width_px"] is None or row["original_height_px"] is None:
        return 0, 10**9
    return tuple(sorted((row["original_width_px"], row["original_height_px"])))  # type: ignore[return-value]


def at_least(row: Row, name: str, value: float) -> bool:
    """Scores are single precision, and so is the threshold that they are compared with, as in numpy."""
    return row[name] is not None and row[name] >= np.float32(value)


def laion(rows: Rows, score: float, language: Callable[[Row], bool]) -> Kept:
    kept = set()
    for row in ok(rows):
        url = row["url"].lower()
        if any(piece in url for piece in (".svg", ".gif", "data:image", "javascript:")):
            continue
        if row["image_format"] not in ("JPEG", "PNG", "WEBP") or (row["size_bytes"] or 0) < 5000:
            continue
        if sides(row)[0] == 0 or row["original_width_px"] * row["original_height_px"] > 89_478_484:
            continue
        if len(row["text_clean"] or "") >= 5 and language(row) and at_least(row, "clip_score", score):
            kept.add(row["text_uid"])
    return kept


@reading
def laion2b_en(rows: Rows) -> Kept:
    return laion(rows, 0.28, english)


@reading
def laion_multi(rows: Rows) -> Kept:
    return laion(rows, 0.26, lambda row: row["language"] is not None and not english(row))


@reading
def datacomp_basic(rows: Rows) -> Kept:
    kept = set()
    for row in ok(rows):
        text = row["text_clean"] or ""
        shorter, longer = sides(row)
        is_caption = row["language_detected"] == "en" and len(text.split()) > 2 and len(text) > 5
        if is_caption and shorter >= 200 and longer / shorter <= 3.0:
            kept.add(row["text_uid"])
    return kept


def clip_filter(rows: Rows) -> Kept:
    """The value at index int(N f) of the scores in falling order; all that is not below it."""
    scored = [row for row in rows if row["clip_score"] is not None]
    threshold = sorted((row["clip_score"] for row in scored), reverse=True)[int(len(scored) * 0.3)]
    return uids([row for row in scored if row["clip_score"] >= threshold])


@reading
def datacomp_clip_l14_top30(rows: Rows) -> Kept:
    return clip_filter(rows) & uids(ok(rows))


@reading
def datacomp_text_based(rows: Rows) -> Kept:
    return uids([row for row in ok(rows) if row["language_detected"] == "en" and row["entry_ids"]])


@reading
def datacomp_image_based(rows: Rows) -> Kept:
    kept = set()
    for row in ok(rows):
        text = row["text_clean"] or ""
        caption = row["language_detected"] == "en" and len(text.split()) > 1 and len(text) > 5
        if caption and row["cluster_has_target"]:
            kept.add(row["text_uid"])
    return kept


@reading
def datacomp_image_and_clip(rows: Rows) -> Kept:
    return datacomp_image_based(rows) & clip_filter(rows)


def balanced(rows: Rows, limit: Callable[[int], int]) -> Kept:
    """One draw with the probability that one of the text's entries is drawn; limit: of an entry."""
    counts = Counter(entry for row in rows for entry in row["entry_ids"] or ())
    kept = set()
    for row in rows:
        missed = math.prod(1 - min(1.0, limit(entry) / counts[entry]) for entry in row["entry_ids"] or ())
        if row["draw"] < 1 - missed:
            kept.add(row["text_uid"])
    return kept


T = 4
"""In place of 20,000 and 170,000, which would thin out nothing here."""


@reading
def metaclip_400m(rows: Rows) -> Kept:
    return balanced([row for row in ok(rows) if english(row)], lambda _: T)


@reading
def metaclip2_worldwide(rows: Rows) -> Kept:
    matched = [row for row in ok(rows) if row["entry_language"] is not None]
    counts: dict[str, Counter[int]] = {}
    language_of: dict[int, str] = {}
    for row in matched:
        for entry in row["entry_ids"]:
            counts.setdefault(row["entry_language"], Counter())[entry] += 1
            language_of[entry] = row["entry_language"]
    head = counts["en"]
    tail = sum(count for count in head.values() if count < T) / sum(head.values())
    limits = {"en": T}
    for language in counts.keys() - {"en"}:
        rising = sorted(counts[language].values())
        shares = [sum(rising[: k + 1]) / sum(rising) for k in range(len(rising))]
        limits[language] = rising[min(range(len(rising)), key=lambda k: (abs(shares[k] - tail), k))]
    return balanced(matched, lambda entry: limits[language_of[entry]])


DETERMINERS = {"a", "an", "the", "this", "that", "these", "those", "his", "her", "its", "our", "their", "some", "each",
               "every"}  # fmt: skip
PREPOSITIONS = {"of", "in", "on", "at", "by", "for", "with", "from", "to", "over", "under", "near", "through", "behind"}


def ascii_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9_]+", text.lower()))


@reading
def cc3m_like(rows: Rows) -> Kept:
    kept = set()
    for row in ok(rows):
        text = row["text_clean"] or ""
        shorter, longer = sides(row)
        if row["image_format"] != "JPEG" or shorter <= 400 or longer > 2 * shorter or not english(row):
            continue
        if row["is_boilerplate"] is not False or row["is_file_name"] is not False or not row["entry_ids"]:
            continue
        if "embedded image permalink" in text.lower() or "profile photo" in text.lower():
            continue
        words = ascii_words(text)
        if not words & DETERMINERS or not words & PREPOSITIONS or row["token_repetition"] > np.float32(0.2):
            continue
        letters, capitals = re.findall("[A-Za-z]", text), re.findall("[A-Z]", text)
        if not re.match("[A-Z]", text) or len(capitals) > len(letters) / 2:
            continue
        if at_least(row, "clip_score", 0.25):
            kept.add(row["text_uid"])
    return kept


@reading
def cc12m_like(rows: Rows) -> Kept:
    kept = set()
    for row in ok(rows):
        text = row["text_clean"] or ""
        shorter, longer = sides(row)
        if row["image_format"] != "JPEG" or shorter <= 400 or longer > 2.5 * shorter or not english(row):
            continue
        if not 3 <= len(text.split()) <= 256 or row["token_repetition"] > np.float32(0.2):
            continue
        if row["entry_ids"] and ascii_words(text) & DETERMINERS:
            kept.add(row["text_uid"])
    return kept


@reading
def align_like(rows: Rows) -> Kept:
    texts_of_picture = Counter(row["sha256"] for row in rows)
    pictures_of_text: dict[str, set[str]] = {}
    for row in rows:
        pictures_of_text.setdefault(row["text_clean"], set()).add(row["sample_uid"])
    kept = set()
    for row in ok(rows):
        shorter, longer = sides(row)
        if row["text_clean"] is None or shorter <= 200 or longer >= 3 * shorter:
            continue
        if not 3 <= len(row["text_clean"].split()) <= 20 or texts_of_picture[row["sha256"]] > MANY_TEXTS:
            continue
        if len(pictures_of_text[row["text_clean"]]) <= 10:
            kept.add(row["text_uid"])
    return kept


MANY_TEXTS = 60
"""In place of 1,000 texts of one picture."""


@reading
def dfn_like(rows: Rows) -> Kept:
    scored = sorted((-row["clip_score"], row["text_uid"]) for row in rows if row["clip_score"] is not None)
    best = {uid for _, uid in scored[: math.ceil(len(scored) * 15 / 100)]}
    return best & uids(ok(rows))


@reading
def t_mars(rows: Rows) -> Kept:
    scored = [(-row["clip_score_text_masked"], row["text_uid"]) for row in rows if row["clip_score_text_masked"]]
    return {uid for _, uid in sorted(scored)[: math.ceil(len(scored) / 2)]} & uids(ok(rows))


@reading
def negcliploss_normsim(rows: Rows) -> Kept:
    losses = sorted((-row["neg_clip_loss"], row["text_uid"]) for row in rows if row["neg_clip_loss"] is not None)
    good = {uid for _, uid in losses[: math.ceil(len(losses) * 3 / 10)]} & uids(ok(rows))
    pool = [row for row in rows if row["norm_sim"] is not None]
    like = sorted((-row["norm_sim"], row["text_uid"]) for row in pool if row["text_uid"] in good)
    return {uid for _, uid in like[: math.ceil(len(pool) * 2 / 10)]}


def earlier_likes(rows: Rows) -> dict[str, set[str]]:
    """Each picture, the furthest from its centroid first (not downloaded: last), with those before it that are near."""
    pictures = {row["media_uid"]: row for row in rows}
    order = sorted(
        pictures.values(),
        key=lambda row: (
            row["status"] != "ok",
            row["cluster_distance"] is None,
            -(row["cluster_distance"] or 0),
            row["media_uid"],
        ),
    )
    near = {frozenset((a, b)) for a, b, _ in SEMANTIC}
    found: dict[str, set[str]] = {}
    for row in order:
        found[row["media_uid"]] = {uid for uid in found if frozenset((uid, row["media_uid"])) in near}
    return found


@reading
def semdedup(rows: Rows) -> Kept:
    """Greedy: a picture goes for one that stays."""
    stay: set[str] = set()
    for uid, likes in earlier_likes(rows).items():
        stay |= set() if likes & stay else {uid}
    return uids([row for row in ok(rows) if row["media_uid"] in stay])


def released_semdedup(rows: Rows) -> Kept:
    """The released code: a picture goes for any that is before it, whether that one stays or not."""
    likes = earlier_likes(rows)
    return uids([row for row in ok(rows) if not likes[row["media_uid"]]])


@reading
def wukong_zero_like(rows: Rows) -> Kept:
    pictures_of_text: dict[str, set[str]] = {}
    for row in rows:
        pictures_of_text.setdefault(row["text_clean"], set()).add(row["sample_uid"])
    kept = set()
    for row in ok(rows):
        shorter, longer = sides(row)
        if row["text_clean"] is None or (row["language"] or "").split("-")[0] != "zh":
            continue
        han = re.findall(r"[\u4e00-\u9fff]", row["text_clean"])
        few = len(pictures_of_text[row["text_clean"]]) <= 10
        if shorter >= 200 and longer <= 3 * shorter and 1 <= len(han) <= 32 and few:
            kept.add(row["text_uid"])
    return kept


CHANGES = {
    "metaclip_400m": {"t: 20000": f"t: {T}"},
    "metaclip2_worldwide": {"t: 170000": f"t: {T}"},
    "align_like": {"at_most: 1000": f"at_most: {MANY_TEXTS}"},
}
"""Numbers that belong to pools of hundreds of millions, made to bite on a small one."""


def policy(name: str, folder: Path) -> list[dict[str, Any]]:
    recipe, _ = load(published(name, folder, **CHANGES.get(name, {})), Recipe)
    found: Policy = recipe.all_rounds()[0].policy
    return [item.model_dump() for item in found]


@pytest.mark.parametrize("name", sorted(READINGS))
def test_a_recipe_keeps_what_its_source_keeps(name: str, tmp_path: Path) -> None:
    asked = policy(name, tmp_path / "r")
    for seed in range(3):
        rows = make(seed)
        edges = [{"uid": a, "other_uid": b, "level": "media", "kind": "embedding", "similarity": s, "cluster": 0}
                 for a, b, s in SEMANTIC]  # fmt: skip
        decided = decide(
            pa.Table.from_pylist(rows, schema=SCHEMA),
            asked,
            {"semantic_edges": pa.Table.from_pylist(edges)},
            batch_rows=150,
            threads=2,
        )
        kept = {row["text_uid"] for row in decided.to_pylist() if row["kept"]}
        expected = READINGS[name](rows)
        assert kept == expected
        assert name != "semdedup" or released_semdedup(rows) <= kept  # the note in the recipe
        assert 0 < len(kept) < len(ok(rows))  # the pool is such that every recipe has something to decide
