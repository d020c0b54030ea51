"""Ingest: nothing of the input is lost or doubled; what is known is not made again."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pipelines.sources
from curation.table import read_part
from curation.urls import canonical_url, uid
from flows.main_job import load
from pipelines import pool_growth
from pipelines.ingest import ingest
from pipelines.recipe import Recipe
from pipelines.sources import SourceError
from pipelines.store import Store
from tests.stores import Served, digests, leftovers, links_file, options, parts_run, recipe, rows, run

Link = tuple[str | None, str | None]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def made(tmp_path: Path, *links: Path, **changes: Any) -> Recipe:
    return load(options(tmp_path / "store", recipe(tmp_path / "r.yaml", **changes), links))


def texts(store: Store) -> list[dict[str, Any]]:
    return [row for each in store.pool() for row in read_part(each.texts.path).to_pylist()]


def links_of(store: Store) -> list[dict[str, Any]]:
    return [row for each in store.pool() for row in read_part(each.links.path).to_pylist()]


def expected(link: Link) -> str:
    """The uid of the text of a link, by its definition."""
    url, text = link
    if url is None or not url.strip():
        sample = uid("sample without url", text or "")
    else:
        sample = uid("sample", canonical_url(url)[0] or url)
    return uid("text", sample, text or "")


def test_nothing_is_lost_and_nothing_doubled(tmp_path: Path, store: Store) -> None:
    rng = random.Random(7)
    urls = [f"http://h{i % 7}.example/{i % 23}.png" for i in range(60)] + [
        None, "", "  ", "not a url", "ftp://a.example/x", "http://[::1/", "data:text/plain,x", "http://u:p@a.example/",
        "HTTP://H1.Example:80/1.png", "http://h1.example/1.png#part",
    ]  # fmt: skip
    captions = ["a", "b ", " b", "", None, "'; drop table texts; --", "ü\n\t", "\u202e", "x" * 10_000]
    table: list[Link] = [(rng.choice(urls), rng.choice(captions)) for _ in range(600)]
    counts = ingest(made(tmp_path, links_file(tmp_path / "l.parquet", table)), store)
    assert counts["links_read"] == 600
    found = [row["text_uid"] for row in texts(store)]
    assert sorted(found) == sorted({expected(link) for link in table})
    assert counts["texts_new"] == len(found)
    samples = [row["sample_uid"] for row in links_of(store)]
    assert len(samples) == len(set(samples)) == counts["samples_new"]
    assert set(samples) == {row["sample_uid"] for row in texts(store)}
    by_uid = {expected(link): link[1] for link in table}
    assert all((row["text"] or "") == (by_uid[row["text_uid"]] or "") for row in texts(store))


def test_one_url_in_many_spellings_is_one_sample(tmp_path: Path, store: Store) -> None:
    spellings = ["http://a.example/x.png", "HTTP://A.EXAMPLE:80/x.png", " http://a.example/./x.png#frag"]
    ingest(made(tmp_path, links_file(tmp_path / "l.parquet", [(each, each) for each in spellings])), store)
    (link,) = links_of(store)
    assert (link["url"], link["url_canonical"]) == (spellings[0], spellings[0])
    assert [row["text"] for row in texts(store)] == spellings
    assert [row["position"] for row in texts(store)] == [0, 1, 2]


def test_refused_urls_keep_their_texts_and_a_reason(tmp_path: Path, store: Store) -> None:
    table: list[Link] = [(None, "one"), (None, "two"), (None, "one"), ("ftp://a.example/x", "three"), (None, None)]
    ingest(made(tmp_path, links_file(tmp_path / "l.parquet", table)), store)
    assert sorted(row["text"] or "" for row in texts(store)) == ["", "one", "three", "two"]
    assert sorted(row["url_reason"] for row in links_of(store)) == ["in.missing_url"] * 3 + ["url.bad_scheme"]
    assert all(row["url_canonical"] is None for row in links_of(store))


def test_several_text_columns(tmp_path: Path, store: Store) -> None:
    path = links_file(
        tmp_path / "l.parquet", [("http://a.example/1", "alt"), ("http://a.example/2", None)], title=["title", None]
    )
    columns = {"url": "url", "text": ["caption", "title"]}
    ingest(made(tmp_path, path, source={"columns": columns}, pack={}), store)
    found = {(row["text"], row["text_source"]) for row in texts(store)}
    assert found == {("alt", "caption"), ("title", "title"), (None, "caption")}


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_column_may_hold_several_texts(tmp_path: Path, store: Store, ending: str) -> None:
    path = tmp_path / f"l.{ending}"
    captions = [["one", "two", None, "one"], [], None, ["three"]]
    urls = ["http://a.example/1", "http://a.example/2", "http://a.example/3", None]
    if ending == "parquet":
        pq.write_table(pa.table({"url": urls, "caption": pa.array(captions, pa.large_list(pa.string()))}), path)
    else:
        lines = [json.dumps({"url": url, "caption": each}) for url, each in zip(urls, captions, strict=True)]
        path.write_text("\n".join([*lines, json.dumps({"url": "http://a.example/1", "caption": "four"})]))
    ingest(made(tmp_path, path, source={"columns": {"text": "caption"}}, pack={}), store)
    url_of = {row["sample_uid"]: row["url"] for row in links_of(store)}
    found = [(url_of[row["sample_uid"]], row["text"]) for row in texts(store)]
    expected = [(urls[0], "one"), (urls[0], "two"), (urls[1], None), (urls[2], None), (None, "three")]
    key = [(urls[0], "four")] if ending == "jsonl" else []
    assert sorted(found, key=str) == sorted([*expected, *key], key=str)


def test_where_batches_end_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    rng = random.Random(3)
    table: list[Link] = [(f"http://a.example/{rng.randrange(40)}.png", f"{rng.randrange(5)}") for _ in range(300)]
    first = links_file(tmp_path / "1.parquet", table[:100])
    second = links_file(tmp_path / "2.parquet", table[100:])
    for sources in ((first,), (first, second)):
        ingest(made(tmp_path, *sources), store)
    other = Store.create(tmp_path / "other")
    monkeypatch.setattr(pool_growth, "SORTED_ROWS", 7)
    monkeypatch.setattr(pipelines.sources, "BATCH_ROWS", 11)
    for sources in ((first,), (first, second)):
        ingest(made(tmp_path, *sources), other)
    assert digests(other.root) == digests(store.root)


def test_repeated_rows_fold_and_their_languages_gather(tmp_path: Path, store: Store) -> None:
    table: list[Link] = [*[("http://a.example/1", "taxi")] * 4, ("http://a.example/1", "Bus")]
    path = links_file(tmp_path / "l.parquet", table, language=["de", "en", None, "de", None])
    ingest(made(tmp_path, path), store)
    found = {row["text"]: (row["language_claimed"], row["languages_claimed"]) for row in texts(store)}
    assert found == {"taxi": ("de", ["de", "en"]), "Bus": (None, [])}


def test_a_promised_digest_is_found_whichever_row_has_it(tmp_path: Path, store: Store) -> None:
    path = links_file(
        tmp_path / "l.parquet", [("http://a.example/1", "one"), ("http://a.example/1", "two")], sha=[None, "AB" * 32]
    )
    ingest(made(tmp_path, path, source={"columns": {"text": "caption", "sha256": "sha"}}, pack={}), store)
    assert [row["expected_hash"] for row in links_of(store)] == ["ab" * 32]


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    table: list[Link] = [(f"http://a.example/{i % 31}.png", f"caption {i}") for i in range(120)]
    shuffled = random.Random(1).sample(table, len(table))
    found = []
    for name, some in (("one", table), ("two", shuffled)):
        store = Store.create(tmp_path / name)
        ingest(made(tmp_path, links_file(tmp_path / f"{name}.parquet", some)), store)
        parts = [
            (
                each.links.path.name,
                sorted((r["text_uid"], r["sample_uid"], r["text"]) for r in read_part(each.texts.path).to_pylist()),
            )
            for each in store.pool()
        ]
        found.append(parts)
    assert found[0] == found[1]
    assert len(found[0]) == 4  # 31 samples, 8 a part


def test_a_second_time_nothing_is_read(tmp_path: Path, store: Store) -> None:
    path = links_file(tmp_path / "l.parquet", [("http://a.example/1", "one")])
    ingest(made(tmp_path, path), store)
    before = digests(store.root)
    assert ingest(made(tmp_path, path), store) == {"links_read": 0, "parts_made": 0, "parts": 1}
    other_name = tmp_path / "renamed.parquet"
    path.rename(other_name)
    assert ingest(made(tmp_path, other_name), store)["links_read"] == 0
    assert digests(store.root) == before
    assert leftovers(store.root) == []


def test_without_a_link_table_the_pool_stays_and_an_empty_one_is_an_error(tmp_path: Path, store: Store) -> None:
    recipe = made(tmp_path, links_file(tmp_path / "l.parquet", [("http://a.example/1", "one")]))
    none_named = recipe.changed(source=recipe.source.changed(links=[]))
    with pytest.raises(SourceError, match="--links FILE"):
        ingest(none_named, store)
    ingest(recipe, store)
    before = digests(store.root)
    assert ingest(none_named, store) == {"links_read": 0, "parts_made": 0, "parts": 1}
    assert digests(store.root) == before


def test_tables_of_a_folder_without_a_row(tmp_path: Path, store: Store) -> None:
    """A job of many workers writes a file for each share of its work, whatever that share gave."""
    folder = tmp_path / "links"
    folder.mkdir()
    head = "url,caption,language,split\n"
    links_file(folder / "0.parquet", [])
    (folder / "1.csv").write_text(head)
    (folder / "2.csv").write_text("")
    (folder / "3.jsonl").write_text("\n")
    with pytest.raises(SourceError, match=r"0\.parquet: has no rows"):
        ingest(made(tmp_path, folder), store)
    (folder / "4.csv").write_text(f"{head}http://a.example/x.png,one,en,train\n")
    with pytest.raises(SourceError, match=r"1\.csv: has no rows"):  # named, it is a mistake
        ingest(made(tmp_path, folder / "1.csv", folder / "4.csv"), store)
    found = ingest(made(tmp_path, folder), store)
    assert (found["links_read"], found["texts_new"], found["tables_empty"]) == (1, 1, 4)
    (folder / "5.csv").write_text(f"{head}\n")
    found = ingest(made(tmp_path, folder), store)  # nothing but one more empty one is new
    assert (found["links_read"], found["tables_empty"], found["parts"]) == (0, 1, 1)
    (folder / "6.csv").write_text("address,text\n")
    with pytest.raises(SourceError, match="no column 'url'"):
        ingest(made(tmp_path, folder), store)


def test_a_new_file_makes_new_parts_only(tmp_path: Path, store: Store) -> None:
    first = links_file(tmp_path / "1.parquet", [(f"http://a.example/{i}", "x") for i in range(20)])
    second = links_file(tmp_path / "2.parquet", [(f"http://b.example/{i}", "x") for i in range(9)])
    ingest(made(tmp_path, first), store)
    before, known = digests(store.root / "tables"), store.pool()
    counts = ingest(made(tmp_path, first, second), store)
    assert (counts["parts_made"], counts["parts"], counts["samples_new"]) == (2, 5, 9)
    assert store.pool()[:3] == known
    assert before.items() <= digests(store.root / "tables").items()
    assert len(store.pool_sources()) == 2


def test_a_new_caption_of_a_known_picture(tmp_path: Path, store: Store) -> None:
    first = links_file(tmp_path / "1.parquet", [(f"http://a.example/{i}", "x") for i in range(20)])
    second = links_file(tmp_path / "2.parquet", [("http://a.example/3", "new"), ("http://a.example/3", "x")])
    ingest(made(tmp_path, first), store)
    before = store.pool()
    counts = ingest(made(tmp_path, first, second), store)
    assert (counts["parts_made"], counts["texts_new"], counts["samples_new"]) == (1, 1, 0)
    after = store.pool()
    assert [each.links for each in after] == [each.links for each in before]
    changed = [new for old, new in zip(before, after, strict=True) if old.texts != new.texts]
    assert len(changed) == 1
    found = [row for row in read_part(changed[0].texts.path).to_pylist() if row["text"] == "new"]
    assert [row["position"] for row in found] > [0]
    assert len(texts(store)) == 21


def test_claims_about_a_known_text_are_added(tmp_path: Path, store: Store) -> None:
    table: list[Link] = [("http://a.example/1", "taxi"), ("http://a.example/2", "bus")]
    first = links_file(tmp_path / "1.parquet", table, language=["de", None])
    second = links_file(tmp_path / "2.parquet", table[::-1], language=["fr", "en"])
    whole = links_file(tmp_path / "3.parquet", table + table[::-1], language=["de", None, "fr", "en"])
    ingest(made(tmp_path, first), store)
    counts = ingest(made(tmp_path, first, second), store)
    assert (counts["texts_new"], counts["samples_new"], counts["parts_made"]) == (0, 0, 1)
    claims = {row["text"]: (row["language_claimed"], row["languages_claimed"]) for row in texts(store)}
    assert claims == {"taxi": ("de", ["de", "en"]), "bus": ("fr", ["fr"])}
    at_once = Store.create(tmp_path / "at-once")
    ingest(made(tmp_path, whole), at_once)
    assert [each.texts.path.name for each in at_once.pool()] == [each.texts.path.name for each in store.pool()]
    assert ingest(made(tmp_path, first, second, whole), store)["parts_made"] == 0  # says nothing new


def test_what_one_row_leaves_out_another_says(tmp_path: Path) -> None:
    """Of rows with one URL and text the first that says something counts, in one table or two; blanks say nothing."""
    table: list[Link] = [("http://a.example/1", "taxi"), ("http://a.example/2", "bus"), ("http://a.example/1", "taxi")]
    said = {"language": ["", None, "en"], "split": [None, "val", "train"], "kind": ["car", None, "van"]}
    source = {"columns": {"url": "url", "text": "caption", "language": "language", "extra": ["split", "kind"]}}
    several = [links_file(tmp_path / f"{i}.parquet", table[i : i + 1], **{n: [v[i]] for n, v in said.items()})
               for i in range(3)]  # fmt: skip
    whole = links_file(tmp_path / "whole.parquet", table, **said)
    pools = []
    for number, links in enumerate(([whole], several)):
        store = Store.create(tmp_path / f"store{number}")
        for until in range(1, len(links) + 1):
            ingest(made(tmp_path, *links[:until], source=source), store)
        pools.append({r["text"]: (r["split"], r["kind"], r["language_claimed"], r["languages_claimed"])
                      for r in texts(store)})  # fmt: skip
    assert pools == [{"taxi": ("train", "car", "en", ["en"]), "bus": ("val", None, None, [])}] * 2


def test_a_column_that_is_asked_for_later(tmp_path: Path, served: Served) -> None:
    links = links_file(tmp_path / "l.parquet", [(url, "a caption") for url in served.pictures[:3]])
    store = tmp_path / "store"
    run(store, recipe(tmp_path / "r.yaml", source={"columns": {"text": "caption"}}, pack={}), links)
    run(store, recipe(tmp_path / "r.yaml"), links)  # packs the column `split`
    assert parts_run(store)["download"] == 0
    assert rows(store, "select distinct split, language_claimed from texts") == [
        {"split": "train", "language_claimed": "en"}
    ]


@pytest.mark.parametrize("wrong", ["empty", "truncated", "no column"])
def test_a_bad_file_takes_nothing_in(tmp_path: Path, store: Store, wrong: str) -> None:
    good = links_file(tmp_path / "a.parquet", [("http://a.example/1", "one")])
    bad = links_file(tmp_path / "b.parquet", [("http://a.example/2", "two")])
    if wrong == "empty":
        links_file(bad, [])
    if wrong == "truncated":
        bad.write_bytes(bad.read_bytes()[:-40])
    changes = {"source": {"columns": {"text": "captoin"}}, "pack": {}} if wrong == "no column" else {}
    with pytest.raises(SourceError, match="parquet"):
        ingest(made(tmp_path, good, bad, **changes), store)
    assert store.pool() == []
    if wrong != "no column":
        assert ingest(made(tmp_path, good), store)["texts_new"] == 1


def test_a_new_caption_costs_no_download_and_no_picture_signal(tmp_path: Path, served: Served) -> None:
    first = links_file(tmp_path / "1.parquet", [(url, "a caption") for url in served.pictures[:10]])
    second = links_file(tmp_path / "2.parquet", [(served.pictures[0], "another caption")])
    store, small = tmp_path / "store", recipe(tmp_path / "r.yaml")
    run(store, small, first)
    run(store, small, first, second)
    done = parts_run(store)
    assert done == {"ingest": 1, "download": 0, "score": 3, "dedupe": 0, "select": 1, "pack": done["pack"]}
    (row,) = rows(
        store, "select kept, split from ledger join texts using (text_uid) where ledger.text = 'another caption'"
    )
    assert row == {"kept": True, "split": "train"}
