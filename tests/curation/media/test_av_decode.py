from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import (
    AudioTap,
    AvLimits,
    AvOutcome,
    AvProbe,
    Chunk,
    FrameTap,
    GoodPart,
    Wanted,
    verdict,
)
from tests.curation.av import media

EVERY = FrameTap("every", 1, width_px=64, height_px=48)


@pytest.fixture(scope="module")
def decoder() -> Iterator[AvDecoder]:
    with AvDecoder() as it:
        yield it


@pytest.mark.parametrize("kind", list(media.CODECS))
def test_each_container_and_codec(decoder: AvDecoder, kind: str) -> None:
    _, video, _ = media.CODECS[kind]
    data = media.small(kind, seconds=1.2)
    probe = decoder.probe(data)
    assert probe.reason is None
    assert (probe.has_video, probe.has_audio) == (video is not None, True)
    assert (probe.width_px, probe.height_px) == ((160, 120) if video else (None, None))
    # a bare stream of AAC does not tell how long it is
    assert probe.duration_s == (None if kind == "aac" else pytest.approx(1.2, abs=0.09))
    wanted = Wanted(frames=(EVERY,), audio=(AudioTap(), AudioTap(16_000, samples="s16")), motion=True)
    outcome, got = decoder.gather(data, wanted)
    assert (outcome.reason, outcome.damages) == (None, ())
    assert verdict(outcome, GoodPart()) == (None, None)
    frames, native, speech = got.frames(), got.samples(0), got.samples(1)
    if video:
        assert frames is not None
        assert len(frames.times_s) == outcome.num_frames == 30
        np.testing.assert_allclose(np.diff(frames.times_s)[1:], 0.04, atol=2e-3)  # AVI puts in an empty frame
        truth = np.stack(media.pan(0, 30, width=160, height=120))[:, ::15, ::15].astype(float)
        seen = frames.pixels[:, 3::6, 3::6].astype(float)[:, :8, :10]
        assert np.corrcoef(truth[:, :8, :10].ravel(), seen.ravel())[0, 1] > 0.6
    assert native is not None
    assert speech is not None
    assert native.rate_hz == 48_000
    assert speech.pcm.dtype == np.int16
    assert len(speech.pcm) / 16_000 == pytest.approx(len(native.pcm) / 48_000, abs=0.002)
    truth_pcm = media.music(1.2, 0)[:, 0]
    lags = np.correlate(native.pcm[8000:40000, 0], truth_pcm[10000:38000], "valid")
    assert abs(int(lags.argmax()) - 2000) <= 0.024 * 48_000  # a codec's delay that the container does not tell


def test_frames_by_rule(decoder: AvDecoder) -> None:
    times = [0.0, 0.04, 0.5, 0.52, 1.0, 3.0, 3.04]  # a variable frame rate
    data = media.write(media.pan(1, len(times)), None, "mkv", times=times)

    def drawn(rule: Any, value: Any = 1, **more: Any) -> list[float]:
        _, got = decoder.gather(data, Wanted(frames=(FrameTap(rule, value, 48),), **more))
        found = got.frames()
        return [] if found is None else found.times_s.round(3).tolist()

    assert drawn("every") == times
    assert drawn("every", 3) == [0.0, 0.52, 3.04]
    # the frame that is shown at 0, 0.5, 1 ...: one that is shown for two seconds is drawn once
    assert drawn("rate", 2.0) == [0.0, 0.5, 1.0, 3.0]
    assert drawn("rate", 1.0) == [0.0, 1.0, 3.0]
    assert drawn("times", (0.03, 0.51, 0.515, 2.9)) == [0.0, 0.5, 1.0]
    assert drawn("every", start_s=0.5, end_s=1.5) == [0.5, 0.52, 1.0]
    assert drawn("rate", 2.0, start_s=0.52, end_s=3.03) == [0.52, 1.0, 3.0]
    assert drawn("keyframes")[0] == 0.0


