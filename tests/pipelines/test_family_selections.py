"""What families of pre-training ask of selections: translations taken out, nested subsets, rows with nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from pipelines import database
from pipelines.store import Store
from pretrain.version import open_version
from tests.pipelines.family_pool import NUM, ORIGINALS, POLICY, SETTINGS, TEACHER, Pool
from tests.stores import SIGNALS, recipe, rows, run, tamis


@pytest.mark.family("F09")
def test_machine_translations_are_removed_by_one_query(family_pool: Pool, tmp_path: Path) -> None:
    """F09 (f): what is left is, bit for bit, what there was without them, in the pool and in a version."""
    fields = ["text_uid", "text", "language", "text_source", "clip_text_embedding"]
    embedding = {"use": "curation.signals.text_embedding.TextEmbedding", **TEACHER}
    settings = {
        **SETTINGS,
        "name": "plain",
        "source": {"columns": {**SETTINGS["source"]["columns"], "text": ["caption"]}},
        "signals": [*({"use": f"curation.signals.{name}"} for name in SIGNALS), embedding],
        "duplicates": {"exact": ["sha256"], "perceptual": False},
        "pack": {"samples_per_shard": 12, "columns": ["split"], "text_columns": fields[3:]},
    }
    plain = recipe(tmp_path / "plain.yaml", POLICY, **settings)
    run(tmp_path / "plain", plain, family_pool.plain)
    policy = tmp_path / "originals.yaml"
    policy.write_text(yaml.safe_dump({"policy": [*POLICY, ORIGINALS]}))
    done = tamis("select", family_pool.recipe, "--store", family_pool.store, "--policy", policy, "--name", "originals")
    assert done.returncode == 0, done.stderr
    (
        original,
        left,
    ) = (  # but for what came in with the second table, and links without a link, named by all their columns
        _arrow(
            store,
            "select * from texts where text_source <> 'mt' and sample_uid in "
            "(select sample_uid from media where url like '%/whole/%') order by text_uid",
        )
        for store in (tmp_path / "plain", family_pool.store)
    )
    assert left.equals(original)
    assert original.num_rows > 3 * NUM
    (translated,) = rows(family_pool.store, "select count(*) as n from texts where text_source = 'mt'")
    assert translated["n"] == NUM  # one of the two of each picture: the other is what a person wrote
    versions = [open_version(Store.open(each).version_path(name)) for each, name in
                ((tmp_path / "plain", "plain"), (family_pool.store, "originals"))]  # fmt: skip
    columns = [name for name in versions[0].columns() if name != "texts"]
    without, packed = (each.read(columns) for each in versions)
    assert packed.equals(without)
    ours, theirs = (_texts(each, fields) for each in versions)
    assert ours.equals(theirs)


def _arrow(store: Path, sql: str) -> pa.Table:
    from pipelines.views import open_store

    con = open_store(Store.open(store))
    found = database.arrow(con, sql)
    con.close()
    return found


def _texts(version: Any, fields: list[str]) -> pa.Table:
    texts = version.read(["texts"]).column("texts").combine_chunks().flatten()
    return pa.table({name: texts.field(name) for name in fields})


@pytest.mark.family("F29")
def test_rows_with_nothing_are_refused_and_counted(family_pool: Pool) -> None:
    """F29 (b): a link without a link and without a text has one code, is in the ledger, and in no version."""
    nothing = rows(family_pool.store, "select * from ledger where url is null or trim(url) = '' order by text")
    assert [row["text"] for row in nothing] == ["a text alone", None]
    assert {(row["status"], row["reason"], row["kept"]) for row in nothing} == {("refused", "in.missing_url", False)}
    gone = rows(family_pool.store, "select * from ledger where url like '%/gone.png'")
    assert [(row["status"], row["reason"], row["kept"]) for row in gone] == [("failed", "http.4xx_gone", False)]
    (silent,) = rows(family_pool.store, "select * from ledger where url like '%without-a-text'")
    assert (silent["status"], silent["rejected_by"]) == ("ok", ["some_text"])  # by the policy, not by a loss
    version = open_version(Store.open(family_pool.store).version_path("families"))
    table = version.read(["image", "texts"])
    assert table.column("image").null_count == 0
    assert pc.min(pc.list_value_length(table.column("texts").combine_chunks())).as_py() >= 1
    assert version.num_samples == NUM


@pytest.mark.family("F29")
def test_a_ladder_of_subsets_is_nested(family_pool: Pool, tmp_path: Path) -> None:
    """F29 (c): named versions of 35%, 70% and all samples, each within the next, whole samples; 1% within 5% within 25%
    by the same draw."""
    whole_version = open_version(Store.open(family_pool.store).version_path("families"))
    held = {1.0: set(whole_version.read(["sample_uid"]).column(0).to_pylist())}
    for share in (0.35, 0.7):
        policy, name = tmp_path / f"{share}.yaml", f"share{round(100 * share):03d}"
        rule = {"rule": "ladder", "keep": "sample_draw < $share", "at": {"share": share}}
        policy.write_text(yaml.safe_dump({"policy": [*POLICY, rule]}))
        done = tamis("select", family_pool.recipe, "--store", family_pool.store, "--policy", policy, "--name", name)
        assert done.returncode == 0, done.stderr
        version = open_version(Store.open(family_pool.store).version_path(name))
        table = version.read(["sample_uid", "texts"])
        held[share] = set(table.column("sample_uid").to_pylist())
        members = f"members where version = '{version.folder.name}'"
        texts = rows(family_pool.store, f"select count(*) as n from {members}")
        whole = rows(
            family_pool.store,
            "select count(*) as n from ledger l where l.text is not null and l.status = 'ok' "
            f"and l.sample_uid in (select sample_uid from {members})",
        )
        assert texts == whole
    assert set() < held[0.35] < held[0.7] < held[1.0]
    assert len(held[1.0]) == NUM
    ladder = "select count(distinct sample_uid) filter (where sample_draw < {}) as n from candidates"
    counts = [rows(family_pool.store, ladder.format(share))[0]["n"] for share in (0.01, 0.05, 0.25, 1.0)]
    assert counts == sorted(counts)
    (draws,) = rows(family_pool.store, "select max(n) as n from "
                    "(select count(distinct sample_draw) as n from candidates group by sample_uid)")  # fmt: skip
    assert draws["n"] == 1  # so what is below 0.05 is below 0.25, with all of its texts
