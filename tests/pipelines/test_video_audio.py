"""Video and audio through the main job: from links and a folder to segments, decisions and packed versions."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, Wanted
from flows.main_job import perform
from pipelines.pack_segments import FIXED, MODALITIES
from pipelines.store import Store
from pipelines.verify import verify_store
from pipelines.why import story
from pretrain.rows import map_rows
from pretrain.version import open_version
from tests.curation.av import media
from tests.pipelines import loopback
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
    recipe,
    rows,
    run,
    run_arguments,
)
from tests.test_idempotence import after, interrupt, some_files

SIGNALS = ["text_hygiene.TextHygiene", "caption_statistics.CaptionStatistics", "video_motion.VideoMotion"]
SIGNALS += ["audio_levels.AudioLevels", "media_fingerprint.MediaFingerprint", "picture_statistics.PictureStatistics"]
POLICY = [
    {"rule": "some_text", "keep": "text_clean is not null"},
    {"rule": "not_silent", "keep": "not has_audio or silence_share < 0.8"},
    {"rule": "not_still", "keep": "modality = 'audio' or not is_slideshow and still_share < 0.95"},
    {"dedupe": "copies", "prefer": "duration_s desc, size_bytes desc"},
]
SRT = "1\n00:00:00,500 --> 00:00:01,500\nfirst words\n\n2\n00:00:03,000 --> 00:00:04,000\nsecond words\n"
CUTS = {"one.mp4": (0.0, 2.4, 5.4, 7.6), "two.mkv": (0.0, 2.8, 5.2), "three.webm": (0.0, 2.2, 4.6)}
"""Where the shots of each film begin and end, in seconds."""


def film(seed: int, cuts: tuple[float, ...], kind: str, silent: bool = False, still: bool = False) -> bytes:
    lengths = [round((end - start) * media.FPS) for start, end in pairwise(cuts)]
    frames = [f for k, n in enumerate(lengths) for f in media.pan(10 * seed + k, n, 0 if still else 2, 160, 120)]
    sound = media.music(sum(lengths) / media.FPS, seed) * (0 if silent else 1)
    return media.write(frames, sound, kind, options={"g": "25"} if kind == "mp4" else None)


@dataclass(frozen=True)
class Finished:
    """A store of all of them, what the run said, and where things are."""

    store: Path
    recipe: Path
    sources: tuple[Path, ...]
    url: str
    said: list[str]
    song: bytes

    def again(self, *links: Path) -> list[str]:
        return run(self.store, self.recipe, *self.sources, *links)


def write_recipe(path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "name": "av",
        "samples_per_part": 4,
        "source": {"modality": "av", "columns": {"url": "url", "text": ["caption", "subtitles"]}},
        "download": {"fetch": {"memory_cap_bytes": 100_000, "retries": 0}},
        "segment": {"by": "shots", "subtitles": ["subtitles"], "shots": {"min_s": 1.5, "max_s": 20}},
        "signals": [{"use": f"curation.signals.{name}"} for name in SIGNALS],
        "duplicates": {"exact": ["sha256"], "perceptual": False, "segments": {"min_share": 0.5}},
        "pack": {"samples_per_shard": 4, "columns": ["loudness_lufs"], "media": {"row_group_rows": 2}},
    }
    return recipe(path, POLICY, **{**content, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Three films and a song as links among what is broken; copies, a still and silence in a folder and a tar."""
    root = tmp_path_factory.mktemp("av")
    song = media.small("mp3", 5.0, 7)
    one, two = film(1, CUTS["one.mp4"], "mp4"), film(2, CUTS["two.mkv"], "mkv")
    served = {"/one.mp4": one, "/two.mkv": two, "/song.mp3": song, "/page.mp4": b"<html>no film</html>"}
    served |= {"/torn.mp4": one[:20_000], "/short.mp4": film(8, (0.0, 0.8), "mp4")}
    folder = root / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "three.webm").write_bytes(film(3, CUTS["three.webm"], "webm"))
    (folder / "deep" / "three.en.vtt").write_text("WEBVTT\n\n00:02.500 --> 00:03.500\nthird words\n")
    (folder / "deep" / "three.txt").write_text("A third film\n")
    (folder / "copy.avi").write_bytes(film(1, CUTS["one.mp4"], "avi"))
    (folder / "copy.txt").write_text("The first film again")
    (folder / "still.mp4").write_bytes(film(5, (0.0, 3.0), "mp4", still=True))
    (folder / "still.txt").write_text("Nothing moves")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name, body in (("a/0.mkv", film(6, (0.0, 2.0), "mkv", silent=True)), ("a/0.txt", b"Not a sound")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    with loopback.Server() as server:
        for path, body in served.items():
            server.routes[path] = lambda request, body=body: request.reply(body, headers={"Content-Type": "video/x"})
        links = [(server.url(path), f"caption of {path[1:]}") for path in [*served, "/gone.mp4"]]
        subtitles = [SRT, *[None] * (len(links) - 1)]
        table = links_file(root / "links.parquet", links, subtitles=np.array(subtitles, object))
        sources = (table, folder)
        file = write_recipe(root / "av.yaml")
        said = run(root / "store", file, *sources)
        yield Finished(root / "store", file, sources, server.url(""), said, song)


NAME = "regexp_extract(url, '([a-z0-9]+\\.[a-z0-9]+)(\\?|$)', 1)"


def test_every_source_is_accounted_for(finished: Finished) -> None:
    assert any("nothing lost, nothing doubled" in line for line in finished.said)
    sources = rows(finished.store, f"select {NAME} as name, status, reason, modality from sources order by name")
    assert [(row["name"], row["status"], row["reason"] or row["modality"]) for row in sources] == [
        ("0.mkv", "ok", "video"),
        ("copy.avi", "ok", "video"),
        ("gone.mp4", "failed", "http.4xx_gone"),
        ("one.mp4", "ok", "video"),
        ("page.mp4", "failed", "av.container_not_allowed"),
        ("short.mp4", "ok", "video"),
        ("song.mp3", "ok", "audio"),
        ("still.mp4", "ok", "video"),
        ("three.webm", "ok", "video"),
        ("torn.mp4", "failed", "av.corrupt"),
        ("two.mkv", "ok", "video"),
    ]
    ledger = rows(finished.store, f"select {NAME} as name, * from ledger")
    assert {row["name"] for row in ledger} == {row["name"] for row in sources}
    lost = {(row["name"], row["status"], row["reason"]) for row in ledger if row["status"] != "ok"}
    assert lost == {
        ("gone.mp4", "failed", "http.4xx_gone"),
        ("page.mp4", "failed", "av.container_not_allowed"),
        ("short.mp4", "failed", "av.too_short"),
        ("torn.mp4", "failed", "av.corrupt"),
    }
    assert all("downloaded" in row["rejected_by"] for row in ledger if row["status"] != "ok")


def test_segments_are_the_shots_of_their_source(finished: Finished) -> None:
    spans = rows(finished.store, f"select {NAME} as name, * from segments where status = 'ok' order by name, start_s")
    for name, truth in CUTS.items():
        own = [row for row in spans if row["name"] == name]
        assert [row["start_s"] for row in own] == pytest.approx(truth[:-1], abs=0.04)
        assert [row["end_s"] for row in own] == pytest.approx(truth[1:], abs=0.04)
        assert [row["duration_s"] for row in own] == pytest.approx(np.diff(truth).tolist(), abs=0.06)
    (song,) = [row for row in spans if row["name"] == "song.mp3"]  # sound has no shots: it is taken whole
    assert (song["modality"], song["start_s"], song["video_codec"]) == ("audio", 0.0, None)
    assert song["end_s"] == pytest.approx(5.0, abs=0.06)


def test_texts_are_on_the_segments_they_belong_to(finished: Finished) -> None:
    said = rows(
        finished.store, f"select {NAME} as name, * from ledger order by name, start_s, text_start_s nulls first, text"
    )
    one = [(row["start_s"], row["text"], row["text_start_s"]) for row in said if row["name"] == "one.mp4"]
    near = pytest.approx
    assert one == [
        (0.0, "caption of one.mp4", None),
        (0.0, "first words", near(0.5)),
        (near(2.4, abs=0.04), "caption of one.mp4", None),
        (near(2.4, abs=0.04), "second words", near(0.6, abs=0.04)),
        (near(5.4, abs=0.04), "caption of one.mp4", None),
        (near(5.4, abs=0.04), None, None),
    ]
    three = [(row["text"], row["language"]) for row in said if row["name"] == "three.webm"]
    assert sorted(three, key=str) == [("A third film", None)] * 2 + [("third words", "en"), (None, "en")]


def test_decisions_tell_copies_stills_and_silence(finished: Finished) -> None:
    decided = rows(
        finished.store, f"select {NAME} as name, * from ledger where text_start_s is null and text is not null"
    )
    by = {(row["name"], rule) for row in decided for rule in row["rejected_by"]}
    assert {("0.mkv", "not_silent"), ("still.mp4", "not_still")} <= by
    assert {name for name, rule in by if rule == "copies"} <= {"one.mp4", "copy.avi"}
    groups = rows(
        finished.store,
        f"select duplicate_group, list_sort(list(distinct {NAME})) as names, list(distinct round(start_s)) as at, "
        "count(distinct sample_uid) filter (where kept) as kept from ledger where duplicate_group is not null "
        "group by all",
    )
    assert [(row["names"], len(row["at"]), row["kept"]) for row in groups] == [(["copy.avi", "one.mp4"], 1, 1)] * 3
    matches = rows(finished.store, "select kind, offset_s, overlap_s from segment_matches")
    assert {row["kind"] for row in matches} == {"audio", "video"}
    assert all(abs(row["offset_s"]) <= 0.2 for row in matches)
    kept = {row["name"] for row in decided if row["kept"]}
    assert kept >= {"two.mkv", "three.webm", "song.mp3"}
    frames = rows(finished.store, "select modality, luminance_mean from candidates where status = 'ok'")
    assert all((row["luminance_mean"] is None) == (row["modality"] == "audio") for row in frames)


def test_the_report_shows_films_and_sounds(finished: Finished, tmp_path: Path) -> None:
    """Strips and spectrograms of kept and refused segments; what the strip shows are frames of the segment."""
    from pipelines.report import write_report
    from pipelines.report_segments import NUM_FRAMES
    from tests.pipelines.test_report import Page

    html = write_report(Store.open(finished.store), tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    kept = rows(
        finished.store, "select distinct media_uid, modality from decisions join segments using (media_uid) where kept"
    )
    assert page.text.count("refused audio") + page.text.count("refused video") >= 2  # silence and what stands still
    assert html.count('<span class="verdict">kept</span>') == len(kept)
    sounds = [each for each in page.named("img") if each["alt"] == "waveform and spectrogram"]
    assert len(sounds) >= len(kept)
    assert {each["width"] for each in sounds} == {"360"}
    videos = html.split('<article class="segment">')[1:]
    (two,) = [each for each in videos if "two.mkv" in each and "0.00 to 2.80 s of" in " ".join(each.split())]
    strip = [each["src"] or "" for each in Page(two).named("img") if each["alt"] == ""]
    assert len(strip) == NUM_FRAMES
    truth = media.pan(20, 70, 2, 160, 120)
    for place, uri in enumerate(strip):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB"), float)
        at = truth[int((place + 0.5) / NUM_FRAMES * 70)]
        frame = np.asarray(Image.fromarray(at).resize((shown.shape[1], shown.shape[0])), float)
        assert np.abs(shown - frame).mean() < 12
    assert re.search(r"third words en said from 0\.[23]\d to 1\.[23]\d s", page.text)
    assert "still_share" in page.text
    assert page.named("script") == []


def test_why_tells_sources_and_segments(finished: Finished) -> None:
    told = story(Store.open(finished.store), f"{finished.url}/one.mp4")
    assert "segments\n  0.00 to 2.40 s: " in told
    assert "text (caption): 'caption of one.mp4'" in told
    assert "(no range is long enough" in story(Store.open(finished.store), f"{finished.url}/short.mp4")
    sample = told.rpartition("sample ")[2].split()[0]
    segment = story(Store.open(finished.store), sample)
    assert "cut from source " in segment
    assert " s of the same video as the segment from 5.4" in segment
    assert story(Store.open(finished.store), "file:///deep/three.webm").startswith("source ")


def shards(finished: Finished) -> list[Path]:
    return sorted((finished.store / "versions").glob("*/*.parquet"))


def test_a_version_holds_bytes_by_modality(finished: Finished) -> None:
    (manifest,) = (finished.store / "versions").glob("*/manifest.json")
    packed: list[dict[str, Any]] = []
    for path in shards(finished):
        with pq.ParquetFile(path) as file:
            assert file.schema_arrow.names == [*FIXED[:-1], *MODALITIES, "texts", "loudness_lufs"]
            sizes = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
            assert max(sizes) <= 2
            packed += file.read().to_pylist()
    kept = rows(finished.store, "select distinct sample_uid from ledger where kept")
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


def test_training_finds_every_medium_by_the_index_beside_the_shards(finished: Finished, tmp_path: Path) -> None:
    (manifest,) = (finished.store / "versions").glob("*/manifest.json")
    indexes = [{"image": each["ranges"], **each["media_ranges"]} for each in json.loads(manifest.read_text())["shards"]]
    assert all(set(each) == set(MODALITIES) for each in indexes)
    made = map_rows(tmp_path, open_version(manifest.parent))
    packed = [row for path in shards(finished) for row in pq.read_table(path).to_pylist()]
    for name in MODALITIES:
        assert [made.medium(row, name) or None for row in range(len(made))] == [row[name] for row in packed]
    assert [made.duration_s(row) for row in range(len(made))] == [row["duration_s"] for row in packed]
    index = manifest.parent / indexes[0]["audio"]
    whole = index.read_bytes()
    index.write_bytes(whole[:-1])
    assert any("ranges" in each for each in verify_store(Store.open(finished.store), lambda _: None))
    index.write_bytes(whole)


def test_a_second_run_makes_nothing_and_a_lost_shard_is_made_as_it_was(finished: Finished) -> None:
    before = digests(finished.store / "versions")
    ledger = rows(finished.store, LEDGER)
    shards(finished)[0].unlink()
    finished.again()
    assert parts_run(finished.store) == {
        "ingest": 0, "download": 0, "segment": 0, "score": 0, "dedupe": 0, "select": 0, "pack": 1,
    }  # fmt: skip
    assert digests(finished.store / "versions") == before
    assert rows(finished.store, LEDGER) == ledger
    assert leftovers(finished.store) == []


def test_a_new_caption_cuts_nothing_and_another_cut_fetches_nothing(finished: Finished, tmp_path: Path) -> None:
    store = shutil.copytree(finished.store, tmp_path / "store")
    known = rows(store, "select distinct sample_uid from segments where url like '%two.mkv' order by all")
    more = links_file(tmp_path / "more.parquet", [(f"{finished.url}/two.mkv", "another caption")], subtitles=[None])
    run(store, finished.recipe, *finished.sources, more)
    made = parts_run(store)
    assert (made["download"], made["segment"], made["dedupe"]) == (0, 1, 0)  # one part of texts
    assert made["score"] == 2  # text_hygiene and caption_statistics of that part
    assert rows(store, "select distinct sample_uid from segments where url like '%two.mkv' order by all") == known
    said = rows(store, "select text, kept from ledger where url like '%two.mkv'")
    assert sorted(row["text"] for row in said) == ["another caption"] * 2 + ["caption of two.mkv"] * 2
    assert all(row["kept"] for row in said)
    longer = write_recipe(tmp_path / "longer.yaml", segment={"by": "whole", "subtitles": ["subtitles"]})
    run(store, longer, *finished.sources, more)
    assert parts_run(store)["download"] == 0
    spans = rows(store, f"select {NAME} as name, end_s from segments where status = 'ok'")
    assert {row["name"]: round(row["end_s"], 1) for row in spans}["one.mp4"] == 7.6
    found = rows(
        store, "select text, text_start_s from ledger where url like '%/one.mp4' order by text_start_s nulls first"
    )
    assert [row["text"] for row in found] == ["caption of one.mp4", "first words", "second words"]


def test_a_refresh_asks_servers_and_leaves_folders_alone(finished: Finished, tmp_path: Path) -> None:
    store = shutil.copytree(finished.store, tmp_path / "store")
    before = rows(store, LEDGER)
    perform(replace(options(store, finished.recipe, finished.sources), refresh=True), lambda _: None)
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
def test_killed_and_run_again(finished: Finished, tmp_path: Path, reached: Any) -> None:
    store = tmp_path / "store"
    process = subprocess.Popen(
        command(*run_arguments(store, finished.recipe, *finished.sources)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    assert interrupt(process, store, reached, "SIGKILL")
    run(store, finished.recipe, *finished.sources)
    assert digests(store / "versions") == digests(finished.store / "versions")
    assert digests(store / "tables" / "segments") == digests(finished.store / "tables" / "segments")
    assert rows(store, LEDGER) == rows(finished.store, LEDGER)
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
def test_damage_is_found_by_the_audits(finished: Finished, tmp_path: Path, audit: str, table: str, edit: Any) -> None:
    shutil.copytree(finished.store, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    assert found(store) == set()
    if table == "texts":  # those of segments, which the state calls so
        state = store.state()
        state.tables["texts of segments"] = state.tables["texts"]
        store.save_state(state)
        table = "texts of segments"
    change(store, table, edit)
    assert audit in found(store)
