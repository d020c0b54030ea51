"""pretrain/segments.py and what the loader makes of versions of segments: sounds, films, and rows that lack one."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segmented import SCHEMA, grey, hertz, segment, word, write_segments
from tiny import logged, uid

from pretrain.config import ConfigError, load_config, parse_config
from pretrain.data import Reader
from pretrain.dataset import open_data
from pretrain.embeddings.base import Sound
from pretrain.loader import Loader
from pretrain.loop import Job, train_worker
from pretrain.rows import map_rows
from pretrain.run import train
from pretrain.seen import SeenSamples
from pretrain.segments import SegmentReader, frame_draws, frame_times, sound_draws, sound_window
from pretrain.targets.base import Encoded
from pretrain.targets.pairs import gather_pairs
from pretrain.version import Version, open_version

CONFIGS = Path(__file__).parents[2] / "pretrain" / "configs"
TRANSFORMER = {"use": "pretrain.encoders.transformer.Transformer", "layers": 1, "heads": 2}
STREAMS: dict[str, Any] = {
    "image": {"embedding": {"use": "pretrain.embeddings.pictures.ConvStem", "width": 16, "stages": 2},
              "encoder": {"use": "pretrain.encoders.transformer.FeedForward"}},
    "text": {"embedding": {"use": "pretrain.embeddings.byte_tokens.ByteTokens", "width": 16, "max_tokens": 16},
             "encoder": TRANSFORMER},
    "audio": {"embedding": {"use": "pretrain.embeddings.audio.LogMel", "width": 16, "num_mels": 20, "max_seconds": 2},
              "encoder": TRANSFORMER},
    "video": {"embedding": {"use": "pretrain.embeddings.video.EachFrame", "num_frames": 4,
                            "frame": {"use": "pretrain.embeddings.pictures.Patches", "width": 16, "patch_size": 8}},
              "encoder": {"use": "pretrain.encoders.frames.FrameEncoder", "layers": 1, "heads": 2,
                          "frame": TRANSFORMER}},
}  # fmt: skip
LACKING = {2: "sound", 3: "film", 4: "picture", 5: "texts"}
"""Segments that lack something, by their number."""


def settings(streams: str, targets: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "name": "segments", "model": {"embed_dim": 16, "streams": {name: STREAMS[name] for name in streams.split()}},
        "targets": [{**each, "use": f"pretrain.targets.{each['use']}"} for each in targets],
        "image_size": 32, "batch_size": 8, "captions_per_image": 1, "steps": 2, "device": "cpu", "num_threads": 1,
        "warmup_steps": 1, **changes,
    }  # fmt: skip


CONTRAST = [{"use": "info_nce.InfoNCE", "a": "audio", "b": "text"}]


def loudest_hz(sound: np.ndarray) -> list[float]:
    """The strongest frequency of each letter of a word of three (0.4 s each)."""
    letters = [sound[round(16_000 * 0.4 * k + 1600) :][:3200] for k in range(3)]
    return [np.abs(np.fft.rfft(each * np.hanning(3200))).argmax() * 16_000 / 3200 for each in letters]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine segments, of which four lack something, one is longer than a stream takes, and the bytes of one are bad."""
    root = tmp_path_factory.mktemp("segments")
    rows = [segment(n, **{LACKING[n]: False} if n in LACKING else {}) for n in range(7)]
    rows += [segment(7, seconds=3.0), {**segment(8), "audio": b"OggS, but not really", "video": b"no film"}]
    write_segments(root, rows)
    return root


@pytest.fixture(scope="module")
def version(store: Path) -> Path:
    return next((store / "versions").iterdir())


def opened(version: Path, store: Path, spec: dict[str, Any]) -> tuple[Reader, Loader]:
    config = parse_config(spec)
    model = config.model.build(config.image_size)
    data = open_data(config, [version], store / "cache", model)
    return data.reader, Loader(data.reader, model, data.columns, config, torch.device("cpu"))


def of_all(reader: Reader) -> tuple[Any, dict[int, int]]:
    """A batch that holds every row once, and the place in it of each row of the version."""
    raw = reader.raw(0)
    assert sorted(set(raw.rows_B.tolist())) == reader.sources[0].rows_N.tolist()
    return raw, {int(row): place for place, row in enumerate(raw.rows_B)}


