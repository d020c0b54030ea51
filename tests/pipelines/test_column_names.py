"""Columns of link tables under any name: those that pipelines use on the way, other spellings, a version's own."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from flows.main_job import load
from pipelines import pack_faces, pack_names, pack_segments
from pipelines.recipe import Columns, load_recipe
from pipelines.yaml_place import RecipeError
from tests.pipelines.policies import COLUMNS, decide, row
from tests.stores import LOOSE, Served, links_file, options, recipe, rows, run

NAMES = ["row", "part", "known", "batch", "counted", "place", "file", "start", "length", "filename", "value", "version"]


def columns(*extra: str) -> dict[str, Any]:
    return {"columns": {"url": "url", "text": "caption", "language": "language", "extra": list(extra)}}


def test_no_name_is_taken_by_what_happens_on_the_way(served: Served, tmp_path: Path) -> None:
    """Sorted into the pool, counted by a quota, packed and shown, beside values of the same names."""
    urls = served.pictures[:6]
    said = {name: [f"{name} {i // 2}" for i in range(6)] for name in NAMES}
    links = links_file(tmp_path / "l.parquet", [(url, f"a picture {i}") for i, url in enumerate(urls)], **said)
    first = {"at_most": 1, "prefer": "place, url", "among": "all"}
    quotas = [{"quota": f"by_{name}", "per": name, **first} for name in ("row", "batch")]
    made = recipe(
        tmp_path / "r.yaml",
        [*LOOSE, *quotas],
        samples_per_part=4,
        source=columns(*NAMES),
        pack={"columns": NAMES, "text_columns": ["row", "file"]},
    )
    store = tmp_path / "store"
    run(store, made, links)
    wanted = [dict(zip(["url", *NAMES], each, strict=True)) for each in zip(urls, *said.values(), strict=True)]
    assert rows(store, f"select url, {', '.join(NAMES)} from candidates order by url") == wanted
    assert rows(store, "select rejected_by, count(*) as n from ledger group by all order by rejected_by") == [
        {"rejected_by": [], "n": 3},
        {"rejected_by": ["by_row", "by_batch"], "n": 3},
    ]
    (shard,) = (store / "versions").glob("*/*.parquet")
    packed = pq.read_table(shard).to_pylist()
    assert sorted((p["url"], *(p[name] for name in NAMES)) for p in packed) == [
        tuple(each.values()) for each in wanted[::2]
    ]
    assert all(p["texts"][0]["file"] == p["file"] for p in packed)
    assert rows(store, "select count(*) as n from members where version like 'small-%'") == [{"n": 3}]
    assert {each["file"] for each in rows(store, "select file from shards")} == {f"file {i}" for i in range(3)}
    grown = links_file(tmp_path / "more.parquet", [(urls[0], "another one")], **{name: ["new"] for name in NAMES})
    run(store, made, links, grown)
    assert rows(store, "select row, part, known from texts where text = 'another one'") == [
        {"row": "new", "part": "new", "known": "new"}
    ]


@pytest.mark.parametrize("rule", [{"dedupe": "d", "of": "texts"}, {"dedupe": "d", "of": "semantic"}])
def test_a_preference_reads_the_column_that_it_names(rule: dict[str, Any]) -> None:
    """Of two that are alike the one with the larger `row`, `passed` or `batch` stays, whatever its place is."""
    names = ["row", "passed", "batch", "uid"]
    schema = pa.schema([*COLUMNS, *((name, pa.int64()) for name in names)])
    table = pa.Table.from_pylist(
        [row(i, i, **dict.fromkeys(names, value)) for i, value in enumerate([5, 9, 7])], schema=schema
    )
    groups = pa.table({"text_uid": ["t000", "t001", "t002"], "text_duplicate_group": ["t000"] * 3})
    edges = pa.table(
        {"uid": ["m000", "m000"], "other_uid": ["m001", "m002"], "level": ["media"] * 2, "kind": ["embedding"] * 2,
         "similarity": [0.99, 0.99], "cluster": pa.array([0, 0], pa.int64())}
    )  # fmt: skip
    for name in names:
        policy = [{**rule, "prefer": f"{name} desc"}]
        kept = decide(table, policy, {"text_duplicates": groups, "semantic_edges": edges}).column("kept").to_pylist()
        assert kept[:2] == [False, True], name


@pytest.mark.parametrize("name", ["Text", "URL", "language", "Language", "picture_link", "Kept"])
def test_a_name_of_the_stores_own_is_refused_in_any_letters(name: str) -> None:
    with pytest.raises(ValidationError, match="the store has a column"):
        Columns(extra=[name])
    with pytest.raises(ValidationError, match="named twice"):
        Columns(extra=["Split", "split"])


def test_a_name_of_a_signals_own_is_refused_in_any_letters(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="CaptionStatistics writes the column 'num_words'"):
        load_recipe(recipe(tmp_path / "r.yaml", source=columns("split", "Num_Words")))
    plain = recipe(tmp_path / "p.yaml")
    asked = options(tmp_path / "s", plain, [])
    with pytest.raises(RecipeError, match="extra=Num_Words: a signal of the recipe writes"):
        load(type(asked)(plain, tmp_path / "s", columns="extra=split,extra=Num_Words"))


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"rule": "r", "keep": "Num_Words > 3"}, "the column is spelled 'num_words', not 'Num_Words'"),
        ({"top": "t", "by": "LUMINANCE", "fraction": 0.5}, "the column is spelled 'Luminance', not 'LUMINANCE'"),
        ({"quota": "q", "per": "url", "at_most": 1, "prefer": "WIDTH_PX desc"}, "spelled 'width_px', not 'WIDTH_PX'"),
    ],
)
def test_a_rule_spells_a_column_as_it_is_spelled(tmp_path: Path, item: dict[str, Any], said: str) -> None:
    """SQL takes it in any letters; what a decision depends on is told by names."""
    made = recipe(tmp_path / "r.yaml", [*LOOSE, item], source=columns("split", "Luminance"))
    with pytest.raises(RecipeError) as caught:
        load_recipe(made)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("extra", "pack", "said"),
    [
        ("image", {"columns": ["image"]}, "pack.columns: the rows of a version have 'image' of their own"),
        ("texts", {"columns": ["texts"]}, "pack.columns: the rows of a version have 'texts' of their own"),
        ("split", {"columns": ["position"]}, "pack.columns: the rows of a version have 'position' of their own"),
        ("split", {"columns": ["bytes"]}, "pack.columns: there is no column 'bytes'"),
        ("split", {"text_columns": ["text"]}, "pack.text_columns: the texts of a version have 'text' of their own"),
    ],
)
def test_a_version_keeps_its_own_names(tmp_path: Path, extra: str, pack: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe(tmp_path / "r.yaml", source=columns(extra), pack=pack))
    assert said in str(caught.value)


def test_the_names_that_are_kept_are_those_that_packing_uses() -> None:
    assert {*pack_segments.MODALITIES, pack_faces.BOXES, pack_faces.COUNT} <= pack_names.OF_SAMPLES
    own = {"has_video", "has_audio", "has_text", "media_sha256", "texts"}
    assert own <= pack_names.OF_SAMPLES & set(pack_segments.FIXED)
    assert pack_names.own_name("text_columns", "source", ["generated_for"]) is not None
    assert pack_names.own_name("text_columns", "source", []) is None
    assert pack_names.own_name("columns", "url", []) is None
