"""Verify: flipped, cut and missing bytes are found wherever they lie."""

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.table import read_part
from flows.main_job import load
from pipelines import database
from pipelines.ingest import ingest
from pipelines.store import Store
from pipelines.verify import verify_store
from tests.stores import links_file, options, rows


@pytest.fixture
def store(finished: Path, tmp_path: Path) -> Store:
    shutil.copytree(finished, tmp_path / "store")
    return Store.open(tmp_path / "store")


def problems(store: Store) -> list[str]:
    return verify_store(store, lambda _: None)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def test_a_healthy_store(finished: Path, tmp_path: Path) -> None:
    said: list[str] = []
    assert verify_store(Store.open(finished), said.append) == []
    assert said[-1] == "audits: done"
    assert verify_store(Store.create(tmp_path / "new"), said.append) == []


def test_a_run_that_ended_on_its_way_is_no_damage(store: Store, finished: Path, tmp_path: Path) -> None:
    """Between ingest and select the pool is ahead of what was fetched, or of what was decided."""
    (url,) = (row["url"] for row in rows(store.root, "select url from media where status = 'ok' order by url limit 1"))
    for link, said in (((url, "a caption that nobody decided about"), "decisions: made about other texts than there"),
                       (("http://new.example/x", "x"), "audits: not done, for links were taken in")):  # fmt: skip
        links = links_file(tmp_path / "l.parquet", [link])
        ingest(load(options(store.root, finished.parent / "full.yaml", [links])), store)
        heard: list[str] = []
        assert verify_store(store, heard.append) == []
        assert any(line.startswith(said) for line in heard), heard


@pytest.mark.parametrize("table", ["media", "texts", "decisions", "signal_perceptual_hash"])
def test_flipped_bytes_in_parts(store: Store, table: str) -> None:
    path = sorted((store.root / "tables" / table).iterdir())[0]
    whole, before = path.read_bytes(), read_part(path)
    footer = int.from_bytes(whole[-8:-4], "little") + 8
    rng = random.Random(table)
    found = 0
    for place in [rng.randrange(4, len(whole) - footer) for _ in range(6)]:
        flip(path, place)
        if any(path.name in line for line in problems(store)):
            found += 1
        else:  # the statistics in a page's header have no checksum: what is read is the same
            assert read_part(path).equals(before), f"byte {place} of {len(whole)}, footer {footer}"
        path.write_bytes(whole)
    assert found >= 4
    assert problems(store) == []


def test_a_header_that_duckdb_alone_refuses_is_told_with_its_file(store: Store) -> None:
    """No checksum guards the header of a page."""
    path = sorted((store.root / "tables" / "decisions").iterdir())[0]
    whole, before = path.read_bytes(), read_part(path)
    for place in range(4, 400):
        flip(path, place)
        if pyarrow_reads(path, before) and not duckdb_reads(path):
            break
        path.write_bytes(whole)
    (said,) = problems(store)
    assert said.startswith(f"{path}: DuckDB cannot read it: ")


def pyarrow_reads(path: Path, wanted: pa.Table) -> bool:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            return bool(file.read().equals(wanted))
    except (pa.ArrowException, OSError, ValueError):
        return False


def duckdb_reads(path: Path) -> bool:
    con = database.connect()
    try:
        database.create_view(con, "part", [path])
        database.arrow(con, "select * from part")
    except database.SqlError:
        return False
    return True


def test_flipped_bytes_in_shards_are_found_everywhere(store: Store) -> None:
    (version,) = (store.root / "versions").iterdir()
    rng = random.Random(0)
    for path in sorted(version.glob("*.parquet")):
        whole = path.read_bytes()
        for place in (0, len(whole) - 1, rng.randrange(len(whole))):
            flip(path, place)
            assert any(path.name in line for line in problems(store))
            path.write_bytes(whole)
    assert problems(store) == []


def test_cut_and_missing_files(store: Store) -> None:
    (version,) = (store.root / "versions").iterdir()
    media = sorted((store.root / "tables" / "media").iterdir())[0]
    for path in (sorted(version.glob("*.parquet"))[0], media):
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        assert any(path.name in line for line in problems(store))
        path.unlink()
        assert any(path.name in line for line in problems(store))
        path.write_bytes(whole)
    assert problems(store) == []


def test_an_index_of_a_shard_is_looked_at(store: Store) -> None:
    (version,) = (store.root / "versions").iterdir()
    first, second = sorted((version / "ranges").glob("*.parquet"))[:2]
    whole, other = first.read_bytes(), second.read_bytes()
    for damaged, said in ((other, "is not that of its shard"), (whole[:-9], "delete it")):
        first.write_bytes(damaged)
        assert [line for line in problems(store) if first.name in line and said in line]
    first.unlink()
    assert [line for line in problems(store) if first.name in line and "is missing" in line]
    first.write_bytes(whole)
    assert problems(store) == []


def test_two_parts_that_changed_places(store: Store) -> None:
    one, two = sorted((store.root / "tables" / "media").iterdir())[:2]
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert {name for name in (one.name, two.name) if any(name in line for line in problems(store))} == {
        one.name,
        two.name,
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"num_samples": ', '"num_samples": 1'),
        ('"num_texts": ', '"num_texts": 1'),
        ('"sha256": "', '"sha256": "0'),
        ('"digest": "', '"digest": "0'),
        ('"shards": [', '"shard": ['),
        ('"shards": [', '"shards": ['[:-1]),
        ("{", "["),
    ],
)
def test_a_damaged_manifest(store: Store, old: str, new: str) -> None:
    (manifest,) = (store.root / "versions").glob("*/manifest.json")
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new, 1))
    assert any(manifest.parent.name in line for line in problems(store))


def test_a_store_that_does_not_add_up(store: Store) -> None:
    state = store.state()
    state.tables["decisions"] = []
    store.save_state(state)
    assert problems(store) == []  # nothing decided is no damage
    media = state.tables["media"]
    state.tables["media"] = media[:-1]
    store.save_state(state)
    assert any("media_of_samples" in line for line in problems(store))
