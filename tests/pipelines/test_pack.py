"""Pack: a sealed version whose name and bytes depend on what it holds, not on how the pool came about."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import pack_plan
from pipelines.workers import PartFailed
from tests.stores import LOOSE, Served, digests, last_run, links_file, recipe, rows, run


def version(store: Path) -> Path:
    (found,) = (store / "versions").iterdir()
    return found


def test_the_layout_of_shards(finished: Path) -> None:
    folder = version(finished)
    manifest = json.loads((folder / "manifest.json").read_text())
    shards = [folder / shard["name"] for shard in manifest["shards"]]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [*(path.name for path in shards), "manifest.json", "ranges"]
    )
    assert folder.name == manifest["name"] == f"full-{manifest['digest'][:12]}"
    total = texts = 0
    for path, said in zip(shards, manifest["shards"], strict=True):
        data = path.read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (said["size_bytes"], said["sha256"])
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
            group = file.metadata.row_group(0)
            columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert columns["image"].compression == "UNCOMPRESSED"
        assert set(columns["image"].encodings) <= {"PLAIN", "RLE"}
        assert columns["texts.list.element.text"].compression == "ZSTD"
        assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == manifest[
            "columns"
        ]
        assert (table.num_rows, sum(map(len, table.column("texts").to_pylist()))) == (
            said["num_samples"],
            said["num_texts"],
        )
        ranges = pq.read_table(folder / said["ranges"]).to_pylist()
        assert [data[each["start"] : each["start"] + each["length"]] for each in ranges] == table.column(
            "image"
        ).to_pylist()
        total, texts = total + table.num_rows, texts + said["num_texts"]
        for row in table.to_pylist():
            assert hashlib.sha256(row["image"]).hexdigest() == row["image_sha256"]
            assert [text["text_uid"] for text in row["texts"]] == sorted(text["text_uid"] for text in row["texts"])
            assert set(row["texts"][0]) == {
                "text_uid",
                "text",
                "language",
                "languages",
                "num_words",
                "keep_probability",
            }
            assert row["split"] in ("train", "val")
    assert (total, texts) == (manifest["num_samples"], manifest["num_texts"])
    assert [said["num_samples"] for said in manifest["shards"][:-1]] == [10] * (len(shards) - 1)
    assert sum(manifest["languages"].values()) == texts


def test_a_version_holds_just_what_is_kept(finished: Path) -> None:
    held = rows(finished, "select sample_uid, text_uid from members order by text_uid")
    kept = rows(finished, "select sample_uid, text_uid from ledger where kept order by text_uid")
    assert held == kept != []


def test_the_order_is_a_keyed_shuffle(finished: Path) -> None:
    shards = sorted(version(finished).glob("*.parquet"))
    order = [uid for path in shards for uid in pq.read_table(path, columns=["sample_uid"]).column(0).to_pylist()]
    assert sorted(order, key=lambda uid: (hashlib.md5(f"0:{uid}".encode()).hexdigest(), uid)) == order
    assert order != sorted(order)


def table_of(path: Path, served: Served, some: slice) -> Path:
    urls = served.pictures[some]
    return links_file(path, [(url, f"picture {url[-9:]} {n}") for url in urls for n in range(2)])


def test_however_the_pool_grew_the_version_is_the_same(tmp_path: Path, served: Served) -> None:
    whole = table_of(tmp_path / "whole.parquet", served, slice(0, 12))
    halves = [
        table_of(tmp_path / "1.parquet", served, slice(7, 12)),
        table_of(tmp_path / "2.parquet", served, slice(0, 7)),
    ]
    run(tmp_path / "one", recipe(tmp_path / "r.yaml"), whole)
    run(tmp_path / "two", recipe(tmp_path / "r.yaml"), halves[0])
    half = version(tmp_path / "two").name
    run(tmp_path / "two", recipe(tmp_path / "r.yaml"), *halves)
    run(tmp_path / "three", recipe(tmp_path / "r.yaml", samples_per_part=5), whole)
    found = digests(tmp_path / "one" / "versions")
    grown = {k: v for k, v in digests(tmp_path / "two" / "versions").items() if not k.startswith(half)}
    assert found == grown == digests(tmp_path / "three" / "versions")
    assert len(found) == 5  # two shards, their byte indexes and the manifest
    ledgers = [rows(tmp_path / name, "select * from ledger order by text_uid") for name in ("one", "two", "three")]
    assert ledgers[0] == ledgers[1] == ledgers[2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """A folder with a store of 8 pictures, its recipe and its links."""
    root = tmp_path_factory.mktemp("small")
    run(root / "store", recipe(root / "r.yaml"), table_of(root / "l.parquet", served, slice(0, 8)))
    return root


def again(small: Path, tmp_path: Path) -> tuple[Path, Path]:
    shutil.copytree(small / "store", tmp_path / "store")
    return tmp_path / "store", small / "l.parquet"


def pack_of(store: Path) -> dict[str, Any]:
    (found,) = (stage for stage in last_run(store)["stages"] if stage["stage"] == "pack")
    return dict(found)


def test_a_sealed_version_is_not_packed_again(small: Path, tmp_path: Path) -> None:
    store, links = again(small, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in version(store).iterdir()}
    said = run(store, small / "r.yaml", links)
    assert any(line.strip().endswith("(reused)") for line in said)
    assert pack_of(store)["parts_run"] == 0
    assert {path: path.stat().st_mtime_ns for path in version(store).iterdir()} == before


def test_where_batches_of_the_sort_end_changes_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, links = again(small, tmp_path)
    before = digests(store / "versions")
    shutil.rmtree(store / "versions")
    monkeypatch.setattr(pack_plan, "SORTED_ROWS", 3)
    run(store, small / "r.yaml", links)
    assert digests(store / "versions") == before


def test_samples_are_cut_into_shards_and_texts_nested() -> None:
    uids, per_shard = [0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4], 2
    columns = {"texts.text": [f"{i}" for i in range(11)], "position": [2, 0, 1, 0, 0, 1, 0, 3, 2, 1, 0]}
    seen = ["c", None, "b", None, "x", "y", "z", "d", "c", None, None]
    rows_ = pa.table({"sample_uid": [str(uid) for uid in uids], **columns, "note": seen})
    for size in range(1, 12):
        batches = [rows_.slice(at, size) for at in range(0, 11, size)]
        shards = [pack_plan._nested(each, ["note"]).to_pylist() for each in pack_plan._shards(batches, per_shard)]
        assert [len(shard) for shard in shards] == [2, 2, 1]
        found = [row for shard in shards for row in shard]
        assert [[text["text"] for text in row["texts"]] for row in found] == [
            ["0", "1", "2"], ["3"], ["4", "5"], ["6"], ["7", "8", "9", "10"],
        ]  # fmt: skip
        assert [row["note"] for row in found] == ["b", None, "x", "z", "c"]  # of the first text that has one


def test_a_lost_shard_or_manifest_is_made_again_as_it_was(small: Path, tmp_path: Path) -> None:
    store, links = again(small, tmp_path)
    before = digests(store / "versions")
    for name in sorted(before):
        (store / "versions" / name).unlink()
        run(store, small / "r.yaml", links)
        assert digests(store / "versions") == before


def test_damaged_bytes_are_never_packed(small: Path, tmp_path: Path) -> None:
    store, links = again(small, tmp_path)
    shutil.rmtree(store / "versions")
    (part,) = (store / "tables" / "media").iterdir()
    image = rows(store, "select bytes from media where status = 'ok' limit 1")[0]["bytes"]
    data = bytearray(part.read_bytes())
    data[data.index(image) + len(image) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(PartFailed, match="pack of shard"):
        run(store, small / "r.yaml", links)
    assert not list((store / "versions").rglob("manifest.json"))


def test_a_changed_column_is_another_version(small: Path, tmp_path: Path) -> None:
    store, links = again(small, tmp_path)
    first = version(store).name
    run(store, recipe(tmp_path / "r.yaml", pack={"samples_per_shard": 6, "columns": ["aspect_ratio"]}), links)
    names = [path.name for path in (store / "versions").iterdir()]
    assert len(names) == 2
    assert (
        pq.read_schema(next((store / "versions" / (set(names) - {first}).pop()).glob("*.parquet"))).names.count(
            "aspect_ratio"
        )
        == 1
    )
    run(store, small / "r.yaml", links)
    (name,) = rows(store, "select version from versions order by packed desc limit 1")
    assert name["version"] == first  # the latest is what was asked for last


def test_a_policy_that_keeps_nothing_packs_nothing(small: Path, tmp_path: Path) -> None:
    store, links = again(small, tmp_path)
    said = run(store, recipe(tmp_path / "r.yaml", [*LOOSE, {"rule": "none", "keep": "width_px < 0"}]), links)
    assert any("keeps nothing" in line for line in said)
    assert pack_of(store)["counts"]["samples"] == 0
    assert len(list((store / "versions").iterdir())) == 1
