"""Pictures, sound and colours of segments are those of the source at the same times. Frames carry their number, sound
is never twice alike, so that each segment tells where it was cut. Each case was once wrong."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import av
import numpy as np
import pytest

from curation.av.cutting_up import Segment, SegmentOptions, cut_up
from curation.av.packing import PackMedia, packed
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, FrameTap, Wanted
from tests.curation.av import media

OPTIONS = SegmentOptions(shots=Segmentation(min_s=1.0, max_s=20.0))
EXACT = OPTIONS.changed(cut="exact")
FRAMES = FrameTap(width_px=320, height_px=240)


@pytest.fixture(autouse=True)
def _more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(media.CODECS, "ts_h264", ("mpegts", "libx264", "aac"))


def numbered(*lengths: int, seed: int = 1) -> list[np.ndarray]:
    """Shots of so many frames, whose upper edge shows their number in 16 black and white squares."""
    frames = [f.copy() for k, n in enumerate(lengths) for f in media.pan(10 * seed + k, n)]
    for number, frame in enumerate(frames):
        for bit in range(16):
            frame[:20, 20 * bit : 20 * bit + 20] = 255 * (number >> bit & 1)
    return frames


def numbers(pixels: np.ndarray) -> list[int]:
    return [
        sum(int(frame[5:15, 20 * bit + 5 : 20 * bit + 15].mean() > 128) << bit for bit in range(16)) for frame in pixels
    ]


def place_s(sound: np.ndarray, whole: np.ndarray) -> float:
    """Where a second of sound lies in the whole, in seconds at 48 kHz."""
    size = len(whole) + len(sound)
    product = np.fft.rfft(whole, size) * np.conj(np.fft.rfft(sound, size))
    return float(np.fft.irfft(product, size)[: len(whole)].argmax()) / 48_000


def body(segment: Segment) -> bytes:
    assert segment.reason is None, segment.detail
    assert segment.cut is not None
    assert segment.cut.body is not None
    return segment.cut.body


def shown(decoder: AvDecoder, segment: Segment) -> list[int]:
    """Numbers of a segment's frames, which are as many as it says, and last as long."""
    outcome, got = decoder.gather(body(segment), Wanted(frames=(FRAMES,)))
    frames = got.frames()
    assert frames is not None
    assert segment.cut is not None
    assert segment.span is not None
    assert segment.probe is not None
    assert len(frames.pixels) == segment.cut.num_frames
    assert outcome.video_end_s == pytest.approx(segment.span.length_s, abs=0.005)
    assert segment.probe.duration_s == pytest.approx(segment.span.length_s, abs=0.03)
    assert segment.track is not None
    assert len(segment.track.frames) == len(frames.pixels)
    return numbers(frames.pixels)


def heard_at(decoder: AvDecoder, data: bytes, whole: np.ndarray, at_s: float) -> float:
    """Where in the whole that sound lies which is heard at this time."""
    samples = decoder.gather(data, Wanted(audio=(AudioTap(48_000),)))[1].samples()
    assert samples is not None
    first = round((at_s - samples.start_s) * 48_000)
    return place_s(samples.pcm[first : first + 24_000, 0], whole[:, 0])


@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_an_exact_cut_at_a_frame_of_a_variable_rate_takes_none_of_the_shot_before(
    decoder: AvDecoder, kind: str
) -> None:
    """60 frames a second, then one: half of a mean frame's time holds three of the fast ones."""
    times = [k / 60 for k in range(210)] + [3.5 + k for k in range(12)]
    data = media.write(numbered(120, 90, 12), media.music(15.5, 1), kind, times=times, options={"g": "1000"})
    first, second = cut_up(
        decoder, data, "u", OPTIONS.changed(shots=Segmentation(min_s=1.0, max_s=5.0, above_max="drop"))
    )
    assert numbers_of(decoder, first) == list(range(120))
    assert second.cut is not None
    assert second.cut.mode == "exact"
    assert shown(decoder, second) == list(range(120, 210))


def numbers_of(decoder: AvDecoder, segment: Segment) -> list[int]:
    frames = decoder.gather(body(segment), Wanted(frames=(FRAMES,)))[1].frames()
    assert frames is not None
    return numbers(frames.pixels)


def test_the_last_frame_of_a_copy_is_shown(decoder: AvDecoder) -> None:
    """FLV does not say how long a frame is shown: the last one of a copy was there for no time, so left out."""
    times = [k / media.FPS for k in range(110)]
    data = media.write(numbered(50, 60), media.music(4.4, 1), "flv", times=times, audio_start_s=1.5)
    copy, _ = cut_up(decoder, data, "u", OPTIONS)
    assert copy.cut is not None
    assert copy.cut.mode == "copy"
    assert shown(decoder, copy) == list(range(50))