def test_sampling_equals_picking_from_all(decoder: AvDecoder) -> None:
    data = media.small("mp4")
    taps = (EVERY, FrameTap("every", 7, width_px=64, height_px=48), FrameTap("rate", 3.0, width_px=64, height_px=48))
    _, got = decoder.gather(data, Wanted(frames=taps))
    whole, every, rate = (got.frames(k) for k in range(3))
    assert whole is not None
    assert every is not None
    assert rate is not None
    np.testing.assert_array_equal(every.pixels, whole.pixels[::7])
    shown = np.searchsorted(whole.times_s, np.arange(0, 2.0, 1 / 3) + 1e-9, side="right") - 1
    np.testing.assert_array_equal(rate.times_s, whole.times_s[shown])
    np.testing.assert_array_equal(rate.pixels, whole.pixels[shown])


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_rotation_is_applied(decoder: AvDecoder, turn: int) -> None:
    frames = media.pan(2, 3, width=160, height=120)
    data = media.write(frames, None, "mp4", rotation_deg=turn)  # counter-clockwise, as FFmpeg has it
    probe = decoder.probe(data)
    assert probe.rotation_deg == (360 - turn) % 360
    assert (probe.width_px, probe.height_px) == ((120, 160) if turn != 180 else (160, 120))
    _, got = decoder.gather(data, Wanted(frames=(FrameTap(),)))
    found = got.frames()
    assert found is not None
    upright = np.rot90(frames[0], turn // 90).astype(int)
    assert np.abs(found.pixels[0].astype(int) - upright).mean() < 6


def test_size_and_grey(decoder: AvDecoder) -> None:
    data = media.small("mp4", 0.2)
    taps = (FrameTap(short_side_px=60), FrameTap(short_side_px=999), FrameTap(pixels="gray", short_side_px=60))
    _, got = decoder.gather(data, Wanted(frames=taps))
    shapes = [found.pixels.shape[1:] for k in range(3) if (found := got.frames(k)) is not None]
    assert shapes == [(60, 80, 3), (120, 160, 3), (60, 80)]


def test_sample_n_is_at_start_plus_n_over_rate(decoder: AvDecoder) -> None:
    beep = np.zeros((48_000 * 2, 1), np.float32)
    beep[72_000:72_480, 0] = media.tone(0.01, 2000, 0.8)[:, 0]  # at 1.5 s
    data = media.write(media.pan(0, 75), beep, "mkv", audio_start_s=0.5)  # audio begins later than video
    for wanted in (
        Wanted(audio=(AudioTap(),), frames=(EVERY,)),
        Wanted(audio=(AudioTap(16_000),), start_s=1.2, end_s=2.2),
    ):
        _, got = decoder.gather(data, wanted)
        found = got.samples()
        assert found is not None
        first = int(np.flatnonzero(np.abs(found.pcm[:, 0]) > 0.2)[0])
        assert found.start_s + first / found.rate_hz == pytest.approx(2.0, abs=0.003)
        if wanted.end_s:
            assert found.start_s == pytest.approx(1.2, abs=1e-3)
            assert len(found.pcm) == pytest.approx(16_000, abs=32)


def test_stereo(decoder: AvDecoder) -> None:
    left, right = media.tone(0.5, 440), media.tone(0.5, 660, 0.1)
    data = media.write(None, np.concatenate([left, right], axis=1), "wav")
    _, got = decoder.gather(data, Wanted(audio=(AudioTap(num_channels=2), AudioTap())))
    both, mixed = got.samples(0), got.samples(1)
    assert both is not None
    assert mixed is not None
    np.testing.assert_allclose(both.pcm, np.concatenate([left, right], axis=1), atol=1e-4)
    np.testing.assert_allclose(mixed.pcm[:, 0], both.pcm.mean(axis=1), atol=1e-3)


def test_motion_is_that_of_the_camera(decoder: AvDecoder) -> None:
    still = media.write(media.pan(3, 20, 0), None, "mp4")
    slow, fast = (media.write(media.pan(3, 20, step), None, "mp4") for step in (2, 6))

    def median(data: bytes) -> float:
        _, got = decoder.gather(data, Wanted(motion=True))
        found = got.motion()
        assert found is not None
        assert len(found.grid) == 4  # one of each fifth of a second, not the key frame that it begins with
        return float(np.median(found.grid))

    assert median(still) < 1e-4
    assert median(slow) == pytest.approx(2 / 240, rel=0.15)
    assert median(fast) == pytest.approx(6 / 240, rel=0.15)


def test_the_good_part_of_a_damaged_medium(decoder: AvDecoder) -> None:
    data = media.small("mkv", 4.0)
    cut = data[: len(data) // 2]
    outcome, got = decoder.gather(cut, Wanted(frames=(EVERY,), audio=(AudioTap(),)))
    frames = got.frames()
    assert frames is not None
    assert 1.0 < (outcome.video_end_s or 0) < 3.0
    whole, _ = decoder.gather(data, Wanted(frames=(EVERY,)))
    assert (whole.num_damages, verdict(whole, GoodPart())) == (0, (None, None))
    strict = verdict(outcome, GoodPart(min_share=0.9))
    assert strict[0] in ("av.truncated", "av.corrupt")
    assert "good until" in (strict[1] or "")
    assert verdict(outcome, GoodPart(keep=False))[0] == strict[0]
    assert verdict(outcome, GoodPart(min_s=0.5, min_share=0.2))[0] is None
    damaged = bytearray(data)
    start = len(data) * 3 // 4
    damaged[start : start + 2000] = bytes(2000)
    hurt, got = decoder.gather(bytes(damaged), Wanted(frames=(EVERY,), audio=(AudioTap(),)))
    assert hurt.num_damages > 0
    assert min(at for _, at in hurt.damages) > 1.0


def test_verdict_of_outcomes() -> None:
    probe = AvProbe(duration_s=10.0)
    early = AvOutcome(probe=probe, video_end_s=10.0, damages=(("video", 1.0),), num_damages=1)
    assert verdict(early, GoodPart())[0] == "av.corrupt"
    late = AvOutcome(probe=probe, video_end_s=10.0, damages=(("video", 8.0),), num_damages=1)
    assert verdict(late, GoodPart()) == (None, "good until 8.00 s of 10.00 s")
    assert verdict(AvOutcome(reason="av.bomb", probe=probe, video_end_s=9.0), GoodPart())[0] == "av.bomb"
    assert verdict(AvOutcome(probe=probe, video_end_s=9.5), GoodPart()) == (None, None)  # headers are not exact


class Killer:
    """A collector that ends the child at its first piece."""

    def __init__(self, decoder: AvDecoder, how: signal.Signals) -> None:
        self.decoder, self.how = decoder, how

    def add(self, _chunk: Chunk) -> None:
        assert self.decoder._child is not None
        os.kill(self.decoder._child._process.pid, self.how)


def test_two_deaths_of_one_medium_are_its_fault_and_remembered() -> None:
    data, other = media.small("mp4"), media.small("wav")
    many = Wanted(frames=(FrameTap(short_side_px=120), FrameTap(short_side_px=121)) * 3)
    with AvDecoder(AvLimits(stall_s=1.0)) as decoder:
        outcome, _ = decoder.decode(data, many, lambda: Killer(decoder, signal.SIGKILL))
        assert (outcome.reason, outcome.detail) == ("av.decoder_crash", "signal 9")
        assert decoder.num_starts == 2
        assert decoder.fatal == {hashlib.sha256(data).hexdigest(): ("av.decoder_crash", "signal 9")}
        again = decoder.probe(data)
        assert (again.reason, again.detail) == ("av.decoder_crash", "signal 9")
        assert decoder.probe(other).reason is None
        assert decoder.num_starts == 3
        assert (decoder.death_of(data), decoder.death_of(other)) == (("av.decoder_crash", "signal 9"), None)
    with AvDecoder(AvLimits(stall_s=1.0), quarantine=list(decoder.fatal)) as later:
        assert later.probe(data).reason == "av.quarantined"
        assert later.num_starts == 1  # that of the block; what is known needs none
        outcome, _ = later.decode(media.small("mkv"), many, lambda: Killer(later, signal.SIGSTOP))
        assert outcome.reason == "av.decoder_timeout"


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp and address space limits are Linux's")
def test_the_child_has_no_files_no_network_and_little_memory(decoder: AvDecoder) -> None:
    decoder.probe(media.small("mp4", 0.2))
    assert decoder._child is not None
    assert decoder._child.is_locked
    status = Path(f"/proc/{decoder._child._process.pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert int(status.split("VmHWM:")[1].split()[0]) < 512 * 1024
    idle = int(status.split("VmSize:")[1].split()[0]) * 1024
    big = media.write([np.zeros((2304, 4096, 3), np.uint8)] * 4, None, "mp4")
    with AvDecoder(AvLimits(max_memory_bytes=idle + 20_000_000)) as small:
        outcome, _ = small.gather(big, Wanted(frames=(EVERY,)))
        assert verdict(outcome, GoodPart())[0] in ("av.decoder_memory", "av.corrupt")
        assert small.probe(media.small("wav", 0.2)).reason is None


def test_files_and_bytes_are_the_same(decoder: AvDecoder, tmp_path: Path) -> None:
    path = tmp_path / "medium"
    path.write_bytes(media.small("webm"))
    assert decoder.probe(path) == decoder.probe(path.read_bytes())
    with pytest.raises(FileNotFoundError):
        decoder.probe(tmp_path / "none")


def test_what_is_wanted_is_checked() -> None:
    with pytest.raises(ValueError, match="ascending seconds"):
        FrameTap("times", (2.0, 1.0))
    with pytest.raises(ValueError, match="positive whole number"):
        FrameTap("every", 1.5)
    with pytest.raises(ValueError, match="both width_px and height_px"):
        FrameTap(width_px=3)