@pytest.mark.family("F11")
def test_every_medium_arrives_and_what_is_lacking_is_masked(version: Path, store: Path) -> None:
    """F11 (a), (b): the sound is the one that was packed, frames are those of their times; the masks are the truth."""
    targets = [*CONTRAST, {"use": "binding.Binding", "groups": [["video"], ["image"]]}]
    reader, loader = opened(version, store, settings("image text audio video", targets, batch_size=9, augment=False))
    raw, at = of_all(reader)
    lacks = {"audio": {2, 8}, "video": {3, 8}, "image": {4}, "text": {5}}
    for source, numbers in lacks.items():
        assert {row for row, place in at.items() if not raw.has[source][place]} == numbers
    assert raw.num_damaged == {"image": 0, "audio": 1, "video": 1}
    for number in (0, 1, 6):
        sound = raw.sounds[at[number]]
        assert len(sound) == pytest.approx(1.2 * 16_000, abs=400)
        assert loudest_hz(sound) == pytest.approx([hertz(letter) for letter in word(number)], abs=6)
    assert len(raw.sounds[at[7]]) == 2 * 16_000  # the middle two of three seconds
    for number in (0, 7):
        times = raw.times_BT[at[number]].tolist()
        seconds = 3.0 if number == 7 else 1.2
        steps = [int(seconds * 10 * (k + 0.5) / 4 + 1e-6) for k in range(4)]
        assert times == pytest.approx([step / 10 for step in steps], abs=0.01)
        for k, step in enumerate(steps):
            shown = raw.frames_BTSSC[at[number], k, 19:27, 19:31].float().mean()
            assert float(shown) == pytest.approx(float(grey(step, round(seconds * 10), 0)[-1, -1, 0]), abs=4)
    ready = loader.ready(0, raw)
    (batch,) = ready.pieces
    assert {name: int((~mask).sum()) for name, mask in batch.present.items()} == {
        "audio": 2, "video": 2, "image": 1, "text": 1,
    }  # fmt: skip
    assert batch.inputs["video"]["video_BTCHW"].shape == (9, 4, 3, 32, 32)
    assert ready.num_damaged["audio"] == 1


@pytest.mark.family("F11")
@pytest.mark.family("F29")
def test_each_target_counts_the_rows_that_sql_counts(version: Path, store: Path) -> None:
    """F29 (a), F11 (b): of the rows whose media decode (all but the last), those that have both streams."""
    targets = [
        {"use": "info_nce.InfoNCE", "a": a, "b": b} for a, b in itertools.combinations(("image", "text", "audio"), 2)
    ]
    reader, loader = opened(version, store, settings("image text audio", targets, batch_size=9))
    (batch,) = loader.ready(0, of_all(reader)[0]).pieces
    vectors = {name: torch.eye(9) for name in ("image", "text", "audio")}
    for target in targets:
        pair = (str(target["a"]), str(target["b"]))
        counts_B = gather_pairs(Encoded(vectors, batch.group_B, batch.present), *pair).counts_B
        both = " and ".join("len(texts) > 0" if name == "text" else f"{name} is not null" for name in pair)
        damaged = " and sample_uid <> ?" if "audio" in pair else ""
        (expected,) = duckdb.execute(
            f"select count(*) from read_parquet('{version}/*.parquet') where {both}{damaged}",
            [uid("segment", 8)] if damaged else [],
        ).fetchone() or (-1,)
        assert int(counts_B.sum()) == expected


def test_a_batch_is_the_same_from_any_number_of_workers_and_after_a_crossing(version: Path, store: Path) -> None:
    reader, loader = opened(version, store, settings("text audio video", CONTRAST, batch_size=8))
    whole = reader.raw(3)
    there = pickle.loads(pickle.dumps(reader))  # noqa: S301  (made here)
    halves = [reader.raw(3, 0, 2), there.raw(3, 1, 2)]
    assert torch.equal(torch.cat([half.frames_BTSSC for half in halves]), whole.frames_BTSSC)
    sounds = [each for half in halves for each in half.sounds]
    assert all(np.array_equal(one, other) for one, other in zip(sounds, whole.sounds, strict=True))
    frames = [loader.ready(3, each).pieces[0].inputs["video"]["video_BTCHW"] for each in (whole, *halves)]
    torch.testing.assert_close(torch.cat(frames[1:]), frames[0])
    other = reader.raw(4).times_BT
    assert other is not None
    assert not torch.equal(other, whole.times_BT)


