from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curation.av.cutting_up import SegmentOptions, cut_up
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits, FrameTap, Wanted
from curation.reasons import Reason
from curation.schema import MEDIA, SEGMENT_TEXTS, SEGMENTS, TEXTS
from curation.signals.audio_levels import AudioLevels
from curation.signals.video_motion import VideoMotion
from curation.table import Part, open_part, read_part, write_part
from pipelines.segment import segment_key, segment_part
from pipelines.segment_scores import from_segments
from pipelines.segment_texts import segment_texts
from tests.curation.av import media
from tests.curation.av.test_speech import voice

OPTIONS = SegmentOptions(shots=Segmentation(min_s=1.0, max_s=10.0))


def film(seed: int, lengths: tuple[int, ...] = (50, 40, 60), kind: str = "mp4") -> bytes:
    frames = [f for k, n in enumerate(lengths) for f in media.pan(10 * seed + k, n, 2, 160, 120)]
    return media.write(frames, media.music(sum(lengths) / media.FPS, seed), kind, options={"g": "25"})


def sources(folder: Path, bodies: list[bytes | None]) -> Part:
    rows = []
    for number, body in enumerate(bodies):
        row: dict[str, Any] = dict.fromkeys(MEDIA.names)
        row |= {"media_uid": f"m{number}", "sample_uid": f"s{number}", "role": "primary", "modality": "video"}
        row |= {"url": f"http://x.example/{number}", "status": "ok" if body else "failed", "bytes": body}
        row["reason"] = None if body else "http.4xx_gone"
        rows.append(row)
    return write_part(folder / "media", 0, "0" * 64, pa.Table.from_pylist(rows, schema=MEDIA), plain=["bytes"])


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Part, Part, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("store")
    whole = film(3)
    part = sources(
        folder, [film(1), None, b"<html>", film(2, (60, 30), "webm"), whole[: len(whole) // 2], film(4, (10,))]
    )
    key = segment_key(OPTIONS, AvLimits())
    counts = segment_part(part.path, folder / "segments", 0, key, OPTIONS, AvLimits())
    (made,) = (folder / "segments").glob("*.parquet")
    return part, open_part(made), counts


def test_every_source_has_rows(cut: tuple[Part, Part, dict[str, Any]]) -> None:
    _, made, counts = cut
    table = read_part(made.path)
    assert table.schema.names == SEGMENTS.names
    rows = table.to_pylist()
    assert {row["source_uid"] for row in rows} == {f"m{k}" for k in range(6)}
    assert counts["rows"] == 6
    found = [(row["source_uid"], row["status"], row["reason"]) for row in rows]
    assert [each for each in found if each[1] != "ok"] == [
        ("m1", "failed", "http.4xx_gone"),
        ("m2", "failed", "av.container_not_allowed"),
        ("m4", "failed", "av.corrupt"),  # an MP4 cut in half has lost its index
        ("m5", "failed", "av.too_short"),
    ]
    assert [each[0] for each in found if each[1] == "ok"] == ["m0", "m0", "m0", "m3", "m3"]
    assert made.stats["status"] == {"ok": 5, "failed": 4}
    assert len({row["media_uid"] for row in rows}) == len(rows)


def test_segments_are_the_shots(cut: tuple[Part, Part, dict[str, Any]]) -> None:
    rows = [row for row in read_part(cut[1].path).to_pylist() if row["status"] == "ok"]
    shots = [row for row in rows if row["source_uid"] == "m0"]
    assert [row["end_s"] for row in shots] == [pytest.approx(end, abs=0.05) for end in (2.0, 3.6, 6.0)]
    for row, num_frames in zip(shots, (50, 40, 60), strict=True):
        assert row["num_frames"] == num_frames
        assert hashlib.sha256(row["bytes"]).hexdigest() == row["stored_sha256"] == row["sha256"]
        assert (row["width_px"], row["height_px"], row["video_codec"]) == (160, 120, "h264")
        assert row["duration_s"] == pytest.approx(num_frames / 25, abs=0.06)  # sound and picture within a frame or so
    with AvDecoder() as decoder:
        _, got = decoder.gather(shots[1]["bytes"], Wanted(frames=(FrameTap(),)))
        frames = got.frames()
        assert frames is not None
        truth = np.stack(media.pan(11, 40, 2, 160, 120)).astype(int)
        assert np.abs(frames.pixels.astype(int) - truth).mean() < 12


def test_cutting_again_gives_the_same_bytes_and_uids(cut: tuple[Part, Part, dict[str, Any]], tmp_path: Path) -> None:
    key = segment_key(OPTIONS, AvLimits())
    segment_part(cut[0].path, tmp_path, 0, key, OPTIONS, AvLimits())
    (again,) = tmp_path.glob("*.parquet")
    assert again.read_bytes() == cut[1].path.read_bytes()
    assert segment_key(OPTIONS.changed(crf=21), AvLimits()) != key
    assert segment_key(OPTIONS, AvLimits(max_pixels=1000)) != key


def test_signals_of_segments(cut: tuple[Part, Part, dict[str, Any]]) -> None:
    found = from_segments(cut[1].path, [AudioLevels(), VideoMotion()])
    statuses = read_part(cut[1].path, ["status"]).column(0).to_pylist()
    has_audio = found["audio_levels"].column("has_audio").to_pylist()
    assert has_audio == [True if status == "ok" else None for status in statuses]
    assert found["video_motion"].num_rows == len(statuses)
    assert from_segments(cut[1].path, []) == {}


SRT = """1
00:00:00,500 --> 00:00:01,000
<i>first</i>

2
00:00:01,900 --> 00:00:03,000
second

3
00:00:05,900 --> 00:00:09,000
beyond
"""


def test_texts_of_segments(cut: tuple[Part, Part, dict[str, Any]]) -> None:
    shared = {"sample_uid": "s0", "language_claimed": "en", "languages_claimed": ["en"]}
    texts = [
        {**shared, "text_uid": "t0", "text": "A title", "text_source": "title", "position": 0},
        {**shared, "text_uid": "t1", "text": SRT, "text_source": "subtitles", "position": 1},
        {**shared, "text_uid": "t2", "text": "Gone", "text_source": "title", "position": 0, "sample_uid": "s1"},
    ]
    given = pa.Table.from_pylist(texts, schema=TEXTS)
    table = segment_texts(read_part(cut[1].path), given, {f"m{k}": f"s{k}" for k in range(6)}, ["subtitles"])
    assert table.schema == SEGMENT_TEXTS
    rows = table.to_pylist()
    assert [(row["text"], row["source_text_uid"], row["position"]) for row in rows] == [
        ("A title", "t0", 0),
        ("first", "t1", 1),
        ("A title", "t0", 0),
        ("second", "t1", 1),  # most of it lies here
        ("A title", "t0", 0),
        (None, "t1", 1),  # no cue lies here by half
        ("Gone", "t2", 0),  # of a source that is not there
    ]
    assert (rows[1]["text_start_s"], rows[1]["text_end_s"]) == (0.5, 1.0)
    assert rows[3]["text_start_s"] == pytest.approx(0.0, abs=0.05)
    assert len({row["text_uid"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_damaged_media_are_all_accounted_for(tmp_path: Path) -> None:
    whole = [
        media.small(kind, 1.5, seed) for seed, kind in enumerate(("mp4", "mkv", "webm", "avi", "ts", "wav", "ogg"))
    ]
    bodies: list[bytes | None] = [*whole, *media.mutants(whole, 60, 5)]
    part = sources(tmp_path, bodies)
    options = OPTIONS.changed(shots=Segmentation(min_s=0.5), min_good_s=0.5, min_good_share=0.3)
    counts = segment_part(part.path, tmp_path / "segments", 0, "1" * 64, options, AvLimits(stall_s=5, timeout_s=60))
    rows = [row for path in (tmp_path / "segments").glob("*.parquet") for row in read_part(path).to_pylist()]
    assert {row["source_uid"] for row in rows} == {f"m{k}" for k in range(len(bodies))}
    assert counts["rows"] == len(bodies)
    codes = {reason.value for reason in Reason if reason.value.startswith("av.")}
    for row in rows:
        assert (row["status"], row["reason"] is None, row["bytes"] is not None) in (
            ("ok", True, True),
            ("failed", False, False),
        )
        assert row["reason"] is None or row["reason"] in codes
    assert all(row["status"] == "ok" for row in rows if int(row["source_uid"][1:]) < len(whole))
    assert {row["status"] for row in rows} == {"ok", "failed"}


def test_speech_and_whole() -> None:
    sound = np.concatenate([np.zeros(32_000, np.float32), voice(5.0), np.zeros(48_000, np.float32)])[:, None]
    data = media.write(None, sound, "flac", rate=16_000)
    with AvDecoder() as decoder:
        (segment,) = cut_up(decoder, data, "u", SegmentOptions(by="speech", cut="exact", audio_codec="flac"))
        assert segment.reason is None
        assert segment.span is not None
        assert segment.span.start_s == pytest.approx(2.0, abs=0.3)
        assert segment.span.end_s == pytest.approx(7.0, abs=0.4)
        whole = SegmentOptions(
            by="whole", shots=Segmentation(min_s=1, max_s=60, above_max="drop"), container="matroska"
        )
        (one,) = cut_up(decoder, film(1), "u", whole)
        assert one.cut is not None
        assert (one.cut.mode, one.cut.num_frames) == ("copy", 150)
        (none,) = cut_up(decoder, film(1), "u", whole.changed(shots=Segmentation(min_s=1, max_s=3, above_max="drop")))
        assert (none.uid, none.reason) == (None, "av.too_short")


def test_damaged_ranges_are_left_out() -> None:
    data = bytearray(film(1, (75, 75, 75), "mp4"))
    at = len(data) // 2
    data[at : at + 1500] = b"\xff" * 1500
    with AvDecoder() as decoder:
        found = cut_up(decoder, bytes(data), "u", OPTIONS.changed(min_good_share=0.2, min_good_s=1.0))
    spans = [segment.span for segment in found if segment.span is not None]
    assert spans[0].end_s == pytest.approx(3.0, abs=0.05)
    assert spans[-1].start_s == pytest.approx(6.0, abs=0.05)
    assert not any(span.start_s <= 4.5 < span.end_s for span in spans)  # the damage is in the second shot
    assert all(segment.reason is None for segment in found)
