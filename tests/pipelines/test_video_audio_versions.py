"""Video and audio through the main job: packed versions, runs that go on, damage that the audits find."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, Wanted
from flows.main_job import perform
from pipelines.pack_segments import FIXED, MODALITIES
from pipelines.store import Store
from pipelines.verify import verify_store
from pretrain.rows import map_rows
from pretrain.version import open_version
from tests.pipelines.av_store import NAME, Finished, write_recipe
from tests.pipelines.test_audit import Row, change, found
from tests.stores import (
    LEDGER,
    command,
    digests,
    environment,
    last_run,
    leftovers,
    links_file,
    options,
    parts_run,
    rows,
    run,
    run_arguments,
)
from tests.test_idempotence import after, interrupt, some_files


def shards(av_finished: Finished) -> list[Path]:
    return sorted((av_finished.store / "versions").glob("*/*.parquet"))


def test_a_version_holds_bytes_by_modality(av_finished: Finished) -> None:
    (manifest,) = (av_finished.store / "versions").glob("*/manifest.json")
    packed: list[dict[str, Any]] = []
    for path in shards(av_finished):
        with pq.ParquetFile(path) as file:
            assert file.schema_arrow.names == [*FIXED[:-1], *MODALITIES, "texts", "loudness_lufs"]
            sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
            assert max(sizes) <= 2
            packed += file.read().to_pylist()
    kept = rows(av_finished.store, "select distinct sample_uid from ledger where kept")
    assert {row["sample_uid"] for row in packed} == {row["sample_uid"] for row in kept}
    assert manifest.exists()
    with AvDecoder() as decoder:
        for row in packed:
            assert row["has_video"] == (row["video"] is not None) == (row["image"] is not None)
            assert row["has_audio"] == (row["audio"] is not None)
            assert row["has_text"]
            if row["video"] is not None:
                assert hashlib.sha256(row["video"]).hexdigest() == row["media_sha256"]
            outcome, got = decoder.gather(row["audio"], Wanted(audio=(AudioTap(16_000),)))
            samples = got.samples()
            assert outcome.probe.audio_codec == "opus"
            assert outcome.probe.container == "ogg"
            assert samples is not None
            assert len(samples.pcm) / 16_000 == pytest.approx(row["duration_s"], abs=0.08)
            assert row["texts"][0]["start_s"] is None
    timed = [text for row in packed for text in row["texts"] if text["start_s"] is not None]
    assert {text["source"] for text in timed} == {"subtitles"}


def test_training_finds_every_medium_by_the_index_beside_the_shards(av_finished: Finished, tmp_path: Path) -> None:
    (manifest,) = (av_finished.store / "versions").glob("*/manifest.json")
    indexes = [{"image": each["ranges"], **each["media_ranges"]} for each in json.loads(manifest.read_text())["shards"]]
    assert all(set(each) == set(MODALITIES) for each in indexes)
    made = map_rows(tmp_path, open_version(manifest.parent))
    packed = [row for path in shards(av_finished) for row in pq.read_table(path).to_pylist()]
    for name in MODALITIES:
        assert [made.medium(row, name) or None for row in range(len(made))] == [row[name] for row in packed]
    assert [made.duration_s(row) for row in range(len(made))] == [row["duration_s"] for row in packed]
    index = manifest.parent / indexes[0]["audio"]
    whole = index.read_bytes()
    index.write_bytes(whole[:-1])
    assert any("ranges" in each for each in verify_store(Store.open(av_finished.store), lambda _: None))
    index.write_bytes(whole)


def test_a_second_run_makes_nothing_and_a_lost_shard_is_made_as_it_was(av_finished: Finished) -> None:
    before = digests(av_finished.store / "versions")
    ledger = rows(av_finished.store, LEDGER)
    shards(av_finished)[0].unlink()
    av_finished.again()
    assert parts_run(av_finished.store) == {
        "ingest": 0, "download": 0, "segment": 0, "score": 0, "dedupe": 0, "select": 0, "pack": 1,
    }  # fmt: skip
    assert digests(av_finished.store / "versions") == before
    assert rows(av_finished.store, LEDGER) == ledger
    assert leftovers(av_finished.store) == []


def test_a_new_caption_cuts_nothing_and_another_cut_fetches_nothing(av_finished: Finished, tmp_path: Path) -> None:
    store = shutil.copytree(av_finished.store, tmp_path / "store")
    known = rows(store, "select distinct sample_uid from segments where url like '%two.mkv' order by all")
    more = links_file(tmp_path / "more.parquet", [(f"{av_finished.url}/two.mkv", "another caption")], subtitles=[None])
    run(store, av_finished.recipe, *av_finished.sources, more)
    made = parts_run(store)
    assert (made["download"], made["segment"], made["dedupe"]) == (0, 1, 0)  # one part of texts
    assert made["score"] == 2  # text_hygiene and caption_statistics of that part
    assert rows(store, "select distinct sample_uid from segments where url like '%two.mkv' order by all") == known
    said = rows(store, "select text, kept from ledger where url like '%two.mkv'")
    assert sorted(row["text"] for row in said) == ["another caption"] * 2 + ["caption of two.mkv"] * 2
    assert all(row["kept"] for row in said)
    longer = write_recipe(tmp_path / "longer.yaml", segment={"by": "whole", "subtitles": ["subtitles"]})
    run(store, longer, *av_finished.sources, more)
    assert parts_run(store)["download"] == 0
    spans = rows(store, f"select {NAME} as name, end_s from segments where status = 'ok'")
    assert {row["name"]: round(row["end_s"], 1) for row in spans}["one.mp4"] == 7.6
    found = rows(
        store, "select text, text_start_s from ledger where url like '%/one.mp4' order by text_start_s nulls first"
    )
    assert [row["text"] for row in found] == ["caption of one.mp4", "first words", "second words"]


def test_a_refresh_asks_servers_and_leaves_folders_alone(av_finished: Finished, tmp_path: Path) -> None:
    store = shutil.copytree(av_finished.store, tmp_path / "store")
    before = rows(store, LEDGER)
    perform(replace(options(store, av_finished.recipe, av_finished.sources), refresh=True), lambda _: None)
    (counts,) = [stage["counts"] for stage in last_run(store)["stages"] if stage["stage"] == "download"]
    assert (counts["rows_refreshed"], counts["rows_unchanged"], counts["rows_lost"]) == (4, 4, 0)
    assert rows(store, LEDGER) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "reached",
    [
        after("tables/media/*.parquet", 3, 0.5),
        some_files("tables/segments/*.parquet", 1),
        some_files("tables/segment_texts/*.parquet", 1),
        some_files("versions/*/*.parquet", 1),
    ],
    ids=["in segment", "between its parts", "in score", "in pack"],
)
def test_killed_and_run_again(av_finished: Finished, tmp_path: Path, reached: Any) -> None:
    store = tmp_path / "store"
    process = subprocess.Popen(
        command(*run_arguments(store, av_finished.recipe, *av_finished.sources)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    assert interrupt(process, store, reached, "SIGKILL")
    run(store, av_finished.recipe, *av_finished.sources)
    assert digests(store / "versions") == digests(av_finished.store / "versions")
    assert digests(store / "tables" / "segments") == digests(av_finished.store / "tables" / "segments")
    assert rows(store, LEDGER) == rows(av_finished.store, LEDGER)
    assert leftovers(store) == []


def lose_a_segment(found: list[Row]) -> None:
    own = [row for row in found if row["source_uid"] == found[0]["source_uid"]]
    found[:] = [row for row in found if row not in own]


def cut_from_nowhere(found: list[Row]) -> None:
    found[0]["source_uid"] = "0" * 32


def lose_the_range(found: list[Row]) -> None:
    next(row for row in found if row["status"] == "ok")["end_s"] = None


def forget_a_text(found: list[Row]) -> None:
    next(row for row in found if row["source_text_uid"] is not None)["source_text_uid"] = None


@pytest.mark.parametrize(
    ("audit", "table", "edit"),
    [
        ("sources_in_segments", "media", lose_a_segment),
        ("sources_in_segments", "media", cut_from_nowhere),
        ("sources_in_segments", "media", lose_the_range),
        ("source_texts_in_segments", "texts", forget_a_text),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_damage_is_found_by_the_audits(
    av_finished: Finished, tmp_path: Path, audit: str, table: str, edit: Any
) -> None:
    shutil.copytree(av_finished.store, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert found(store) == set()
    if table == "texts":  # those of segments, which the state calls so
        state = store.state()
        state.tables["texts of segments"] = state.tables["texts"]
        store.save_state(state)
        table = "texts of segments"
    change(store, table, edit)
    assert audit in found(store)