def test_a_row_qualifies_with_two_of_what_the_model_reads(version: Path, store: Path) -> None:
    def rows(streams: str, target: dict[str, Any]) -> list[int]:
        return opened(version, store, settings(streams, [target]))[0].sources[0].rows_N.tolist()

    assert rows("audio text", CONTRAST[0]) == [0, 1, 3, 4, 6, 7, 8]
    assert rows("audio image", {**CONTRAST[0], "b": "image"}) == [0, 1, 3, 5, 6, 7, 8]
    assert rows("image audio text", CONTRAST[0]) == list(range(9))


@pytest.mark.family("F13")
def test_a_transcript_goes_with_a_whole_sound_only(version: Path, store: Path) -> None:
    spec = settings("text audio", [{"use": "ctc.CTC"}], batch_size=7, longer_sounds="leave_out")
    reader, _ = opened(version, store, {**spec, "texts": {"sources": {"subtitles": 1}}})
    raw, at = of_all(reader)
    assert {row for row, place in at.items() if not raw.has["audio"][place]} == {7, 8}
    assert raw.num_damaged == {"audio": 1}
    assert [raw.texts[at[row]] for row in (0, 1, 7)] == [word(0), word(1), word(7)]
    with pytest.raises(ConfigError, match=r"texts\.sources.*no text"):
        opened(version, store, {**spec, "texts": {"sources": {"nobody": 1}}})


@pytest.mark.parametrize("tells", [True, False])
def test_a_film_holds_its_sound_where_none_was_packed(tmp_path: Path, tells: bool) -> None:
    """Packed with `audio: none`; with and without a column that tells which films have a sound."""
    rows = [{**segment(n, **({"sound": False} if n == 1 else {})), "audio": None} for n in range(3)]
    rows[2]["video"] = b"no film"
    schema = SCHEMA if tells else SCHEMA.remove(SCHEMA.get_field_index("has_audio"))
    folder = write_segments(tmp_path, rows, schema=schema).folder
    reader, _ = opened(folder, tmp_path, settings("text audio", CONTRAST, batch_size=4, augment=False))
    raw, at = of_all(reader)
    assert sorted(at) == ([0, 2] if tells else [0, 1, 2])
    assert [row for row, place in at.items() if raw.has["audio"][place]] == [0]
    assert raw.num_damaged["audio"] == (int((raw.rows_B == 2).sum()) if tells else 0)  # else it may have had none
    sound = raw.sounds[at[0]]
    assert len(sound) == pytest.approx(1.2 * 16_000, abs=400)
    assert loudest_hz(sound) == pytest.approx([hertz(letter) for letter in word(0)], abs=6)


def test_what_no_version_has_is_refused_before_training(version: Path, store: Path, tmp_path: Path) -> None:
    from tiny import sample, write_version

    plain: Version = write_version(tmp_path, [sample(n) for n in range(4)])
    spec = settings("image text audio", CONTRAST)
    with pytest.raises(ConfigError, match=r"read \['audio'\], of which no version.*image, text"):
        opened(plain.folder, tmp_path, spec)
    spec["model"]["streams"] = {"text": STREAMS["text"], "audio": STREAMS["audio"], "noise": STREAMS["audio"]}
    with pytest.raises(ConfigError, match=r"'noise': 'noise'.*valid: image, text, audio, video"):
        opened(version, store, spec)
    spec["model"]["streams"] = {"text": STREAMS["text"], "audio": STREAMS["image"]}
    with pytest.raises(ConfigError, match="'audio' reads 'audio', which ConvStem cannot take"):
        opened(version, store, spec)


