"""The store as SQL sees it: the ledger has one row for each text, whatever became of it."""

import tempfile
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from flows.main_job import load
from pipelines import database
from pipelines.ingest import ingest
from pipelines.store import Store
from pipelines.views import open_store
from tests.pipelines.test_ingest import expected
from tests.stores import Served, links_file, options, recipe, rows, run

LEDGER = {
    "sample_uid": pa.string(),
    "text_uid": pa.string(),
    "url": pa.string(),
    "text": pa.string(),
    "language": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "replaced_sha256": pa.string(),
    "kept": pa.bool_(),
    "rejected_by": pa.list_(pa.string()),
    "duplicate_group": pa.string(),
    "duplicate_of": pa.string(),
    "text_duplicate_group": pa.string(),
    "text_duplicate_of": pa.string(),
    "semantic_duplicate_of": pa.string(),
    "semantic_similarity": pa.float64(),
    "evaluation_set": pa.string(),
    "evaluation_item": pa.string(),
    "keep_probability": pa.float64(),
    "clip_score": pa.float32(),
}


NOT_SEARCHED = {
    f"{name}{end}" for name in ("semantic_edges", "evaluation_matches", "text_tags") for end in ("", "__empty")
}
OF_SEGMENTS = ("sources", "source_texts", "segments", "segment_texts", "segment_matches")
NOT_SEARCHED |= {f"{name}{end}" for name in (*OF_SEGMENTS, "generated_texts") for end in ("", "__empty")}
NOT_SEARCHED |= {
    f"{name}{end}" for name in ("metrics", "outcomes", "models", "forgetting", "ablations") for end in ("", "__empty")
}
"""Tables of searches and texts that the finished store's recipe does not ask for, of segments, which it does not have,
and of trained models."""


NOT_ASKED_FOR = {"report/semantic_duplicates", "report/decontamination", "report/tags"}


def test_what_memory_does_not_hold_is_not_left_where_the_process_stands(tmp_path: Path) -> None:
    con = open_store(Store.create(tmp_path / "store"), locked=True)
    assert database.rows(con, "select current_setting('temp_directory') as folder") == [
        {"folder": str(tmp_path / "store" / "cache")}
    ]
    con.close()
    assert database.connect().execute("select current_setting('temp_directory')").fetchone() == (tempfile.gettempdir(),)


def test_the_ledger_has_the_promised_columns(finished: Path, tmp_path: Path) -> None:
    for store in (Store.open(finished), Store.create(tmp_path / "new")):
        con = open_store(store)
        table = database.arrow(con, "select * from ledger")
        con.close()
        assert {field.name: field.type for field in table.schema} == LEDGER


def test_every_link_of_the_input_is_in_the_ledger_once_per_text(finished: Path, served: Served) -> None:
    table = pq.read_table(served.links)
    links = list(zip(table.column("url").to_pylist(), table.column("caption").to_pylist(), strict=True))
    uids = [row["text_uid"] for row in rows(finished, "select text_uid from ledger")]
    assert sorted(uids) == sorted({expected(link) for link in links})
    urls = {row["url"] for row in rows(finished, "select url from ledger")}
    assert urls == {url for url, _ in links}


def test_each_row_of_the_ledger_tells_what_became_of_it(finished: Path) -> None:
    found = rows(finished, "select * from ledger")
    assert {row["status"] for row in found} == {"ok", "failed", "refused"}
    for row in found:
        assert row["kept"] == (row["rejected_by"] == [])
        assert (row["status"] == "ok") == (row["reason"] is None)
        assert (row["status"] == "ok") or row["rejected_by"][0] == "downloaded"
        assert row["duplicate_of"] is None or "near_duplicate" in row["rejected_by"]
        assert row["keep_probability"] is None or 0 <= row["keep_probability"] <= 1
    assert any(row["keep_probability"] is not None and row["keep_probability"] < 1 for row in found)
    assert any(len(row["rejected_by"]) > 1 for row in found)


def test_all_views_answer(finished: Path) -> None:
    con = open_store(Store.open(finished))
    names = [row["view_name"] for row in database.rows(con, "select view_name from duckdb_views() where not internal")]
    names += ["versions", "runs", "policy_rules"]
    assert {"media", "texts", "decisions", "ledger", "candidates", "members", "probe", "text_hygiene"} <= set(names)
    for name in set(names) - NOT_SEARCHED:
        count = database.rows(con, f"select count(*) as n from {database.quoted(name)}")[0]["n"]
        assert count > 0, name
    con.close()


def test_all_reports_answer_on_a_full_and_on_an_empty_store(finished: Path, tmp_path: Path) -> None:
    for store in (finished, Store.create(tmp_path / "new").root):
        con = open_store(Store.open(store))
        for name in database.queries("report"):
            found = database.rows(con, database.query(name))
            assert found or store != finished or name in NOT_ASKED_FOR, name
        con.close()


def test_the_funnel_adds_up(finished: Path) -> None:
    con = open_store(Store.open(finished))
    funnel = database.rows(con, database.query("report/funnel"))
    con.close()
    assert [row["step"] for row in funnel][:2] == ["in the pool", "downloaded"]
    for before, after in pairwise(funnel):
        assert before["texts_left"] - after["texts_lost"] == after["texts_left"]
        assert before["samples_left"] >= after["samples_left"]
    (total,) = rows(finished, "select count(*) as n, count(*) filter (where kept) as kept from ledger")
    assert (funnel[0]["texts_left"], funnel[-1]["texts_left"]) == (total["n"], total["kept"])


def test_texts_that_came_after_the_selection_have_passed_no_rule(tmp_path: Path, served: Served) -> None:
    """As after a run that was ended while it fetched them."""
    store = tmp_path / "store"
    first, more = (
        links_file(tmp_path / f"{name}.parquet", [(url, f"a picture of {name}") for url in urls])
        for name, urls in (("first", served.pictures[:5]), ("more", served.pictures[5:8]))
    )
    run(store, recipe(tmp_path / "r.yaml"), first)
    before = rows(store, database.query("report/funnel"))
    assert [(row["step"], row["texts_lost"], row["texts_left"]) for row in before[:1]] == [("in the pool", 0, 5)]
    ingest(load(options(store, tmp_path / "r.yaml", [first, more])), Store.open(store))
    found = rows(store, database.query("report/funnel"))
    assert [(row["step"], row["texts_lost"], row["texts_left"]) for row in found[:2]] == [
        ("in the pool", 0, 8),
        ("not decided yet", 3, 5),
    ]
    assert found[2:] == before[1:]
