"""What cutting and scoring video costs beside decoding it: CPU seconds of one process, the same films, in turns.

    python tests/benchmarks/segments.py [--films 3] [--seconds 20] [--height 720] [--codec mp4] [--grain 5] [--gop 50]

What a second of video costs to decode grows with its bit rate, what signals cost does not, so the share depends on the
films: they have grain, which brings H.264 of 720 lines to the 2 to 3 Mbit/s that the web has (`--grain 0`: 0.7 Mbit/s).

`decode` is PyAV's decoder alone, pictures and sound, one thread, nothing made of a frame: the floor. `cut` is the stage
`segment` (one decoding at small size with the track of the pictures, shots, cutting, a picture of each), `score` the
signals of segments: first those without a network, then voice activity (silero-vad) with them, then DNSMOS too.
`decoder` is the share of a row's CPU time that is spent within FFmpeg's decoders, `libav` the share within FFmpeg in
all: opening and reading containers, decoding, and scaling frames (not encoding), both by the child's own clock. `libav`
is what is meant by the share of time in the decoder: a program that only reads small frames spends no less.

video2dataset publishes 230 videos a second on 16 vCPU for WebVid-10M (12 h; its README): 14.4 videos a vCPU and second
for downloading and storing them, undecoded; it publishes no figure for cutting or for signals.
"""

from __future__ import annotations

import argparse
import io
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curation.av.cutting_up import Segment, SegmentOptions, cut_up
from curation.av.segment_signal import SegmentSignal, decoded_segment
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.signals.audio_levels import AudioLevels
from curation.signals.media_fingerprint import MediaFingerprint
from curation.signals.sound_and_picture import SoundAndPicture
from curation.signals.sound_kinds import SoundKinds
from curation.signals.speech_quality import SpeechQuality
from curation.signals.video_motion import VideoMotion
from pipelines.segment import _middle_picture
from tests.curation.av import media
from tests.curation.av.test_speech import voice

PLAIN: list[SegmentSignal] = [VideoMotion(), AudioLevels(), SoundAndPicture(), MediaFingerprint()]
VOICE: list[SegmentSignal] = [*PLAIN, SoundKinds()]
ALL: list[SegmentSignal] = [*PLAIN, SpeechQuality()]
OPTIONS = SegmentOptions(shots=Segmentation(min_s=1.0))


def film(seed: int, seconds: float, height: int, codec: str, grain: float = 0.0, gop: int = 50) -> bytes:
    """Shots of four seconds; speech over music; a key frame at least every `gop` frames. grain: standard
    deviation, levels."""
    width, per_shot = height * 8 // 9 * 2, 4 * media.FPS
    num = max(1, round(seconds * media.FPS / per_shot))
    frames = [frame for k in range(num) for frame in media.pan(10 * seed + k, per_shot, 3, width, height)]
    if grain:
        noise = np.random.default_rng(seed).normal(0, grain, (16, height, width, 1)).astype(np.int16)
        frames = [(frame + noise[k % 16]).clip(0, 255).astype(np.uint8) for k, frame in enumerate(frames)]
    sound = 0.3 * media.music(num * 4.0, seed)[:, 0] + 0.7 * voice(num * 4.0, seed, media.RATE_HZ)
    options = {"g": str(gop)} | ({"preset": "medium", "crf": "23"} if codec == "mp4" else {})
    return media.write(frames, sound[:, None], codec, options=options)


def decode(body: bytes) -> None:
    with av.open(io.BytesIO(body)) as container:
        for stream in container.streams:
            stream.codec_context.thread_count = 1
        for _ in container.decode():
            pass


