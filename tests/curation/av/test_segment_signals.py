"""The laws of `curation.signal` for signals of segments, and a golden file of their outputs.

Numbers that change need a new `version` in the class; then write the golden file anew:

    TAMIS_WRITE_GOLDEN=1 python -m pytest tests/curation/av/test_segment_signals.py
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import pkgutil
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import curation.signals
from curation.av.copies import AUDIO_RULE, VIDEO_RULE, copies
from curation.av.picture_track import PictureTrack, TrackMaker
from curation.av.segment_signal import DecodedSegment, SegmentSignal, decoded_segment, wanted_for
from curation.media.av_decode import AvDecoder
from curation.media.av_types import Frames, Samples
from curation.signals.audio_levels import AudioLevels
from curation.signals.media_fingerprint import MediaFingerprint, audio_track, video_track
from curation.signals.sound_and_picture import SoundAndPicture
from curation.signals.speech_quality import SpeechQuality
from curation.signals.video_motion import VideoMotion
from tests.curation.av import media
from tests.curation.av.test_correspondence import strikes
from tests.curation.signal_rows import TinyScorer

GOLDEN = Path(__file__).parent.parent / "golden" / "segment_signals.json"


def classes() -> list[type[SegmentSignal]]:
    found: list[type[SegmentSignal]] = []
    for each in pkgutil.iter_modules(curation.signals.__path__, "curation.signals."):
        members = vars(importlib.import_module(each.name)).values()
        found += [
            member
            for member in members
            if isinstance(member, type) and issubclass(member, SegmentSignal) and member.__module__ == each.name
        ]
    return found


SCORER = f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"


def make(cls: type[SegmentSignal]) -> SegmentSignal:
    return cls.model_validate({"model": "tiny", "scorer": SCORER} if "scorer" in cls.model_fields else {})


SIGNALS = [make(cls) for cls in classes()]
EACH = pytest.mark.parametrize("signal", SIGNALS, ids=[type(signal).__name__ for signal in SIGNALS])


@lru_cache(maxsize=1)
def segments() -> tuple[DecodedSegment | None, ...]:
    """Made without a codec, so that the numbers are the same everywhere."""
    grey, times, pcm = strikes(1, 0.1, seconds=5.0)
    loud = media.tone(2.0, 300, 3.0).clip(-1, 1)
    frames = Frames(0, times, np.zeros(len(times), bool), grey)
    sounds = {"speech": Samples(0, 0.0, 16_000, pcm[:, None]), "low": Samples(0, 0.0, 8_000, pcm[::2, None])}
    sounds["wide"] = Samples(0, 0.0, 48_000, media.music(2, 1))
    native = Samples(0, 0.0, 48_000, media.music(3, 1))
    shown = np.random.default_rng(1).integers(0, 256, (5, 24, 40, 3)).astype(np.uint8)
    views = Frames(0, np.arange(5.0), np.zeros(5, bool), shown)
    whole = DecodedSegment(track_of(grey, times), frames, views, native, **sounds, end_s=5.0)
    still = np.full((40, 54, 96), 128, np.uint8)
    grid = np.linspace(0, 0.05, 40 * 16, dtype=np.float32).reshape(40, 16)
    return (
        whole,
        None,
        DecodedSegment(
            pictures=track_of(still, times[:40], grid), grey=Frames(0, times[:40], np.zeros(40, bool), still)
        ),
        DecodedSegment(native=Samples(0, 0.0, 48_000, np.repeat(loud, 2, axis=1))),
        DecodedSegment(),
    )


def track_of(grey: np.ndarray, times: np.ndarray, grid: np.ndarray | None = None) -> PictureTrack:
    maker = TrackMaker()
    maker.add(np.repeat(grey[..., None], 3, axis=3), times)
    if grid is not None:
        maker.add_motion(times, grid)
    return maker.track()


@EACH
def test_laws(signal: SegmentSignal) -> None:
    whole = signal.compute_segments(segments())
    assert whole.num_rows == len(segments())
    assert whole.schema == signal.writes()
    assert all(field.nullable for field in signal.writes())
    whole.validate(full=True)
    for cut in (1, 3):
        apart = [signal.compute_segments(segments()[:cut]), signal.compute_segments(segments()[cut:])]
        assert pa.concat_tables(apart).combine_chunks().equals(whole.combine_chunks())
    assert signal.compute_segments([]).schema == signal.writes()
    nulls = signal.compute_segments([None, None])
    assert [nulls.column(name).null_count for name in nulls.column_names] == [2] * nulls.num_columns
    for column in whole.columns:
        if pa.types.is_floating(column.type):
            assert np.isfinite(column.drop_null().to_numpy()).all()
    key = signal.key()
    copy = pickle.loads(pickle.dumps(signal))  # noqa: S301 - made here
    assert copy.key() == signal.key() == key
    text = type(signal).__doc__ or ""
    columns = [re.sub("^cl[ai]p_(?=image|frame|audio)", "{name}_", name) for name in signal.writes().names]
    assert all(word in text for word in ("Column", "Unit:", "Model:", "Source:", *columns))
    assert "version" in vars(type(signal))


def test_no_two_write_the_same_column() -> None:
    assert len(SIGNALS) >= 5
    columns = [name for signal in SIGNALS for name in signal.writes().names]
    assert len(set(columns)) == len(columns)


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value[:24].hex()
        case float():
            return float(f"{value:.5g}")
    return value


def test_golden_outputs() -> None:
    now = {
        type(signal).__name__: {
            "version": type(signal).version,
            "columns": {
                name: [_plain(value) for value in values]
                for name, values in signal.compute_segments(segments()).to_pydict().items()
            },
        }
        for signal in SIGNALS
    }
    if os.environ.get("TAMIS_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    kept = json.loads(GOLDEN.read_text())
    assert sorted(kept) == sorted(now), "signals came or went: write the golden file anew"
    for name, form in now.items():
        for column, values in form["columns"].items():  # type: ignore[attr-defined]
            for value, old in zip(values, kept[name]["columns"][column], strict=True):
                same = value == (pytest.approx(old, rel=1e-3, abs=1e-4) if isinstance(old, float) else old)
                assert same, f"{name}.{column}: raise its `version`, then write the golden file anew"
        assert form["version"] == kept[name]["version"]


# on real media --------------------------------------------------------------------------------------------------------


def test_one_decoding_serves_all(decoder: AvDecoder) -> None:
    wanted, names = wanted_for(SIGNALS)
    assert len(wanted.frames) == 3
    assert wanted.motion
    assert len(wanted.audio) == 4
    assert names == ["pictures", "grey", "views", "native", "speech", "low", "wide"]
    found = decoded_segment(decoder, media.small("mp4", 3.0), SIGNALS)
    assert found is not None
    assert found.end_s == pytest.approx(3.0, abs=0.05)
    alone = decoded_segment(decoder, media.small("mp4", 3.0), [AudioLevels()])
    assert alone is not None
    assert (alone.pictures, alone.grey, alone.speech) == (None, None, None)
    assert AudioLevels().of_segment(alone) == AudioLevels().of_segment(found)
    assert decoded_segment(decoder, b"nothing", SIGNALS) is None


def test_planted_faults_are_told_from_good_segments(decoder: AvDecoder) -> None:
    """Silent, clipped, still, black, framed and soundless ones among good ones."""
    good = media.write(media.pan(1, 75, 3), media.music(3, 1), "mp4")
    clipped = media.write(media.pan(2, 75, 3), (media.music(3, 2) * 20).clip(-1, 1), "mkv")
    silent = media.write(media.pan(3, 75, 3), np.zeros((144_000, 1), np.float32), "mp4")
    still = media.write(media.pan(4, 75, 0), media.music(3, 4), "mp4")
    black = media.write([np.zeros((240, 320, 3), np.uint8)] * 75, media.music(3, 5), "mp4")
    mute = media.write(media.pan(6, 75, 3), None, "mp4")
    signals: list[SegmentSignal] = [AudioLevels(), VideoMotion()]
    rows = []
    for data in (good, clipped, silent, still, black, mute):
        segment = decoded_segment(decoder, data, signals)
        assert segment is not None
        rows.append({name: value for signal in signals for name, value in signal.of_segment(segment).items()})
    assert [row["has_audio"] for row in rows] == [True] * 5 + [False]
    assert [(row["clip_share"] or 0) > 0.01 for row in rows] == [False, True, False, False, False, False]
    assert [(row["silence_share"] or 0) > 0.8 for row in rows] == [False, False, True, False, False, False]
    assert [row["still_share"] > 0.9 for row in rows] == [False, False, False, True, True, False]
    assert [row["black_share"] > 0.5 for row in rows] == [False, False, False, False, True, False]
    assert [row["motion_mean"] > 0.001 for row in rows] == [True, True, True, False, False, True]


def test_fingerprints_of_two_encodings_match(decoder: AvDecoder) -> None:
    rows = []
    for kind, seed in (("mp4", 1), ("webm", 1), ("mkv", 2)):
        data = media.write(media.pan(seed, 150, 3), media.music(6, seed), kind)
        segment = decoded_segment(decoder, data, [MediaFingerprint()])
        assert segment is not None
        rows.append(MediaFingerprint().of_segment(segment))
    videos = [video_track(row["video_fingerprint"], row["video_known"]) for row in rows]  # type: ignore[arg-type]
    audios = [audio_track(r["audio_fingerprint"], r["audio_known"], r["audio_start_s"]) for r in rows]  # type: ignore[arg-type]
    assert [(m.a, m.b) for m in copies(videos, VIDEO_RULE)] == [(0, 1)]
    assert [(m.a, m.b) for m in copies(audios, AUDIO_RULE)] == [(0, 1)]


def test_speech_and_correspondence_of_made_segments() -> None:
    whole = segments()[0]
    assert whole is not None
    assert SoundAndPicture().of_segment(whole)["av_offset_s"] == pytest.approx(0.1, abs=0.04)
    found = SpeechQuality().of_segment(whole)
    assert 0 <= float(found["speech_share"]) <= 1  # type: ignore[arg-type]
    assert SpeechQuality().key() != SpeechQuality(min_speech_share=0.5).key()