def without_sound(kind: str, frames: Sequence[np.ndarray], pcm: np.ndarray, start_s: float, end_s: float) -> bytes:
    """A film whose packets of sound between two times are missing."""
    container, video_codec, audio_codec = media.CODECS[kind]
    sink = io.BytesIO()
    with av.open(sink, "w", format=container) as out:
        video = media._video_stream(out, video_codec, frames, media.FPS, None, 0)
        audio = media._audio_stream(out, audio_codec, pcm, media.RATE_HZ)
        sounds = media._audio_packets(audio, pcm, media.RATE_HZ, 0.0)
        packets = media._video_packets(video, frames, media.FPS, None)
        packets += [each for each in sounds if not start_s <= each[0] < end_s]
        for _, _, packet in sorted(packets, key=lambda each: each[:2]):
            out.mux(packet)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts_h264"])
def test_sound_stays_in_sync_behind_a_hole(decoder: AvDecoder, kind: str) -> None:
    """Two seconds of packets are missing: what came after was heard two seconds early in what was encoded anew."""
    pcm = media.music(6.0, 1)
    data = without_sound(kind, numbered(150), pcm, 2.0, 4.0)
    (found,) = cut_up(decoder, data, "u", EXACT)
    assert shown(decoder, found) == list(range(150))
    for at_s in (0.5, 4.5, 5.2):
        assert heard_at(decoder, body(found), pcm, at_s) == pytest.approx(at_s, abs=0.03)


@pytest.mark.parametrize("codec", ["opus", "flac"])
@pytest.mark.parametrize("kind", ["mp4", "mkv"])
def test_packed_sound_that_begins_late_keeps_its_time(decoder: AvDecoder, kind: str, codec: Any) -> None:
    """Alone in a container it would begin at once, so silence goes before it."""
    pcm = media.music(3.0, 1)
    data = media.write(numbered(100), pcm, kind, audio_start_s=1.0)
    (found,) = cut_up(decoder, data, "u", OPTIONS)
    made = packed(decoder, body(found), None, has_video=True, has_audio=True, wanted=PackMedia(audio=codec))
    assert made.audio is not None
    for data in (body(found), made.audio):
        assert heard_at(decoder, data, pcm, 2.0) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("first", "second"), [(110, 60), (110, 200)])
def test_a_second_film_behind_the_first_is_not_mixed_in(decoder: AvDecoder, first: int, second: int) -> None:
    """Two transport streams, one behind the other: the stamps of the second begin anew."""
    options = {"bf": "3", "preset": "medium", "g": "25"}
    one, two = (
        media.write(numbered(50, n - 50, seed=seed), media.music(n / 25, seed), "ts_h264", options=options)
        for seed, n in ((1, first), (2, second))
    )
    found = cut_up(decoder, one + two, "u", OPTIONS)
    assert [numbers_of(decoder, each) for each in found] == [list(range(50)), list(range(50, first))]
    pcm = media.music(first / 25, 1)
    for each in found:
        assert each.span is not None
        assert heard_at(decoder, body(each), pcm, 0.5) == pytest.approx(each.span.start_s + 0.48, abs=0.03)


@pytest.mark.parametrize("kind", ["ogg", "flac"])
def test_the_first_of_two_sounds_is_whole(decoder: AvDecoder, kind: str) -> None:
    """The stamps of the second begin anew: it took the place of the first's end."""
    one, two = media.write(None, media.music(4.0, 1), kind), media.write(None, media.music(3.0, 2), kind)
    (found,) = cut_up(decoder, one + two, "u", OPTIONS)
    assert heard_at(decoder, body(found), media.music(4.0, 1), 3.3) == pytest.approx(3.3, abs=0.03)


def test_packets_that_no_container_takes_are_encoded_anew(decoder: AvDecoder) -> None:
    """Two packets of sound with one time of decoding: a copy was refused, and the segment called corrupt."""
    fragments = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}
    data = media.write(numbered(50), media.music(2.0, 1), "mp4", container_options=fragments)
    (found,) = cut_up(decoder, data, "u", OPTIONS)
    assert found.cut is not None
    assert found.cut.mode == "exact"
    assert numbers_of(decoder, found) == list(range(50))


