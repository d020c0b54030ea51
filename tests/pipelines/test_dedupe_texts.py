"""Near-duplicate texts in a store: groups, the pairs that joined them, and the rule that keeps one of each."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.duplicate_search import TextSearch
from pipelines import database
from pipelines.dedupe_texts import find_text_duplicates
from pipelines.recipe import load_recipe
from pipelines.run import audit_store
from pipelines.store import Store
from pipelines.views import TEXT_DUPLICATES, open_store
from pipelines.why import story
from pipelines.yaml_place import RecipeError
from tests.pipelines.policies import COLUMNS, decide, row
from tests.stores import LOOSE, Served, digests, last_run, links_file, recipe, rows, run

LONG = "an old red car stands in the street of a small town at night"
ONE_OF_EACH = [*LOOSE, {"dedupe": "same_text", "of": "texts"}]


def find(texts: dict[str, str | None], **fields: Any) -> tuple[dict[str, str], list[dict[str, Any]]]:
    table = pa.table({"text_uid": sorted(texts), "text": [texts[uid] for uid in sorted(texts)]})
    groups, edges = find_text_duplicates(table, TextSearch(**fields))
    return {r["text_uid"]: r["text_duplicate_group"] for r in groups.to_pylist()}, edges.to_pylist()


def test_groups_and_what_joined_them() -> None:
    texts = {"d": LONG, "a": f"{LONG.upper()}!", "c": f"{LONG} again", "x": "a dog", "y": "A  dog", "z": None}
    groups, edges = find(texts)
    assert groups == {"a": "a", "c": "a", "d": "a", "x": "x", "y": "x"}
    assert edges == [
        {"text_uid": "a", "other_uid": "c", "kind": "text (shingles)", "similarity": 13 / 14},
        {"text_uid": "a", "other_uid": "d", "kind": "text (same)", "similarity": 1.0},
        {"text_uid": "x", "other_uid": "y", "kind": "text (same)", "similarity": 1.0},
    ]
    assert find(texts, similarity=1.0)[0] == {"a": "a", "d": "a", "x": "x", "y": "x"}
    assert find(texts, min_words=3)[0] == {"a": "a", "c": "a", "d": "a"}


TEXTS = st.lists(st.none() | st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join), max_size=12)


@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, st.integers(0, 99))
def test_groups_are_those_of_all_at_once_and_grow(texts: list[str | None], more: list[str | None], seed: int) -> None:
    """The order of texts is that of their uids; what joined stays joined when texts are added."""
    uids = [f"{k:03d}" for k in range(len(texts) + len(more))]
    random.Random(seed).shuffle(uids)
    every = dict(zip(uids, [*texts, *more], strict=True))
    few = {uid: every[uid] for uid in uids[: len(texts)]}
    before, after = find(few, recall=0.9)[0], find(every, recall=0.9)[0]
    for a in before:
        for b in before:
            assert before[a] != before[b] or after[a] == after[b]
    assert all(group <= uid for uid, group in after.items())


def decisions(
    table: list[dict[str, Any]], policy: list[dict[str, Any]], groups: dict[str, str]
) -> dict[str, dict[str, Any]]:
    found = [{"text_uid": uid, "text_duplicate_group": group} for uid, group in groups.items()]
    searches = {"text_duplicates": pa.Table.from_pylist(found, schema=TEXT_DUPLICATES)}
    decided = decide(pa.Table.from_pylist(table, schema=COLUMNS), policy, searches)
    return {d["text_uid"]: d for d in decided.to_pylist()}


MEMBERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=12)


@settings(max_examples=20, deadline=None)
@given(MEMBERS)
def test_one_text_of_each_group_stays(members: list[tuple[int, int, int]]) -> None:
    """(group, width, passes) of each text, against a dull reading of the rule; group 0 stands for none."""
    table = [row(k, k, width_px=10 * width, clip_score=float(ok)) for k, (_, width, ok) in enumerate(members)]
    groups = {f"t{k:03d}": f"g{group}" for k, (group, _, _) in enumerate(members) if group}
    policy = [{"rule": "good", "keep": "clip_score > 0"}, {"dedupe": "one", "of": "texts", "prefer": "width_px desc"}]
    found = decisions(table, policy, groups)
    for k, (group, _, ok) in enumerate(members):
        uid = f"t{k:03d}"
        same = [j for j, other in enumerate(members) if group and other[0] == group]
        best = min(same, key=lambda j: (not members[j][2], -members[j][1], j), default=k)
        assert found[uid]["kept"] == (bool(ok) and best == k)
        assert found[uid]["text_duplicate_of"] == (None if best == k else f"t{best:03d}")
        if best != k:
            saw = json.loads(found[uid]["saw"][-1])
            assert found[uid]["rejected_by"][-1] == "one"
            assert saw == {"text_duplicate_group": f"g{group}", "text_duplicate_of": f"t{best:03d}"}


def test_in_a_store(tmp_path: Path, served: Served) -> None:
    store = tmp_path / "store"
    captions = [LONG, f"{LONG}, again", "something else", LONG.upper()]
    links = links_file(tmp_path / "l.parquet", list(zip(served.pictures, captions, strict=False)))
    wanted = {"exact": ["sha256"], "perceptual": False, "texts": {"similarity": 0.8, "column": "text_clean"}}
    run(store, recipe(tmp_path / "r.yaml", ONE_OF_EACH, duplicates=wanted), links)
    ledger = rows(store, "select * from ledger order by text")
    assert [r["text"] for r in ledger if r["kept"]] == sorted([f"{LONG}, again", "something else"])
    (survivor,) = [r for r in ledger if r["text"].endswith("again")]
    assert all(r["text_duplicate_of"] == survivor["text_uid"] for r in ledger if not r["kept"])
    assert all(r["rejected_by"] == ["same_text"] for r in ledger if not r["kept"])
    assert len({r["text_duplicate_group"] for r in ledger if r["text"] != "something else"}) == 1
    assert audit_store(open_store(Store.open(store))) == []
    told = "\n".join(story(Store.open(store), r["text_uid"]) for r in ledger)
    assert "near-duplicate text at Jaccard similarity 0.929" in told
    assert "the same text" in told
    assert f"rejected by same_text: text_duplicate_group = {survivor['text_duplicate_group']}" in told
    (report,) = rows(store, database.query("report/text_duplicates"))
    assert (report["texts"], report["kept"], report["example"]) == (3, 1, f"{LONG}, again")

    first = digests(store / "tables" / "text_duplicates")
    run(store, recipe(tmp_path / "r.yaml", LOOSE, duplicates=wanted), links)
    stages = {stage["stage"]: stage["parts_run"] for stage in last_run(store)["stages"]}
    assert (stages["dedupe"], stages["select"]) == (0, 1)
    assert digests(store / "tables" / "text_duplicates") == first
    assert all(r["kept"] for r in rows(store, "select * from ledger"))
    run(store, recipe(tmp_path / "r.yaml", LOOSE, duplicates={**wanted, "texts": None}), links)
    assert rows(store, "select * from text_duplicates") == []


def test_the_audit_finds_what_is_wrong() -> None:
    row = {"text_uid": "a", "text_duplicate_group": "a", "text_duplicate_of": None, "kept": True}
    for second, problem in (
        ({"text_duplicate_of": "a", "kept": False}, None),
        ({"text_duplicate_of": "a", "kept": True}, "more than one text kept"),
        ({"text_duplicate_of": "x", "kept": False}, "survivor outside the group"),
    ):
        con = database.connect()
        con.register("ledger", pa.Table.from_pylist([row, {**row, "text_uid": "b", **second}]))
        found = database.rows(con, database.query("audit/text_survivors"))
        assert [r["problem"] for r in found] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("duplicates", "policy", "where", "what"),
    [
        ({}, ONE_OF_EACH, "policy", "same_text is `of: texts`"),
        ({"texts": {"column": "nonesuch"}}, LOOSE, "duplicates.texts.column", "nonesuch"),
        ({"texts": {"column": "width_px"}}, LOOSE, "duplicates.texts.column", "no column of words"),
        ({"texts": {"similarity": 0.01, "recall": 0.999}}, LOOSE, "duplicates.texts", "128 hashes cannot find"),
        ({"texts": {"similarty": 0.1}}, LOOSE, "duplicates.texts", "similarity"),
    ],
)
def test_mistakes_are_found_at_load(
    tmp_path: Path, duplicates: dict[str, Any], policy: list[dict[str, Any]], where: str, what: str
) -> None:
    settings = {"exact": ["sha256"], "perceptual": False, **duplicates}
    with pytest.raises(RecipeError, match=what) as found:
        load_recipe(recipe(tmp_path / "r.yaml", policy, duplicates=settings))
    assert where in str(found.value)
