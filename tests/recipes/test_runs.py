"""Every published recipe from links to a sealed version, on drawn pictures with a small model.

What is kept must be what the plain readings of tests/recipes/test_selection.py keep of the computed signals.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from curation.table import read_part
from pipelines.plan import plan
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers
from tests.recipes.published import WORDS, published
from tests.recipes.test_selection import CHANGES, READINGS
from tests.stores import Served, options, rows, run

pytestmark = pytest.mark.slow
COLUMNS = "columns: {url: url, text: text}"
ROUNDED = 3e-4


def alike_pictures(store: Path, least: float) -> list[tuple[str, str, float]]:
    """SemDeDup's pairs from the stored embeddings: unit vectors, those of one cluster compared with one another.

    Of the search only the centroids are taken, for no source says where k-means begins, and its precision: vectors of
    4,000 steps, which moves no similarity by more than `ROUNDED`.
    """
    found = rows(store, "select media_uid, clip_image_embedding as vector from clip_image_embedding order by media_uid")
    found = [row for row in found if row["vector"] is not None]
    exact = np.array([row["vector"] for row in found], np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    whole = np.rint(exact * 4000).astype(np.int64)
    length = np.sqrt((whole * whole).sum(axis=1))
    similarity = whole @ whole.T / np.outer(length, length)
    assert np.abs(similarity - exact @ exact.T).max() < ROUNDED
    (fitted,) = Store.open(store).table("semantic_centroids").glob("*.parquet")
    centroids = np.array([np.frombuffer(each, "<i2") for each in read_part(fitted)["centroid"].to_pylist()], np.int64)
    cluster = np.argmax(whole @ centroids.T, axis=1)
    assert len(set(cluster)) > 1
    return [
        (found[i]["media_uid"], found[j]["media_uid"], float(similarity[i, j]))
        for i, j in itertools.combinations(range(len(found)), 2)
        if cluster[i] == cluster[j] and similarity[i, j] > least
    ]


@pytest.mark.parametrize("name", sorted(READINGS))
def test_a_recipe_runs_and_keeps_what_its_source_keeps(
    name: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.main_job import load

    changes = {COLUMNS: "columns: {url: url, text: caption, language: language}", **CHANGES.get(name, {})}
    path = published(name, tmp_path / "r", **changes)
    store = tmp_path / "store"
    found = load(options(store, path, [served.links]))
    lines = plan(Run(found, Store(store), SerialWorkers(), Store(store).state()))
    assert lines[0].to_run == "1 link tables"
    said = run(store, path, served.links)
    assert any("nothing lost, nothing doubled" in line for line in said)
    candidates = rows(store, "select * from candidates")
    if name == "datacomp_text_based":  # which word names a class is not left to the matcher
        for row in candidates:
            words = re.findall(r"\w+", (row["text_clean"] or "").lower())
            assert bool(row["entry_ids"]) == any(word in WORDS for word in words), row["text_clean"]
    decided = {row["text_uid"]: row["kept"] for row in rows(store, "select * from decided")}
    assert len(decided) == len(candidates) > 40
    if name == "semdedup":
        pairs = alike_pictures(store, 0.97)
        monkeypatch.setattr("tests.recipes.test_selection.SEMANTIC", pairs)
        assert len(pairs) > 3
    assert {uid for uid, kept in decided.items() if kept} == READINGS[name](candidates)
    assert sum(decided.values()) == len(rows(store, "select distinct text_uid from members"))
