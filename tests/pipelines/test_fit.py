"""Fits: made once on the pool, the same however it is cut, kept or remade when it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.signals.embedding_cluster import EmbeddingCluster
from curation.signals.neg_clip_loss import NegClipLoss
from pipelines.store import Store
from tests.stores import NETWORKS, SIGNALS, Served, last_run, links_file, recipe, rows, run, tamis

SCORER = "tests.curation.signal_rows.TinyScorer"
MODEL = {"model": "tiny", "scorer": SCORER}
LOSS = {"batch_size": 4, "repetitions": 2}


def with_fits(path: Path, model: dict[str, str] = MODEL, loss: dict[str, Any] = LOSS, **changes: Any) -> Path:
    signals = [
        *({"use": f"curation.signals.{name}"} for name in SIGNALS),
        {"use": "curation.signals.image_embedding.ImageEmbedding", **model},
        {"use": "curation.signals.text_embedding.TextEmbedding", **model},
        {"use": "curation.signals.embedding_cluster.EmbeddingCluster", "num_clusters": 3},
        {"use": "curation.signals.neg_clip_loss.NegClipLoss", **loss},
    ]
    return recipe(path, signals=signals, **changes)


def links(tmp_path: Path, served: Served, first: int, count: int) -> Path:
    some = [(url, f"picture {i} of them") for i, url in enumerate(served.pictures)][first : first + count]
    return links_file(tmp_path / f"links{first}.parquet", some)


VALUES = "select text_uid, cluster_id, cluster_distance, neg_clip_loss from candidates order by text_uid"


def counts(store: Path) -> tuple[int, int]:
    """Fits made and signal parts made by the newest run."""
    (stage,) = (stage for stage in last_run(store)["stages"] if stage["stage"] == "score")
    return stage["counts"].get("fits", 0), stage["parts_run"]


def fit_names(store: Path, table: str) -> list[str]:
    return sorted(path.stem.removeprefix("00000-") for path in (store / "tables" / f"fit_{table}").iterdir())


def test_values_are_those_of_a_fit_on_the_whole_pool_however_it_is_cut(tmp_path: Path, served: Served) -> None:
    found = []
    for size in (3, 8):
        store = tmp_path / f"store{size}"
        run(store, with_fits(tmp_path / "r.yaml", samples_per_part=size), links(tmp_path, served, 0, 10))
        found.append(rows(store, VALUES))
        assert counts(store)[0] == 2
    assert found[0] == found[1]
    embeddings = "select text_uid, sample_uid, media_uid, clip_image_embedding, clip_text_embedding from candidates"
    flat = rows(store, f"{embeddings} order by text_uid")
    kind = pa.list_(pa.float16(), 5)
    whole = pa.table(
        {name: pa.array([row[name] for row in flat]) for name in ("text_uid", "sample_uid", "media_uid")}
        | {
            name: pa.array([np.array(row[name], np.float16) for row in flat], kind)
            for name in flat[0]
            if name.endswith("embedding")
        }
    )
    signals = (EmbeddingCluster(num_clusters=3), NegClipLoss.model_validate(LOSS))
    for signal in signals:
        values = signal.apply(whole, signal.fit_pool([whole])).to_pydict()
        for name in {"cluster_id", "cluster_distance", "neg_clip_loss"} & set(values):
            assert values[name] == [row[name] for row in found[0]]
    assert len({row["neg_clip_loss"] for row in found[0]}) == 10


def test_a_grown_pool_is_fitted_anew_unless_a_fit_is_named(tmp_path: Path, served: Served) -> None:
    store, recipe_file = tmp_path / "store", tmp_path / "r.yaml"
    said = run(store, with_fits(recipe_file), links(tmp_path, served, 0, 8))
    before = rows(store, VALUES)
    assert counts(store) == (2, 9)
    (name,) = fit_names(store, "neg_clip_loss")
    assert any(f"say `fit: {name}`" in line for line in said)
    run(store, with_fits(recipe_file), links(tmp_path, served, 0, 8))
    assert counts(store) == (0, 0)

    # grown: both fits anew, and with them both parts of their signals; the new part of the other seven
    run(store, with_fits(recipe_file), links(tmp_path, served, 8, 4))
    assert counts(store) == (2, 7 + 2 * 2)
    assert fit_names(store, "neg_clip_loss")[:3] != [name]
    grown = {row["text_uid"]: row["neg_clip_loss"] for row in rows(store, VALUES)}
    assert any(grown[row["text_uid"]] != row["neg_clip_loss"] for row in before)

    # frozen: the old rows keep their parts, the new one is computed with the old fit
    run(store, with_fits(recipe_file, loss={**LOSS, "fit": name[:6]}), links(tmp_path, served, 8, 4))
    assert counts(store) == (0, 1)
    frozen = {row["text_uid"]: row["neg_clip_loss"] for row in rows(store, VALUES)}
    assert len(frozen) == 12
    assert None not in frozen.values()
    assert all(frozen[row["text_uid"]] == row["neg_clip_loss"] for row in before)
    assert Store.open(store).state().tables["fit_neg_clip_loss"] == [f"tables/fit_neg_clip_loss/00000-{name}.parquet"]
    assert tamis("verify", store).returncode == 0

    # the same fit in another store, by its path
    other = tmp_path / "other"
    path = store / "tables" / "fit_neg_clip_loss" / f"00000-{name}.parquet"
    run(other, with_fits(recipe_file, loss={**LOSS, "fit": str(path)}), links(tmp_path, served, 0, 12))
    assert counts(other)[0] == 1  # the clusters'
    assert {row["text_uid"]: row["neg_clip_loss"] for row in rows(other, VALUES)} == frozen
    assert fit_names(other, "neg_clip_loss") == [name]


def test_a_fit_that_does_not_belong_is_refused(tmp_path: Path, served: Served) -> None:
    store, recipe_file, pool = tmp_path / "store", tmp_path / "r.yaml", links(tmp_path, served, 0, 6)
    run(store, with_fits(recipe_file), pool)
    (name,) = fit_names(store, "neg_clip_loss")

    def message(**fields: Any) -> str:
        with_fits(recipe_file, **fields)
        done = tamis(
            "run", recipe_file, "--store", store, "--links", pool, "--allow-net", *NETWORKS, "--address", "serial"
        )
        assert done.returncode == 2
        return " ".join(done.stderr.split())

    assert f"neither a file nor the beginning of one fit's name; there are: {name}" in message(
        loss={**LOSS, "fit": "zzzz"}
    )
    assert "was made with other fields or another version" in message(loss={"temperature": 0.5, "fit": name})
    other = {"model": "another", "scorer": SCORER}
    assert "was made from the columns of another model" in message(model=other, loss={**LOSS, "fit": name})


def test_a_plan_knows_fits(tmp_path: Path, served: Served) -> None:
    store, recipe_file = tmp_path / "store", with_fits(tmp_path / "r.yaml")
    pool = links(tmp_path, served, 0, 6)
    run(store, recipe_file, pool)
    (path,) = (store / "tables" / "fit_neg_clip_loss").iterdir()

    def to_score() -> list[str]:
        done = tamis("plan", recipe_file, "--store", store, "--links", pool, "--allow-net", *NETWORKS)
        line = next(line for line in done.stdout.splitlines() if line.startswith("score"))
        return line.replace("│", " ").split()

    assert to_score() == ["score", "0", "parts", "9", "parts"]
    path.unlink()
    assert to_score() == ["score", "1", "parts", "8", "parts"]
