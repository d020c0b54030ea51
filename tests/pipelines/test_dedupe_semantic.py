"""Semantic duplicates in a store: pairs as by comparing all with all, who stays, and why; in any number of parts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.scorers import embedding_matrix
from curation.semantic import whole_numbers
from curation.table import read_part
from pipelines import database, dedupe_semantic
from pipelines.recipe import load_recipe
from pipelines.run import audit_store
from pipelines.store import Store
from pipelines.views import open_store
from pipelines.why import story
from pipelines.yaml_place import RecipeError
from tests.curation.signal_rows import TinyScorer
from tests.stores import LOOSE, SIGNALS, Served, last_run, links_file, recipe, rows, run

MODEL = {"model": "m", "scorer": f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"}
EMBEDDINGS = [
    *({"use": f"curation.signals.{name}"} for name in SIGNALS),
    {"use": "curation.signals.image_embedding.ImageEmbedding", **MODEL},
    {"use": "curation.signals.text_embedding.TextEmbedding", **MODEL},
]
POLICY = [
    {"rule": "some_text", "keep": "text_clean is not null and text_clean <> 'bad'"},
    {"dedupe": "same_meaning", "of": "semantic"},
]
IMAGES = {"embedding": "clip_image_embedding", "similarity": 0.97, "clusters": 1}


def wanted(**semantic: Any) -> dict[str, Any]:
    return {"exact": ["sha256"], "perceptual": False, "semantic": {**IMAGES, **semantic}}


def pictures(tmp_path: Path, served: Served) -> Path:
    """All pictures without a defect, of which two have a text that the policy rejects; the first one is there twice."""
    links = [(url, "bad" if k in (3, 4) else f"picture {k}") for k, url in enumerate(served.pictures)]
    links.append((served.pictures[0] + "?again", "again"))
    return links_file(tmp_path / "l.parquet", links)


def dull(store: Path, similarity: float) -> tuple[dict[str, np.ndarray], dict[tuple[str, str], float]]:
    """Rounded vectors by media_uid, and all pairs that are near."""
    opened = Store.open(store)
    vectors: dict[str, np.ndarray] = {}
    for path in opened.files(opened.state(), "signal_clip_image_embedding"):
        table = read_part(path)
        matrix, present = embedding_matrix(table.column("clip_image_embedding"))
        whole = whole_numbers(matrix)
        vectors |= {
            u: row for u, row, there in zip(table["media_uid"].to_pylist(), whole, present, strict=True) if there
        }
    near = {}
    for a in vectors:
        for b in vectors:
            x, y = vectors[a].astype(np.int64), vectors[b].astype(np.int64)
            cosine = int(x @ y) / np.sqrt(int(x @ x) * int(y @ y))
            if a < b and cosine >= similarity:
                near[a, b] = min(float(cosine), 1.0)
    return vectors, near


def check(store: Path, similarity: float) -> int:
    """Decisions against a dull reading of the rule; how many it rejects."""
    _, near = dull(store, similarity)
    media = rows(
        store,
        "select m.media_uid, any_value(m.sample_uid) as sample_uid, bool_or(t.text <> 'bad') as passed, "
        "any_value(width_px * height_px) as size, any_value(size_bytes) as bytes from media m "
        "join texts t using (sample_uid) where status = 'ok' group by all",
    )
    media.sort(key=lambda m: (not m["passed"], -m["size"], -m["bytes"], m["media_uid"]))
    stay: list[dict[str, Any]] = []
    expected = {}
    for medium in media:
        uid = medium["media_uid"]
        who = next((s for s in stay if (min(uid, s["media_uid"]), max(uid, s["media_uid"])) in near), None)
        if who is None:
            stay.append(medium)
        else:
            expected[uid] = who["sample_uid"], near[min(uid, who["media_uid"]), max(uid, who["media_uid"])]
    for decision in rows(
        store, "select * from decisions where media_uid in (select media_uid from media where status = 'ok')"
    ):
        who, cosine = expected.get(decision["media_uid"], (None, None))
        assert decision["semantic_duplicate_of"] == who
        assert decision["semantic_similarity"] == (None if cosine is None else pytest.approx(cosine, abs=1e-9))
        assert ("same_meaning" in decision["rejected_by"]) == (who is not None)
        if who is not None:
            saw = json.loads(decision["saw"][-1])
            assert saw["semantic_duplicate_of"] == who
            assert saw["semantic_similarity"] == pytest.approx(cosine)
    assert audit_store(open_store(Store.open(store))) == []
    return len(expected)


def test_decisions_are_those_of_the_definition(tmp_path: Path, served: Served) -> None:
    links, store = pictures(tmp_path, served), tmp_path / "store"
    run(store, recipe(tmp_path / "r.yaml", POLICY, signals=EMBEDDINGS, duplicates=wanted()), links)
    removed = check(store, IMAGES["similarity"])
    assert 3 < removed < len(served.pictures) - 3
    (row, *_) = rows(
        store, "select * from ledger where semantic_duplicate_of is not null and text <> 'bad' order by text_uid"
    )
    told = story(Store.open(store), row["text_uid"])
    assert f"too like {row['semantic_duplicate_of']}, cosine similarity {row['semantic_similarity']:.4f}" in told
    assert f"semantic duplicate at cosine similarity {row['semantic_similarity']:.4f} (cluster 0): http" in told
    report = rows(store, database.query("report/semantic_duplicates"))
    assert sum(r["pairs"] for r in report) == len(rows(store, "select * from semantic_edges"))
    run(store, recipe(tmp_path / "r.yaml", LOOSE, signals=EMBEDDINGS, duplicates=wanted()), links)
    assert {s["stage"]: s["parts_run"] for s in last_run(store)["stages"]}["dedupe"] == 0
    run(store, recipe(tmp_path / "r.yaml", LOOSE, signals=EMBEDDINGS, duplicates=wanted(similarity=0.999)), links)
    assert {s["stage"]: s["parts_run"] for s in last_run(store)["stages"]}["dedupe"] == 1


def test_parts_and_batches_change_nothing(tmp_path: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    links = pictures(tmp_path, served)
    settings = wanted(clusters=4)
    found = []
    for size, at_a_time in ((3, 5), (100, 50_000)):
        monkeypatch.setattr(dedupe_semantic, "VECTORS_AT_A_TIME", at_a_time)
        store, name = tmp_path / f"store{size}", tmp_path / f"{size}.yaml"
        run(store, recipe(name, POLICY, signals=EMBEDDINGS, duplicates=settings, samples_per_part=size), links)
        opened = Store.open(store)
        assert (len(list(opened.table("semantic_pairs").glob("*.parquet"))) > 1) == (size == 3)
        found.append(
            (
                rows(store, "select * from semantic_edges order by all"),
                rows(store, "select * from decisions order by text_uid"),
            )
        )
    assert found[0] == found[1]
    assert {edge["cluster"] for edge in found[0][0]} <= {0, 1, 2, 3}


def test_a_pool_that_grows_keeps_its_centroids(tmp_path: Path, served: Served) -> None:
    """Only clusters with new vectors are searched again, and the pairs are those of one go with the same centroids."""
    good = [(url, f"picture {k}") for k, url in enumerate(served.pictures)]
    grown, once = tmp_path / "grown", tmp_path / "once"
    settings = recipe(tmp_path / "r.yaml", POLICY, signals=EMBEDDINGS, duplicates=wanted(clusters=6))
    searched = []
    for k, links in enumerate((good[:-1], good[-1:])):
        run(grown, settings, links_file(tmp_path / f"{k}.parquet", links))
        (stage,) = [stage for stage in last_run(grown)["stages"] if stage["stage"] == "dedupe"]
        searched.append(stage["counts"]["semantic_clusters_searched"])
        check_pairs(grown)
    assert searched == [6, 1]
    (kept,) = Store.open(grown).table("semantic_centroids").glob("*.parquet")
    there = Store.create(once).table("semantic_centroids")
    there.mkdir(parents=True)
    shutil.copy(kept, there)
    run(once, settings, links_file(tmp_path / "all.parquet", good))
    edges = "select * from semantic_edges order by all"
    assert rows(once, edges) == rows(grown, edges) != []
    assert len(list(there.glob("*.parquet"))) == 1
    settings = recipe(tmp_path / "r.yaml", POLICY, signals=EMBEDDINGS, duplicates=wanted(clusters=6, seed=1))
    run(grown, settings, tmp_path / "0.parquet")
    assert len(list(Store.open(grown).table("semantic_centroids").glob("*.parquet"))) == 2


def check_pairs(store: Path) -> None:
    """The pairs of the store are those within its clusters, by comparing all with all."""
    vectors, near = dull(store, IMAGES["similarity"])
    (kept,) = Store.open(store).table("semantic_centroids").glob("*.parquet")
    centroids = np.array([np.frombuffer(each, "<i2") for each in read_part(kept)["centroid"].to_pylist()], np.int64)
    cluster = {uid: int(np.argmax(centroids @ vector.astype(np.int64))) for uid, vector in vectors.items()}
    same = {(a, b) for a in vectors for b in vectors if a < b and np.array_equal(vectors[a], vectors[b])}
    found = {(row["uid"], row["other_uid"]) for row in rows(store, "select * from semantic_edges")}
    linked = {uid for pair in same for uid in pair}
    assert {pair for pair in found if not linked & {*pair}} == {
        (a, b) for a, b in near if cluster[a] == cluster[b] and not linked & {a, b}
    }


def test_texts_are_compared_by_theirs(tmp_path: Path, served: Served) -> None:
    texts = ["a b", "b a", "something else", "a b"]
    links = links_file(tmp_path / "l.parquet", list(zip(served.pictures, texts, strict=False)))
    policy = [*LOOSE, {"dedupe": "same_meaning", "of": "semantic", "prefer": "text, text_uid"}]
    settings = wanted(embedding="clip_text_embedding", clusters="auto", similarity=0.999)
    store = tmp_path / "store"
    run(store, recipe(tmp_path / "r.yaml", policy, signals=EMBEDDINGS, duplicates=settings), links)
    ledger = rows(store, "select * from ledger order by text, text_uid")
    same = [r for r in ledger if r["text"] == "a b"]
    assert [r["kept"] for r in same] == [True, False]
    assert same[1]["semantic_duplicate_of"] == same[0]["text_uid"]
    assert same[1]["semantic_similarity"] == 1.0


def test_the_audit_finds_what_is_wrong() -> None:
    row = {"text_uid": "ta", "media_uid": "ma", "sample_uid": "a", "semantic_duplicate_of": None, "kept": True}
    two = {"text_uid": "tb", "media_uid": "mb", "sample_uid": "b"}
    three = {"text_uid": "tc", "media_uid": "mc", "sample_uid": "c", "kept": False, "semantic_duplicate_of": "a"}
    edges = pa.Table.from_pylist([{"uid": "ma", "other_uid": "mb", "similarity": 0.99}])
    for second, problem in (
        ({"kept": False, "semantic_duplicate_of": "a"}, None),
        ({"kept": True}, "kept beside what is too like it"),
        ({"kept": False, "semantic_duplicate_of": "c"}, "removed for one that is removed"),
    ):
        con = database.connect()
        con.register("decisions", pa.Table.from_pylist([row, {**row, **two, **second}, {**row, **three}]))
        con.register("semantic_edges", edges)
        found = database.rows(con, database.query("audit/semantic_survivors"))
        assert [r["problem"] for r in found] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("duplicates", "policy", "what"),
    [
        ({"exact": ["sha256"], "perceptual": False}, POLICY, "same_meaning is `of: semantic`"),
        (wanted(embedding="width_px"), LOOSE, r"duplicates.semantic.embedding: 'width_px' is no column of embeddings"),
        (wanted(clusters=0), LOOSE, "must be at least 1, or auto"),
        (wanted(similarity=1.5), LOOSE, "duplicates.semantic.similarity"),
    ],
)
def test_mistakes_are_found_at_load(
    tmp_path: Path, duplicates: dict[str, Any], policy: list[dict[str, Any]], what: str
) -> None:
    with pytest.raises(RecipeError, match=what):
        load_recipe(recipe(tmp_path / "r.yaml", policy, signals=EMBEDDINGS, duplicates=duplicates))
