"""What cutting and scoring video costs beside decoding it: CPU seconds of one process, the same films, in turns.

    python tests/benchmarks/segments.py [--films 3] [--seconds 20] [--height 720]

`decode` is PyAV's decoder alone, one thread, no picture made of a frame: the floor. `cut` is the stage `segment` (one
decoding at small size, shots, cutting, the middle picture), `score` the five signals of segments.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curation.av.cutting_up import SegmentOptions, cut_up
from curation.av.segment_signal import decoded_segment
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.signals.audio_levels import AudioLevels
from curation.signals.media_fingerprint import MediaFingerprint
from curation.signals.sound_and_picture import SoundAndPicture
from curation.signals.speech_quality import SpeechQuality
from curation.signals.video_motion import VideoMotion
from tests.curation.av import media

SIGNALS = [VideoMotion(), AudioLevels(), SpeechQuality(), SoundAndPicture(), MediaFingerprint()]
OPTIONS = SegmentOptions(shots=Segmentation(min_s=1.0))


def film(seed: int, seconds: float, height: int) -> bytes:
    """Shots of four seconds and music, H.264 with a key frame every two seconds."""
    width, per_shot = height * 8 // 9 * 2, 4 * media.FPS
    num = max(1, round(seconds * media.FPS / per_shot))
    frames = [frame for k in range(num) for frame in media.pan(10 * seed + k, per_shot, 3, width, height)]
    return media.write(frames, media.music(num * 4.0, seed), "mp4", options={"g": "50", "preset": "veryfast"})


def decode(body: bytes) -> int:
    with av.open(io.BytesIO(body)) as container:
        for stream in container.streams:
            stream.codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))


def cpu_s(work: Callable[[], object]) -> float:
    """Of this process and of those that ended in it."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--height", type=int, default=720)
    args = parser.parse_args()
    bodies = [film(seed, args.seconds, args.height) for seed in range(args.films)]
    with AvDecoder() as decoder:  # what is loaded at first use is no cost of a segment
        first = decoded_segment(decoder, media.small("mp4", 2.0), SIGNALS)
        for signal in SIGNALS:
            signal.compute_segments([first])
    costs: dict[str, list[float]] = {"start": [], "decode": [], "cut": [], "score": []}
    num_segments = 0
    for body in bodies:
        found: list[bytes] = []

        def start() -> None:
            with AvDecoder():
                pass

        def cut(body: bytes = body, found: list[bytes] = found) -> None:
            with AvDecoder() as decoder:
                found += [s.cut.body for s in cut_up(decoder, body, "u", OPTIONS) if s.cut is not None and s.cut.body]

        def score(found: list[bytes] = found) -> None:
            with AvDecoder() as decoder:
                for each in found:
                    segment = decoded_segment(decoder, each, SIGNALS)
                    for signal in SIGNALS:
                        signal.compute_segments([segment])

        for name, work in (
            ("start", start),
            ("decode", lambda body=body: decode(body)),
            ("cut", cut),
            ("score", score),
        ):
            costs[name].append(cpu_s(work))
        num_segments += len(found)
    base = float(np.median(costs["start"]))
    seconds = args.films * round(args.seconds / 4) * 4.0
    decoded = sum(costs["decode"])
    print(f"{args.films} films of {seconds / args.films:.0f} s at {args.height} lines, {num_segments} segments, "
          f"{time.strftime('%F')}")  # fmt: skip
    for name in ("decode", "cut", "score"):
        total = sum(cost - (base if name != "decode" else 0.0) for cost in costs[name])
        speed = f"{seconds / total:6.1f} s of film a second, {num_segments / total:.2f} segments a second"
        print(f"  {name:7} {total:6.2f} CPU s: {speed}, {total / decoded:.2f} x decode")


if __name__ == "__main__":
    main()
