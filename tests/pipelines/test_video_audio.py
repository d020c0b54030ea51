"""Video and audio through the main job: from links and a folder to segments, texts, decisions, and what is told of
them."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.store import Store
from pipelines.why import story
from tests.curation.av import media
from tests.pipelines.av_store import CUTS, NAME, Finished
from tests.stores import rows


def test_every_source_is_accounted_for(av_finished: Finished) -> None:
    assert any("nothing lost, nothing doubled" in line for line in av_finished.said)
    sources = rows(av_finished.store, f"select {NAME} as name, status, reason, modality from sources order by name")
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
    ledger = rows(av_finished.store, f"select {NAME} as name, * from ledger")
    assert {row["name"] for row in ledger} == {row["name"] for row in sources}
    lost = {(row["name"], row["status"], row["reason"]) for row in ledger if row["status"] != "ok"}
    assert lost == {
        ("gone.mp4", "failed", "http.4xx_gone"),
        ("page.mp4", "failed", "av.container_not_allowed"),
        ("short.mp4", "failed", "av.too_short"),
        ("torn.mp4", "failed", "av.corrupt"),
    }
    assert all("downloaded" in row["rejected_by"] for row in ledger if row["status"] != "ok")


def test_segments_are_the_shots_of_their_source(av_finished: Finished) -> None:
    spans = rows(
        av_finished.store, f"select {NAME} as name, * from segments where status = 'ok' order by name, start_s"
    )
    for name, truth in CUTS.items():
        own = [row for row in spans if row["name"] == name]
        assert [row["start_s"] for row in own] == pytest.approx(truth[:-1], abs=0.04)
        assert [row["end_s"] for row in own] == pytest.approx(truth[1:], abs=0.04)
        assert [row["duration_s"] for row in own] == pytest.approx(np.diff(truth).tolist(), abs=0.06)
    (song,) = [row for row in spans if row["name"] == "song.mp3"]  # sound has no shots: it is taken whole
    assert (song["modality"], song["start_s"], song["video_codec"]) == ("audio", 0.0, None)
    assert song["end_s"] == pytest.approx(5.0, abs=0.06)


def test_texts_are_on_the_segments_they_belong_to(av_finished: Finished) -> None:
    said = rows(
        av_finished.store,
        f"select {NAME} as name, * from ledger order by name, start_s, text_start_s nulls first, text",
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


def test_decisions_tell_copies_stills_and_silence(av_finished: Finished) -> None:
    decided = rows(
        av_finished.store, f"select {NAME} as name, * from ledger where text_start_s is null and text is not null"
    )
    by = {(row["name"], rule) for row in decided for rule in row["rejected_by"]}
    assert {("0.mkv", "not_silent"), ("still.mp4", "not_still")} <= by
    assert {name for name, rule in by if rule == "copies"} <= {"one.mp4", "copy.avi"}
    groups = rows(
        av_finished.store,
        f"select duplicate_group, list_sort(list(distinct {NAME})) as names, list(distinct round(start_s)) as at, "
        "count(distinct sample_uid) filter (where kept) as kept from ledger where duplicate_group is not null "
        "group by all",
    )
    assert [(row["names"], len(row["at"]), row["kept"]) for row in groups] == [(["copy.avi", "one.mp4"], 1, 1)] * 3
    matches = rows(av_finished.store, "select kind, offset_s, overlap_s from segment_matches")
    assert {row["kind"] for row in matches} == {"audio", "video"}
    assert all(abs(row["offset_s"]) <= 0.2 for row in matches)
    kept = {row["name"] for row in decided if row["kept"]}
    assert kept >= {"two.mkv", "three.webm", "song.mp3"}
    frames = rows(av_finished.store, "select modality, luminance_mean from candidates where status = 'ok'")
    assert all((row["luminance_mean"] is None) == (row["modality"] == "audio") for row in frames)


def test_the_report_shows_films_and_sounds(av_finished: Finished, tmp_path: Path) -> None:
    """Strips and spectrograms of kept and refused segments; what the strip shows are frames of the segment."""
    from pipelines.report import write_report
    from pipelines.report_segments import NUM_FRAMES
    from tests.pipelines.test_report import Page

    html = write_report(Store.open(av_finished.store), tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    kept = rows(
        av_finished.store,
        "select distinct media_uid, modality from decisions join segments using (media_uid) where kept",
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


def test_why_tells_sources_and_segments(av_finished: Finished) -> None:
    told = story(Store.open(av_finished.store), f"{av_finished.url}/one.mp4")
    assert "segments\n  0.00 to 2.40 s: " in told
    assert "text (caption): 'caption of one.mp4'" in told
    assert "(no range is long enough" in story(Store.open(av_finished.store), f"{av_finished.url}/short.mp4")
    sample = told.rpartition("sample ")[2].split()[0]
    segment = story(Store.open(av_finished.store), sample)
    assert "cut from source " in segment
    assert " s of the same video as the segment from 5.4" in segment
    assert story(Store.open(av_finished.store), "file:///deep/three.webm").startswith("source ")