@pytest.mark.family("F11")
@pytest.mark.family("F12")
@pytest.mark.family("F13")
@pytest.mark.parametrize("name", ["speech", "video_audio_language"])
def test_configs_of_sound_and_film_train_on_packed_segments(
    name: str, version: Path, store: Path, tmp_path: Path
) -> None:
    spec = load_config(CONFIGS / f"{name}.yaml", image_size=32).model_dump(mode="json")
    spec |= {"steps": 2, "batch_size": 6, "device": "cpu", "num_threads": 1, "decontamination": "waived"}
    train_worker(Job(spec, (str(version),), str(tmp_path / "run"), str(store / "cache")))
    lines = logged(tmp_path / "run")
    assert len(lines) == 2
    assert all(np.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in lines)
    assert sum(line.get("audios_missing", 0) for line in lines) >= 1


def test_what_a_step_saw_names_texts_only_where_the_model_reads_them(store: Path) -> None:
    contrast = [{"use": "info_nce.InfoNCE", "b": "audio"}]
    for streams, reads_texts in (("image audio", False), ("image audio text", True)):
        spec = settings(streams, contrast, name=streams.replace(" ", "-"), steps=1, batch_size=4)
        run = train(parse_config(spec), store, "serial", lambda _: None)
        found = SeenSamples(run.folder).of(1)
        assert len(found) == 4
        assert any(each.texts for each in found) == reads_texts


@pytest.mark.family("F12")
@given(
    duration_s=st.floats(0.05, 4000.0), count=st.integers(1, 64), seed=st.integers(0, 9), epoch=st.integers(0, 50),
)  # fmt: skip
def test_frames_repeat_for_a_seed_and_never_leave_the_segment(
    duration_s: float, count: int, seed: int, epoch: int
) -> None:
    """F12 (d)."""
    samples, epochs = np.array([3, 2**63], dtype=np.uint64), np.full(2, epoch)
    draws = frame_draws(samples, epochs, seed, count)
    assert np.array_equal(draws, frame_draws(samples, epochs, seed, count))
    assert not np.array_equal(draws, frame_draws(samples, epochs, seed + 1, count))
    for drawn in (*draws, None):
        times = frame_times(duration_s, drawn, count)
        assert len(times) == count
        assert (np.diff(times) >= 0).all()
        assert times[0] >= 0
        assert times[-1] <= duration_s
        pieces = np.floor(times / (duration_s / count) + 1e-6)
        assert (np.abs(pieces - np.arange(count)) <= 1).all()


@given(duration_s=st.floats(0.01, 4000.0), most=st.floats(0.5, 60.0), draw=st.floats(0, 1, exclude_max=True))
def test_windows_of_sounds_are_inside_and_as_long_as_they_may(duration_s: float, most: float, draw: float) -> None:
    found = sound_window(duration_s, most, "random", draw)
    assert found is not None
    start, end = found
    assert start >= 0
    assert end <= duration_s * (1 + 1e-9)
    assert end - start == pytest.approx(min(duration_s, most))
    assert (sound_window(duration_s, most, "leave_out", draw) is None) == (duration_s > most)
    middle = sound_window(duration_s, most, "middle", draw)
    assert middle is not None
    assert sum(middle) / 2 == pytest.approx(duration_s / 2)
    keys = np.arange(4, dtype=np.uint64)
    assert len(np.unique(sound_draws(keys, np.zeros(4, np.int64), 0))) == 4


def test_whole_sounds_are_decoded_once_and_kept_within_their_room(version: Path) -> None:
    data = map_rows(version.parent / "map", open_version(version)).medium(0, "audio")
    wanted, whole = Sound(16_000, 2.0), (0.0, 1.2)
    reader, forgetful = (SegmentReader(32, "letterbox", "bicubic", room) for room in (1 << 20, 1000))
    first = reader.sound(data, wanted, whole)
    assert first is not None
    assert reader.sound(data, wanted, whole) is first
    np.testing.assert_array_equal(forgetful.sound(data, wanted, whole), first)
    assert forgetful.sound(data, wanted, whole) is not forgetful.sound(data, wanted, whole)
    assert len(reader.sound(data, wanted, (0.0, 0.6))) < len(first)  # another window is another sound
    assert len(reader.sound(data, Sound(8_000, 2.0), whole)) == pytest.approx(len(first) / 2, abs=2)
    again = pickle.loads(pickle.dumps(reader))  # noqa: S301
    np.testing.assert_array_equal(again.sound(data, wanted, whole), first)