def cpu_s(work: Callable[[], object]) -> float:
    """Of this process and of those that ended in it."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    work()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


class Costs:
    """CPU seconds in all, in the decoders, and within FFmpeg, of each kind of work."""

    def __init__(self) -> None:
        self.total: dict[str, float] = {}
        self.decoder: dict[str, float] = {}
        self.libav: dict[str, float] = {}

    def take(self, name: str, work: Callable[[AvDecoder], object], base: float) -> None:
        inside = libav = 0.0

        def whole() -> None:
            nonlocal inside, libav
            with AvDecoder() as decoder:
                work(decoder)
                inside, libav = decoder.decoder_s, decoder.libav_s

        self.total[name] = self.total.get(name, 0.0) + cpu_s(whole) - base
        self.decoder[name] = self.decoder.get(name, 0.0) + inside
        self.libav[name] = self.libav.get(name, 0.0) + libav


def cut(decoder: AvDecoder, body: bytes) -> list[Segment]:
    """As `pipelines.segment` does."""
    found = [each for each in cut_up(decoder, body, "u", OPTIONS) if each.cut is not None and each.cut.body]
    decoder.texts(body)
    for each in found:
        assert each.cut is not None
        assert each.probe is not None
        if each.frame is None:
            _middle_picture(decoder, {"modality": "video", "duration_s": each.probe.duration_s, "bytes": each.cut.body})
    return found


def score(decoder: AvDecoder, segments: Sequence[Segment], signals: Sequence[SegmentSignal]) -> None:
    """As `pipelines.segment_scores` does."""
    for each in segments:
        assert each.cut is not None
        assert each.cut.body is not None
        segment = decoded_segment(decoder, each.cut.body, signals, each.track)
        for signal in signals:
            signal.compute_segments([segment])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--codec", choices=[name for name, codec in media.CODECS.items() if codec[1]], default="mp4")
    parser.add_argument("--grain", type=float, default=5.0)
    parser.add_argument("--gop", type=int, default=50)
    args = parser.parse_args()
    bodies = [film(seed, args.seconds, args.height, args.codec, args.grain, args.gop) for seed in range(args.films)]
    with AvDecoder() as decoder:  # what is loaded at first use is no cost of a segment
        score(decoder, cut(decoder, bodies[0])[:1], ALL)
    costs, num_segments = Costs(), 0
    kinds = (("score, no network", PLAIN), ("score, with VAD", VOICE), ("score, with VAD, DNSMOS", ALL))
    for body in bodies:
        base = min(cpu_s(lambda: AvDecoder().__enter__().close()) for _ in range(2))
        found: list[Segment] = []
        costs.total["decode"] = costs.total.get("decode", 0.0) + cpu_s(lambda body=body: decode(body))
        costs.take("cut", lambda decoder, body=body, found=found: found.extend(cut(decoder, body)), base)
        for name, signals in kinds:
            costs.take(name, lambda decoder, found=found, signals=signals: score(decoder, found, signals), base)
        num_segments += len(found)
    costs.decoder["decode"] = costs.libav["decode"] = costs.total["decode"]
    for name, _ in kinds:
        for each in (costs.total, costs.decoder, costs.libav):
            each["cut and " + name] = each["cut"] + each[name]
    seconds = args.films * max(1, round(args.seconds / 4)) * 4.0
    films = f"{args.films} films of {seconds / args.films:.0f} s, {args.codec}, {args.height} lines"
    films += f", {sum(map(len, bodies)) * 8e-6 / seconds:.1f} Mbit/s"
    print(f"{films}, {num_segments} segments, {time.strftime('%F')}\n")
    print("| what | CPU s | x decode | decoder | libav | segments a CPU s | s of film a CPU s |\n" + "|---" * 7 + "|")
    for name, total in costs.total.items():
        share, libav, times = costs.decoder[name] / total, costs.libav[name] / total, total / costs.total["decode"]
        speed = f"{num_segments / total:.2f} | {seconds / total:.1f}"
        print(f"| {name} | {total:.2f} | {times:.2f} | {share:.0%} | {libav:.0%} | {speed} |")


if __name__ == "__main__":
    main()