@pytest.mark.parametrize("colours", [1, 6, 9])  # ITU-T H.273: BT.709, BT.601, BT.2020
@pytest.mark.parametrize("turn", [0, 90])
def test_colours_of_an_exact_cut_are_those_of_the_source(decoder: AvDecoder, colours: int, turn: int) -> None:
    """H.264 without a tag is read as BT.601; that of HD is BT.709, and greens were 28 levels off."""
    flat = np.zeros((240, 320, 3), np.uint8)
    flat[:, :160], flat[:120, 160:], flat[120:, 160:] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    sink = io.BytesIO()
    with av.open(sink, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = colours
        context.color_range = 1
        stream.set_display_rotation(turn)
        for number in range(50):
            frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
            frame = frame.reformat(320, 240, "yuv420p", dst_colorspace=colours, dst_color_range=1)
            frame.pts = number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    data = sink.getvalue()
    (found,) = cut_up(decoder, data, "u", EXACT)
    before, after = (
        decoder.gather(each, Wanted(frames=(FrameTap("every", 60),)))[1].frames() for each in (data, body(found))
    )
    assert before is not None
    assert after is not None
    at = slice(30, None, 60)
    np.testing.assert_allclose(after.pixels[0, at, at].astype(int), before.pixels[0, at, at].astype(int), atol=6)
    with av.open(io.BytesIO(body(found))) as made:
        frame = next(made.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (colours,) * 3 + (1,)


@pytest.mark.parametrize("rate", [500, 4000, 12_345, 37_800])
def test_any_sample_rate_is_encoded(decoder: AvDecoder, rate: int) -> None:
    """AAC knows thirteen; sound at another was called corrupt."""
    (found,) = cut_up(decoder, media.write(None, media.tone(3.0, 100, rate=rate), "wav", rate=rate), "u", OPTIONS)
    samples = decoder.gather(body(found), Wanted(audio=(AudioTap(),)))[1].samples()
    assert samples is not None
    assert samples.rate_hz >= rate
    spectrum = np.abs(np.fft.rfft(samples.pcm[: 2 * samples.rate_hz, 0]))
    assert spectrum.argmax() / 2 == pytest.approx(100, abs=1)


def test_sound_that_changes_its_rate_and_channels_is_encoded(decoder: AvDecoder) -> None:
    one, two = media.tone(3.0, 300.0), np.repeat(media.tone(3.0, 600.0, rate=44_100), 2, axis=1)
    data = media.write(None, one, "aac") + media.write(None, two, "aac", rate=44_100)
    (found,) = cut_up(decoder, data, "u", EXACT)
    samples = decoder.gather(body(found), Wanted(audio=(AudioTap(48_000),)))[1].samples()
    assert samples is not None
    for start, hertz in ((24_000, 300.0), (180_000, 600.0)):
        spectrum = np.abs(np.fft.rfft(samples.pcm[start : start + 48_000, 0]))
        assert spectrum.argmax() == pytest.approx(hertz, abs=2)


def bare(kind: str, pcm: np.ndarray, bits: int) -> bytes:
    """A stream of audio without a container and without any header of its own."""
    codec, container = ("libmp3lame", "mp3") if kind == "mp3" else ("aac", "adts")
    sink = io.BytesIO()
    options = {"write_xing": "0", "id3v2_version": "0"} if kind == "mp3" else {}
    with av.open(sink, "w", format=container, container_options=options) as out:
        stream = out.add_stream(codec, rate=48_000, layout="mono", options={"b": str(bits)})
        for _, _, packet in media._audio_packets(stream, pcm, 48_000, 0.0):
            out.mux(packet)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_a_bare_stream_whose_rate_varies_is_not_called_truncated(decoder: AvDecoder, kind: str) -> None:
    """FFmpeg guesses its length by its first frames: ten times too long where it begins with silence."""
    data = bare(kind, np.zeros((480_000, 1), np.float32), 32_000) + bare(kind, media.music(8.0, 3), 320_000)
    probe = decoder.probe(data)
    assert (probe.reason, probe.duration_s) == (None, None)
    (found,) = cut_up(decoder, data, "u", OPTIONS)
    assert found.reason is None, found.detail
    assert found.span is not None
    assert found.span.end_s == pytest.approx(18.0, abs=0.2)


def test_a_bare_stream_that_tells_its_length_may_be_truncated(decoder: AvDecoder) -> None:
    data = media.write(None, media.music(6.0, 3), "mp3")
    assert decoder.probe(data).duration_s == pytest.approx(6.0, abs=0.05)
    (torn,) = cut_up(decoder, data[: len(data) // 4], "u", OPTIONS)
    assert torn.reason == "av.truncated"
    tagged = b"ID3\x04\0\0" + bytes([0, 8, 0, 0]) + bytes(1 << 17) + data[data.index(b"\xff\xfb") :]
    assert decoder.probe(tagged).duration_s == pytest.approx(6.0, abs=0.05)
