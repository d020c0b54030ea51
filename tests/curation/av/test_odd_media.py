"""Media that are sound and yet unlike most: what becomes of them as segments. Each case was once lost or torn."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from curation.av.cutting_up import Segment, SegmentOptions, cut_up
from curation.av.segments import Segmentation
from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, FrameTap, Samples, Wanted
from tests.curation.av import media

OPTIONS = SegmentOptions(shots=Segmentation(min_s=1.0, max_s=20.0))
SMALL = FrameTap(width_px=160, height_px=120)


@pytest.fixture(autouse=True)
def _more_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in {
        "mkv_hevc": ("matroska", "libx265", "aac"),
        "flv_flv": ("flv", "flv", "libmp3lame"),
        "wav_mulaw": ("wav", None, "pcm_mulaw"),
        "wav_alaw": ("wav", None, "pcm_alaw"),
    }.items():
        monkeypatch.setitem(media.CODECS, name, kind)


def two_shots(kind: str, seed: int = 1, **options: Any) -> bytes:
    """Shots of 1.2 and 1.6 s with their sound."""
    frames = [f for k, n in enumerate((30, 40)) for f in media.pan(10 * seed + k, n, 2, 160, 120)]
    return media.write(frames, media.music(2.8, seed), kind, **options)


def good(segments: list[Segment]) -> list[tuple[float, float]]:
    """Ranges of segments that are whole: as many frames as their time holds, and as much sound as pictures."""
    for each in segments:
        assert each.reason is None, each.detail
        assert each.span is not None
        assert each.cut is not None
        assert each.cut.num_frames == pytest.approx((each.span.end_s - each.span.start_s) * media.FPS, abs=1.1)
        assert each.cut.audio_end_s == pytest.approx(each.cut.video_end_s, abs=0.06)
        assert each.probe is not None
        assert each.probe.has_video
        assert each.probe.has_audio
    return [(round(each.span.start_s, 2), round(each.span.end_s, 2)) for each in segments if each.span is not None]


def near(*ranges: tuple[float, float]) -> Any:
    return [(pytest.approx(start, abs=0.05), pytest.approx(end, abs=0.05)) for start, end in ranges]


BOTH = ((0.0, 1.2), (1.2, 2.8))


def test_packets_without_times_are_not_copied(decoder: AvDecoder) -> None:
    """HEVC in Matroska does not say when its reordered frames are decoded: copied, there was no picture left."""
    data = two_shots("mkv_hevc", options={"x265-params": "log-level=none:pools=none:frame-threads=1:bframes=3"})
    found = cut_up(decoder, data, "u", OPTIONS)
    assert good(found) == near(*BOTH)
    assert found[0].cut is not None
    assert found[0].cut.mode == "exact"


def test_a_stream_that_begins_hours_from_zero_is_whole(decoder: AvDecoder) -> None:
    """A recording of a live stream: Matroska's duration is where it ends."""
    times = [3600 + k / media.FPS for k in range(50)]
    data = media.write(media.pan(3, 50, 2, 160, 120), media.music(2.0, 3), "mkv", times=times, audio_start_s=3600.0)
    assert decoder.probe(data).duration_s == pytest.approx(2.0, abs=0.06)
    assert good(cut_up(decoder, data, "u", OPTIONS)) == near((0.0, 2.0))


def test_times_before_zero_hide_nothing(decoder: AvDecoder) -> None:
    """Matroska's frames before zero have no time, and its index none of them: a seek to the front lands behind it."""
    times = [-1.5 + k / media.FPS for k in range(70)]
    frames = [f for k, n in enumerate((30, 40)) for f in media.pan(40 + k, n, 2, 160, 120)]
    data = media.write(
        frames, media.music(2.8, 4), "mkv", times=times, audio_start_s=-1.5, options={"g": "10"},
        container_options={"avoid_negative_ts": "disabled"},
    )  # fmt: skip
    with av.open(io.BytesIO(data)) as made:
        assert made.start_time == -1_500_000
    assert good(cut_up(decoder, data, "u", OPTIONS)) == near(*BOTH)


def test_a_place_that_cannot_be_sought_is_reached_from_the_front(decoder: AvDecoder) -> None:
    assert good(cut_up(decoder, two_shots("flv_flv"), "u", OPTIONS)) == near(*BOTH)


