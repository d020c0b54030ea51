from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.fft import dctn

from curation.av.copies import AUDIO_RULE, VIDEO_RULE, Match, Track, copies
from curation.av.fingerprints import AUDIO_HOP_S, FRAME_SIZE_PX, audio_hashes, frame_hashes
from curation.av.segment_signal import decoded_segment
from curation.media.av_decode import AvDecoder
from curation.signals.media_fingerprint import MediaFingerprint, audio_track, video_track
from tests.curation.av import media

SECONDS = 6.0


def tracks(decoder: AvDecoder, data: bytes) -> tuple[Track | None, Track | None]:
    segment = decoded_segment(decoder, data, [MediaFingerprint()])
    assert segment is not None
    row: dict[str, Any] = MediaFingerprint().of_segment(segment)
    video = audio = None
    if row["video_fingerprint"] is not None:
        video = video_track(row["video_fingerprint"], row["video_known"])
    if row["audio_fingerprint"] is not None:
        audio = audio_track(row["audio_fingerprint"], row["audio_known"], row["audio_start_s"])
    return video, audio


def film(seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Three shots and music."""
    shots = [media.pan(10 * seed + k, round(SECONDS * media.FPS / 3), 2 + k, 160, 120) for k in range(3)]
    return [frame for shot in shots for frame in shot], media.music(SECONDS, seed)


VIDEO_KINDS = ["mp4", "mp4_hevc", "mkv", "webm", "webm_av1", "avi", "flv", "ts", "mov"]


def test_copies_across_containers_codecs_and_trims(decoder: AvDecoder) -> None:
    """Five films, each in eight or more containers and codecs, whole and trimmed at both ends, smaller, and quieter."""
    rng = np.random.default_rng(0)
    videos: list[Track] = []
    audios: list[Track] = []
    owner: list[int] = []
    trims: list[float] = []
    for seed in range(4):
        frames, pcm = film(seed)
        for number, kind in enumerate(VIDEO_KINDS):
            head = float(rng.integers(0, 40)) / media.FPS if number % 2 else 0.0
            tail = float(rng.integers(0, 30)) / media.FPS if number % 2 else 0.0
            first, last = round(head * media.FPS), len(frames) - round(tail * media.FPS)
            cut = frames[first:last]
            if number % 3 == 2:
                cut = [np.ascontiguousarray(frame[::2, ::2]) for frame in cut]
            sound = pcm[round(head * 48_000) : round((SECONDS - tail) * 48_000)] * (0.5 if number % 4 == 3 else 1.0)
            video, audio = tracks(decoder, media.write(cut, sound, kind))
            assert video is not None
            assert audio is not None
            videos.append(video)
            audios.append(audio)
            owner.append(seed)
            trims.append(head)
    for found, tolerance in ((copies(videos, VIDEO_RULE), 0.2), (copies(audios, AUDIO_RULE), 0.1)):
        assert all(owner[m.a] == owner[m.b] for m in found), "distinct ones merged"
        pairs = 4 * len(VIDEO_KINDS) * (len(VIDEO_KINDS) - 1) / 2
        assert len(found) / pairs >= 0.95
        errors = [abs(m.offset_s - (trims[m.a] - trims[m.b])) for m in found]
        assert np.mean(np.array(errors) <= tolerance) >= 0.95


def test_a_short_part_of_a_long_film(decoder: AvDecoder) -> None:
    frames, pcm = film(7)
    whole = tracks(decoder, media.write(frames, pcm, "mp4"))
    part = tracks(decoder, media.write(frames[50:110], pcm[96_000:211_200], "webm"))
    for k, rule in ((0, VIDEO_RULE), (1, AUDIO_RULE)):
        found = copies([one for one in (whole[k], part[k]) if one is not None], rule)
        assert len(found) == 1
        assert found[0].offset_s == pytest.approx(-2.0, abs=0.2)
        assert found[0].overlap_s == pytest.approx(2.4, abs=0.5)


def test_black_and_silence_are_no_copies() -> None:
    black = Track(*frame_hashes(np.full((50, 32, 32), 16, np.uint8)), 0.2)
    silent = Track(*audio_hashes(np.zeros(80_000, np.float32)), AUDIO_HOP_S)
    assert copies([black, black], VIDEO_RULE) == []
    assert copies([silent, silent], AUDIO_RULE) == []
    assert copies([], VIDEO_RULE) == []


def test_the_offset_of_a_copy_in_itself() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 60).astype(np.uint64)
    known = np.ones(60, bool)
    whole, late = Track(hashes, known, 0.2), Track(hashes[10:], known[10:], 0.2)
    assert copies([whole, late], VIDEO_RULE) == [Match(0, 1, pytest.approx(-2.0), pytest.approx(10.0), 0.0)]
    again = copies([late, Track(hashes[10:], known[10:], 0.2, start_s=5.0)], VIDEO_RULE)
    assert [(m.offset_s, m.overlap_s) for m in again] == [(pytest.approx(5.0), pytest.approx(10.0))]
    assert copies([whole, Track(np.bitwise_not(hashes), known, 0.2)], VIDEO_RULE) == []


def tracks_of(frames: list[np.ndarray]) -> Track:
    small = [cv2.resize(f, (96, 54), interpolation=cv2.INTER_AREA) for f in frames[::5]]
    return Track(*frame_hashes(np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in small])), 0.2)


def test_a_logo_that_films_share_makes_no_copies() -> None:
    """Its bits are alike all the time; those of a copy only where its frames belong together."""
    films = [media.pan(100 * seed + 7, 75, 1 + seed % 4) for seed in range(40)]
    for each in films:
        for frame in each:
            cv2.rectangle(frame, (255, 10), (310, 50), (255, 255, 255), -1)
    alike = [tracks_of(film) for film in films]
    assert copies(alike, dataclasses.replace(VIDEO_RULE, min_share=0.5)) == []
    found = 0
    for film, track in zip(films, alike, strict=True):
        cropped = tracks_of([frame[4:-4, 5:-5] for frame in film])
        found += len(copies([track, cropped], VIDEO_RULE))
    assert found == 40


def test_a_film_that_hardly_moves_costs_no_more_than_one_that_does() -> None:
    """Frames of one film are near each other: all pairs of them were held."""
    rng = np.random.default_rng(3)
    tracks = []
    for _ in range(200):
        noise = np.uint64(1) << rng.integers(0, 64, 400).astype(np.uint64)
        tracks.append(Track(rng.integers(0, 2**64, dtype=np.uint64) ^ noise, np.ones(400, bool), 0.2))
    tracks.append(Track(tracks[7].hashes[50:] ^ np.uint64(1), np.ones(350, bool), 0.2))
    copies(tracks[:2], VIDEO_RULE)  # compiles
    tracemalloc.start()
    found = copies(tracks, VIDEO_RULE)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [(match.a, match.b) for match in found] == [(7, 200)]
    assert peak < 50_000_000


def test_short_input() -> None:
    assert len(audio_hashes(np.zeros(100, np.float32))[0]) == 0
    assert len(frame_hashes(np.zeros((0, 32, 32), np.uint8))[0]) == 0


def test_hashes_are_signs_of_the_lowest_frequencies() -> None:
    """Of the frame shrunk by OpenCV's areas, transformed by SciPy."""
    frames = np.stack([np.asarray(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), np.uint8) for f in media.pan(3, 20, 5, 96, 54)])
    small = np.stack([cv2.resize(f.astype(np.float32), FRAME_SIZE_PX, interpolation=cv2.INTER_AREA) for f in frames])
    low = dctn(small, axes=(1, 2), norm="ortho")[:, :9, :8].reshape(20, -1)[:, 1:65]
    bits = low > np.median(low, axis=1, keepdims=True)
    hashes, known = frame_hashes(frames)
    assert known.all()
    truth = (bits * (np.uint64(1) << np.arange(64, dtype=np.uint64))).sum(axis=1, dtype=np.uint64)
    np.testing.assert_array_equal(hashes, truth)
    assert not frame_hashes(np.full((2, 54, 96), 90, np.uint8))[1].any()
