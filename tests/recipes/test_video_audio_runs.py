"""The published recipes of video and audio, from a folder to a sealed version, with a small model where needed."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.curation.av import media
from tests.curation.av.test_speech import voice
from tests.recipes.published import published
from tests.stores import rows, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two films with music, and one voice twice: alone, and as the sound of a video."""
    folder = tmp_path_factory.mktemp("media")
    for seed in (1, 2):
        frames = [f for k, n in enumerate((80, 90)) for f in media.pan(10 * seed + k, n, 2 + seed, 160, 120)]
        (folder / f"film{seed}.mp4").write_bytes(media.write(frames, media.music(6.8, seed), "mp4"))
        (folder / f"film{seed}.en.txt").write_text(
            f"A camera pans over the shapes of film {'one' if seed == 1 else 'two'}"
        )
    silence = np.zeros(48_000, np.float32)
    said = np.concatenate([silence, voice(5.0), silence, voice(4.0, 1), silence])[:, None]
    (folder / "talk.flac").write_bytes(media.write(None, said, "flac", rate=16_000))
    (folder / "talk.en.srt").write_text("1\n00:00:04,000 --> 00:00:07,000\nwhat is said first\n")
    pictures = media.pan(5, round(len(said) / 16_000 * media.FPS), 1, 160, 120)
    (folder / "filmed.mkv").write_bytes(media.write(pictures, said, "mkv", rate=16_000))
    return folder


def packed(store: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((store / "versions").glob("*/*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_emilia_cuts_at_silence_and_keeps_sound_alone(folder: Path, tmp_path: Path) -> None:
    # a buzz through formants is speech to a VAD and bad speech to DNSMOS
    path = published("emilia_like", tmp_path / "r", **{"dnsmos_overall >= 3.0": "dnsmos_overall >= 1.0"})
    said = run(tmp_path / "store", path, folder)
    assert any("nothing lost, nothing doubled" in line for line in said)
    segments = rows(tmp_path / "store", "select *, url like '%talk.flac%' as is_talk from segments where status = 'ok'")
    for is_talk in (True, False):
        own = sorted((row["start_s"], row["end_s"]) for row in segments if row["is_talk"] == is_talk)
        assert [start for start, _ in own] == pytest.approx([3.0, 11.0], abs=0.4)
        assert [end for _, end in own] == pytest.approx([8.0, 15.0], abs=0.4)
    assert {(row["modality"], row["audio_codec"], row["video_codec"]) for row in segments} == {("audio", "flac", None)}
    found = packed(tmp_path / "store")
    assert len(found) == 2  # of each copy one
    for row in found:
        assert (row["has_video"], row["video"], row["image"], row["has_audio"]) == (False, None, None, True)
    # which of two copies stays follows from their names, which hold this folder's; so the text is looked up in the pool
    (text,) = rows(tmp_path / "store", "select text, text_start_s from segment_texts where text_start_s is not null")
    assert (text["text"], text["text_start_s"]) == ("what is said first", pytest.approx(1.0, abs=0.4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["video_audio", "panda_70m_like", "internvid_like", "openvid_like", "vidal_like"])
def test_a_recipe_runs_and_keeps_films(name: str, folder: Path, tmp_path: Path) -> None:
    # to an untrained model all pictures are alike, and none would be more than a still
    changes = {"min_within: 0.15": "min_within: 0"} if name == "panda_70m_like" else {}
    said = run(tmp_path / "store", published(name, tmp_path / "r", **changes), folder)
    assert any("nothing lost, nothing doubled" in line for line in said)
    assert rows(tmp_path / "store", "select count(distinct url) as n from ledger") == [{"n": 4}]
    found = packed(tmp_path / "store")
    assert found
    assert all(row["video"] is not None for row in found if row["has_video"])
    assert all(row["texts"][0]["text"] for row in found)