def test_pictures_may_end_before_the_sound(decoder: AvDecoder) -> None:
    """That is no torn file; one that is torn has neither."""
    data = media.write(media.pan(6, 50, 2, 160, 120), media.music(6.0, 6), "mkv")
    assert good(cut_up(decoder, data, "u", OPTIONS)) == near((0.0, 2.0))
    (torn,) = cut_up(decoder, data[: len(data) // 5], "u", OPTIONS)
    assert torn.reason == "av.truncated"


def test_the_good_part_of_a_sound_is_kept(decoder: AvDecoder) -> None:
    """Two MP3 files, one behind the other: the second one's tag is no sound."""
    one = media.small("mp3", 3.0, 7)
    data = one + b"ID3\x04\0\0\0\0\x0f\x7f" + bytes(2047) + media.small("mp3", 1.5, 8)
    (found,) = cut_up(decoder, data, "u", OPTIONS)
    assert found.reason is None
    assert found.span is not None
    assert (found.span.start_s, found.span.end_s) == (0.0, pytest.approx(3.0, abs=0.1))
    (strict,) = cut_up(decoder, data, "u", OPTIONS.changed(min_good_share=0.95))
    assert strict.reason == "av.corrupt"


@pytest.mark.parametrize("kind", ["wav_mulaw", "wav_alaw"])
def test_telephone_sound_is_a_segment(decoder: AvDecoder, kind: str) -> None:
    data = media.write(None, media.music(2.0, 9, 8000), kind, rate=8000)
    (found,) = cut_up(decoder, data, "u", OPTIONS)
    assert found.reason is None
    assert found.probe is not None
    assert (found.probe.sample_rate_hz, found.probe.num_channels, found.probe.has_video) == (8000, 1, False)
    assert found.probe.duration_s == pytest.approx(2.0, abs=0.1)


def muxed(*sounds: tuple[str, str, np.ndarray], default: int, cover: np.ndarray | None = None) -> bytes:
    """Matroska of sounds (codec, layout, samples), the one at `default` being so, and perhaps an attached picture."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="matroska" if cover is None else "mp3") as out:
        streams = [out.add_stream(codec, rate=48_000, layout=layout) for codec, layout, _ in sounds]
        picture = None if cover is None else out.add_stream("png", rate=1)
        for k, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if k == default else av.stream.Disposition(0)
        if picture is not None and cover is not None:
            picture.height, picture.width, picture.pix_fmt = *cover.shape[:2], "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
            frame = av.VideoFrame.from_ndarray(cover, format="rgb24")
            packets = [*picture.encode(frame), *picture.encode(None)]
            out.mux(packets)
        for stream, (_, layout, pcm) in zip(streams, sounds, strict=True):
            resampler = av.AudioResampler(
                stream.format.name, layout, 48_000, frame_size=stream.codec_context.frame_size
            )
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.reshape(1, -1)), format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
            for each in [*resampler.resample(frame), *resampler.resample(None), None]:
                out.mux(stream.encode(each))
    return sink.getvalue()


def heard(decoder: AvDecoder, found: Segment) -> Samples:
    assert found.cut is not None
    assert found.cut.body is not None, found.detail
    samples = decoder.gather(found.cut.body, Wanted(audio=(AudioTap(),)))[1].samples()
    assert samples is not None
    return samples


def pitch_hz(samples: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(samples.pcm[4800:-4800, 0]))
    return float(spectrum.argmax() * samples.rate_hz / (len(samples.pcm) - 9600))


@pytest.mark.parametrize("default", [0, 1])
def test_of_several_tracks_the_default_one_is_taken(decoder: AvDecoder, default: int) -> None:
    tracks = [("flac", "mono", media.tone(2.0, hertz)) for hertz in (440.0, 880.0)]
    (found,) = cut_up(decoder, muxed(*tracks, default=default), "u", OPTIONS)
    assert pitch_hz(heard(decoder, found)) == pytest.approx((440.0, 880.0)[default], abs=3)


def test_six_channels_become_two(decoder: AvDecoder) -> None:
    """AC-3 with a tone in the left one; MP4 takes it encoded anew."""
    six = np.zeros((96_000, 6), np.float32)
    six[:, 0] = media.tone(2.0, 500.0)[:, 0]
    (found,) = cut_up(decoder, muxed(("ac3", "5.1", six), default=0), "u", OPTIONS)
    assert found.probe is not None
    assert (found.probe.audio_codec, found.probe.num_channels) == ("aac", 2)
    assert pitch_hz(heard(decoder, found)) == pytest.approx(500.0, abs=3)


def test_a_cover_picture_is_no_video(decoder: AvDecoder) -> None:
    cover = np.random.default_rng(0).integers(
        0, 256, (300, 300, 3), np.uint8
    )  # more bytes than the head that is sniffed
    data = muxed(("libmp3lame", "mono", media.tone(2.0)), default=0, cover=cover)
    (found,) = cut_up(decoder, data, "u", OPTIONS)
    assert found.reason is None
    assert found.probe is not None
    assert (found.probe.has_video, found.probe.audio_codec) == (False, "mp3float")
