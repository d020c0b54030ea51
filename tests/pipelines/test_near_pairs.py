"""Near pairs: the same for every order of growth, number of parts, buckets, slices and workers, crowds included."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipelines.dedupe_texts
import pipelines.near_pairs
from curation.components import connected_components
from curation.crowds import MAX_EQUAL
from curation.duplicate_search import TextSearch
from curation.signals.perceptual_hash import PerceptualHash
from curation.step import digest
from curation.table import open_part, write_part
from curation.thumbnail_match import KINDS, SURE, thumbnail_array
from pipelines import database
from pipelines.dedupe_texts import find_text_duplicates
from pipelines.looks import Looks
from pipelines.near_job import NEAR_PAIRS
from pipelines.near_pairs import crowd_groups, crowds_of, near_pairs
from pipelines.recipe import load_recipe
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers, Workers, make_workers
from tests.curation.in_memory import crowded, near_duplicates
from tests.curation.signal_rows import drawing
from tests.curation.test_near_duplicates import COPIES, copy, letter, plain_letter
from tests.stores import digests, recipe

TABLE = "signal_perceptual_hash"
WORDS = "a small red car stands in the street of an old town at night"
Row = tuple[Any, ...]


@pytest.fixture(scope="module")
def pictures() -> pa.Table:
    """Columns of the signal for 38 pictures: drawings and letters, their copies, a blank one and a missing one."""
    originals = [drawing(0, 90, 110), drawing(1, 90, 110), letter("b"), letter("L"), plain_letter("d")]
    images: list[np.ndarray | None] = [copy(each, kind, k) for k, each in enumerate(originals) for kind in COPIES]
    images += [*originals[:3], None, np.full((40, 40, 3), 200, np.uint8), *map(plain_letter, "bpq")]
    table = PerceptualHash().compute_images(images)
    order = np.random.default_rng(1).permutation(len(images))
    uids = pa.array([f"uid{k:03}" for k in range(len(images))])
    return table.take(pa.array(order)).add_column(0, "media_uid", uids)


def a_run(root: Path, workers: Workers | None = None) -> Run:
    store = Store.create(root / "store")
    return Run(
        load_recipe(recipe(root / "r.yaml")), store, workers or SerialWorkers(), store.state(), say=lambda _: None
    )


def parts_of(run: Run, pictures: pa.Table, cuts: Sequence[int]) -> list[Path]:
    """The pictures in parts, cut at rows."""
    edges = sorted({0, *cuts, pictures.num_rows})
    paths = []
    for index, (begin, end) in enumerate(itertools.pairwise(edges)):
        rows = pictures.slice(begin, end - begin)
        key = digest(rows.column("media_uid").to_pylist())
        paths.append(write_part(run.store.table(TABLE), index, key, rows).path)
    return paths


def pairs(run: Run, files: Sequence[Path]) -> list[Row]:
    """The pairs of looks that the run finds and the query merges."""
    found = near_pairs(run, files)
    con = database.connect()
    database.create_view(con, "looks_all", files)
    con.execute("create table looks as select media_uid, look, phash from looks_all where look is not null")
    database.create_view(con, "pairs_found", found.pairs, NEAR_PAIRS)
    database.create_view(con, "crowd_found", found.crowd_pairs, NEAR_PAIRS)
    con.register("crowds", pa.table({"phash": pa.array(found.crowds, pa.uint64())}))
    rows = database.rows(con, database.query("dedupe/near_looks"), {"kinds": list(KINDS)})
    con.close()
    return sorted(tuple(row.values()) for row in rows)


def dull(files: Sequence[Path], max_equal: int = MAX_EQUAL) -> list[Row]:
    """The pairs by `near_duplicates` over all looks in memory."""
    looks = Looks(files)
    found = near_duplicates(looks.hashes, looks.thumbnails, max_equal=max_equal)
    look = [bytes(each).ljust(16, b"\0") for each in looks.digests.tolist()]
    return sorted(
        (look[i], look[j], KINDS[kind], int(distance), bool(verdict == SURE))
        for i, j, distance, kind, verdict in zip(*found, strict=True)
    )


def test_the_pairs_are_those_in_memory(tmp_path: Path, pictures: pa.Table) -> None:
    run = a_run(tmp_path)
    files = parts_of(run, pictures, [10, 20])
    assert pairs(run, files) == dull(files) != []


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, 37), max_size=3), st.randoms(use_true_random=False), st.sampled_from([200, 10**6]))
def test_any_growth_ends_with_the_same_pairs(
    tmp_path_factory: pytest.TempPathFactory, pictures: pa.Table, cuts: set[int], rng: Any, bucket_entries: int
) -> None:
    """Parts come one by one or some at a time, in any order, into one bucket or many."""
    run = a_run(tmp_path_factory.mktemp("grown"))
    files = parts_of(run, pictures, sorted(cuts))
    rng.shuffle(files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines.near_pairs, "BUCKET_ENTRIES", bucket_entries)
        known = 0
        while known < len(files):
            known = min(len(files), known + rng.randint(1, 3))
            found = pairs(run, files[:known])
    assert found == dull(files)


def test_nothing_old_is_compared_again(tmp_path: Path, pictures: pa.Table) -> None:
    run = a_run(tmp_path)
    files = parts_of(run, pictures, [25])
    near_pairs(run, files[:1])
    before = digests(run.store.table("near_pairs"))
    found = near_pairs(run, files)
    assert (found.counts["near_parts_old"], found.counts["near_parts_new"]) == (1, 1)
    assert len(found.pairs) == 2
    assert digests(run.store.table("near_pairs")).items() > before.items()
    files[0].rename(tmp_path / "away")
    files[1].rename(tmp_path / "away too")
    again = near_pairs(run, [tmp_path / "away", tmp_path / "away too"])
    assert again.counts["near_parts_new"] == 0


def test_every_pair_of_a_new_look_is_in_its_generation(tmp_path: Path, pictures: pa.Table) -> None:
    """A generation has no pair of two old looks: the work is new times all."""
    run = a_run(tmp_path)
    files = parts_of(run, pictures, [25])
    near_pairs(run, files[:1])
    found = near_pairs(run, files)
    old = {bytes(each).ljust(16, b"\0") for each in Looks(files[:1]).digests.tolist()}
    con = database.connect()
    database.create_view(con, "newest", found.pairs[1:])
    rows = database.rows(con, "select look_a, look_b from newest")
    con.close()
    assert rows
    assert all(not {row["look_a"], row["look_b"]} <= old for row in rows)


def test_a_part_that_was_made_anew(tmp_path: Path, pictures: pa.Table) -> None:
    """A part with another content takes the place of one that is covered; what the old one said does no harm."""
    run = a_run(tmp_path)
    files = parts_of(run, pictures, [12, 25])
    pairs(run, files)
    changed = pictures.slice(20, 5)
    files[1] = write_part(run.store.table(TABLE), 1, digest("anew"), changed).path
    assert pairs(run, files) == dull(files)
    assert near_pairs(run, files).counts["near_parts_new"] == 0


def test_skewed_buckets_are_cut_into_slices(
    tmp_path: Path, pictures: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = a_run(tmp_path)
    files = parts_of(run, pictures, [20])
    monkeypatch.setattr(pipelines.near_pairs, "BUCKET_ENTRIES", 90)
    monkeypatch.setattr(pipelines.near_pairs, "GROUP_PARTS", 1)
    assert pairs(run, files) == dull(files)
    sizes = [open_part(path).stats["sizes"] for path in run.store.table("near_buckets").glob("*.parquet")]
    whole = np.sum(sizes, axis=0)
    cut = -(-whole // 90)
    assert cut.max() > 1
    assert len(list(run.store.table("near_pairs").glob("*.parquet"))) == np.maximum(cut * (cut + 1) // 2, 1).sum()


def joined(edges: Sequence[tuple[bytes, bytes]]) -> set[frozenset[bytes]]:
    """The groups that pairs of looks form."""
    looks = sorted({look for pair in edges for look in pair})
    ends = np.array([[looks.index(look) for look in pair] for pair in edges], np.int64).reshape(-1, 2)
    labels = connected_components(len(looks), ends[:, 0], ends[:, 1])
    return {frozenset(look for look, its in zip(looks, labels, strict=True) if its == label) for label in labels}


@pytest.mark.parametrize("bucket_entries", [200, 10**6])
def test_crowds_grow_too(
    tmp_path: Path, pictures: pa.Table, monkeypatch: pytest.MonkeyPatch, bucket_entries: int
) -> None:
    """A hash that becomes a crowd: its groups, sure ones and those of captions, are those of all at once in memory."""
    monkeypatch.setattr(pipelines.near_pairs, "BUCKET_ENTRIES", bucket_entries)
    run = a_run(tmp_path)
    files = parts_of(run, pictures, [6, 20])
    sizes, captions = [], 0
    monkeypatch.setattr(pipelines.near_pairs, "MAX_EQUAL", 2)
    for known in (1, 2, 3):
        found, expected = pairs(run, files[:known]), dull(files[:known], 2)
        looks = Looks(files[:known])
        in_crowd = {bytes(d).ljust(16, b"\0") for d in looks.digests[crowded(looks.hashes.own, 2)].tolist()}
        assert [row for row in found if not in_crowd & {*row[:2]}] == [
            row for row in expected if not in_crowd & {*row[:2]}
        ]
        assert joined([row[:2] for row in found if row[-1]]) == joined([row[:2] for row in expected if row[-1]])
        likely = crowd_groups(near_pairs(run, files[:known]).crowd_pairs).to_pylist()
        of_crowds = [row[:2] for row in expected if in_crowd & {*row[:2]}]
        assert joined([(row["look"], row["crowd_group"]) for row in likely]) == joined(of_crowds)
        sizes.append(len(crowds_of(files[:known])))
        captions += sum(not row[-1] for row in expected if in_crowd & {*row[:2]})
    assert sizes[0] < sizes[2]
    assert sizes[2] >= 2
    assert captions


@pytest.mark.slow
def test_workers_change_no_byte(tmp_path: Path, pictures: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of pictures and of texts, in buckets and slices."""
    for module in (pipelines.near_pairs, pipelines.dedupe_texts):
        monkeypatch.setattr(module, "BUCKET_ENTRIES", 60)
    made = []
    for name in ("serial", "local"):
        (tmp_path / name).mkdir()
        workers = make_workers(name)
        run = a_run(tmp_path / name, workers)
        near_pairs(run, parts_of(run, pictures, [10, 20, 30]))
        texts = pa.table({"text_uid": [f"{k:03d}" for k in range(90)], "text": [f"{WORDS} {k}" for k in range(90)]})
        sources = [write_part(run.store.table("texts"), k, digest(k), texts.slice(30 * k, 30)).path for k in range(3)]
        find_text_duplicates(run, sources, TextSearch())
        workers.close()
        made.append(digests(run.store.root / "tables"))
    assert made[0] == made[1]
    assert len(made[0]) > 20


def test_thumbnails_are_read_where_they_are(tmp_path: Path, pictures: pa.Table) -> None:
    run = a_run(tmp_path)
    looks = Looks(parts_of(run, pictures, [7, 21]))
    small = thumbnail_array(pa.chunked_array([pictures.column("thumbnail").combine_chunks().drop_null()]))
    by_look = dict(
        zip(
            pictures.column("look").drop_null().to_pylist(),
            [row for row in pictures.to_pylist() if row["look"] is not None],
            strict=True,
        )
    )
    rows = np.array([3, 0, len(looks) - 1, 3])
    found = looks.thumbnails(rows)
    for row, pixels in zip(rows, found, strict=True):
        wanted = by_look[bytes(looks.digests[row]).ljust(16, b"\0")]
        assert pixels.tobytes() == wanted["thumbnail"]
        assert int(looks.hashes.own[row]) == wanted["phash"]
    assert len(small) >= len(looks)
