"""Near-duplicate texts in a store: groups, the pairs that joined them, and the rule that keeps one of each."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.components import connected_components
from curation.duplicate_search import TextSearch
from curation.step import digest
from curation.table import open_part, write_part
from pipelines import database, dedupe_texts
from pipelines.dedupe_texts import find_text_duplicates
from pipelines.recipe import load_recipe
from pipelines.run import audit_store
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.views import TEXT_DUPLICATES, open_store
from pipelines.why import story
from pipelines.workers import SerialWorkers
from pipelines.yaml_place import RecipeError
from tests.curation.in_memory import near_texts
from tests.pipelines.policies import COLUMNS, decide, row
from tests.stores import LOOSE, Served, digests, last_run, links_file, recipe, rows, run

LONG = "an old red car stands in the street of a small town at night"
ONE_OF_EACH = [*LOOSE, {"dedupe": "same_text", "of": "texts"}]


def a_run(root: Path) -> Run:
    store = Store.create(root / "store")
    return Run(load_recipe(recipe(root / "r.yaml")), store, SerialWorkers(), store.state(), say=lambda _: None)


def part_of(run: Run, texts: dict[str, str | None]) -> Path:
    """A part of texts, named after what it holds."""
    table = pa.table({"text_uid": list(texts), "text": pa.array(texts.values(), pa.string())})
    return write_part(run.store.table("texts"), 0, digest(texts), table).path


def find(root: Path, *parts: dict[str, str | None], **fields: Any) -> tuple[dict[str, str], list[dict[str, Any]]]:
    run = a_run(root)
    groups, edges, _ = find_text_duplicates(run, [part_of(run, texts) for texts in parts], TextSearch(**fields))
    return {r["text_uid"]: r["text_duplicate_group"] for r in groups.to_pylist()}, edges.to_pylist()


def test_groups_and_what_joined_them(tmp_path: Path) -> None:
    texts = {"d": LONG, "a": f"{LONG.upper()}!", "c": f"{LONG} again", "x": "a dog", "y": "A  dog", "z": None}
    groups, edges = find(tmp_path, texts)
    assert groups == {"a": "a", "c": "a", "d": "a", "x": "x", "y": "x"}
    assert edges == [
        {"text_uid": "a", "other_uid": "c", "kind": "text (shingles)", "similarity": 13 / 14},
        {"text_uid": "a", "other_uid": "d", "kind": "text (same)", "similarity": 1.0},
        {"text_uid": "x", "other_uid": "y", "kind": "text (same)", "similarity": 1.0},
    ]
    assert find(tmp_path, texts, similarity=1.0)[0] == {"a": "a", "d": "a", "x": "x", "y": "x"}
    assert find(tmp_path, texts, min_words=3)[0] == {"a": "a", "c": "a", "d": "a"}


TEXTS = st.lists(st.none() | st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join), min_size=1, max_size=24)


@settings(max_examples=8, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.randoms(use_true_random=False), st.sampled_from([20, 10**6]))
def test_any_growth_ends_with_the_groups_of_all_at_once(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[str | None]], rng: random.Random, bucket_entries: int
) -> None:
    """Parts come one by one or some at a time, in any order, into one task, many buckets, or buckets cut into slices.

    Nothing that joined is parted, no old pair is looked for again, and every edge is a pair of the similarity.
    """
    run, known, before = a_run(tmp_path_factory.mktemp("grown")), 0, dict[str, str]()
    uids = iter(rng.sample(range(1000), sum(map(len, parts))))
    named = [{f"{next(uids):03d}": text for text in part} for part in parts]
    files = [part_of(run, part) for part in named]
    wanted = TextSearch(similarity=0.6, recall=0.9, words=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dedupe_texts, "BUCKET_ENTRIES", bucket_entries)
        patch.setattr(dedupe_texts, "GROUP_PARTS", 2)
        while known < len(files):
            more = min(len(files) - known, rng.randint(1, 3))
            groups, edges, counts = find_text_duplicates(run, files[: known + more], wanted)
            assert (counts["parts_old"], counts["parts_new"]) == (known, more)
            known += more
            every = {uid: text for part in named[:known] for uid, text in part.items()}
            found = dict(zip(*(column.to_pylist() for column in groups.columns), strict=True))
            assert found == in_memory(every)
            assert all(found[a] == found[b] for a in before for b in before if before[a] == before[b])
            for edge in edges.to_pylist():
                a, b = (set((every[edge[end]] or "").split()) for end in ("text_uid", "other_uid"))
                assert edge["similarity"] == len(a & b) / len(a | b) >= 0.6
            before = found
        assert find_text_duplicates(run, files, wanted)[2]["parts_new"] == 0


def in_memory(texts: dict[str, str | None]) -> dict[str, str]:
    """Groups by comparing all at once, at the settings of the test above."""
    uids = sorted(texts)
    pairs = near_texts(pa.array([texts[uid] for uid in uids], pa.string()), 0.6, 0.9, words=1)
    labels = connected_components(len(uids), pairs.i, pairs.j)
    sizes = np.bincount(labels, minlength=1)
    return {uid: uids[label] for uid, label in zip(uids, labels, strict=True) if sizes[label] > 1}


def test_buckets_and_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template with many fillings fills some buckets: they are cut, and a bucket's task sees its own rows only."""
    texts: dict[str, str | None] = {f"{k:04d}": f"{LONG} number {k}" for k in range(100)}
    monkeypatch.setattr(dedupe_texts, "BUCKET_ENTRIES", 40)
    groups, _ = find(tmp_path, texts)
    assert set(groups) == set(texts)
    assert len(set(groups.values())) == 1
    sizes = [open_part(path).stats["sizes"] for path in (tmp_path / "store/tables/text_buckets").glob("*.parquet")]
    assert sum(map(sum, sizes)) == 100 * 16
    cut = -(-np.sum(sizes, axis=0) // 40)
    assert cut.max() > 1
    tasks = list((tmp_path / "store/tables/text_pairs").glob("*.parquet"))
    assert len(tasks) == np.maximum(cut * (cut + 1) // 2, 1).sum()


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
