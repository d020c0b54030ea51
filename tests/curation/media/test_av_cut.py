"""Cutting media: exactly and by packets, sound and pictures together, sound alone."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, Cutting, FrameTap, Wanted
from tests.curation.av import media


@pytest.fixture(scope="module")
def decoder() -> Iterator[AvDecoder]:
    with AvDecoder() as it:
        yield it


def _frames_of(decoder: AvDecoder, data: bytes) -> Any:
    _, got = decoder.gather(
        data, Wanted(frames=(FrameTap("every", 1, width_px=160, height_px=120),), audio=(AudioTap(),))
    )
    return got.frames(), got.samples()


@pytest.mark.parametrize("kind", ["mp4", "mp4_hevc", "mkv", "webm", "webm_av1", "avi", "flv", "ts", "mov"])
def test_exact_cuts_have_the_wanted_frames_and_samples(decoder: AvDecoder, kind: str) -> None:
    frames = media.pan(5, 60, 6, width=160, height=120)
    data = media.write(frames, media.music(2.4, 5), kind, options={"g": "12"})
    spans = [(0.4, 1.0), (1.2, 2.0)]
    outcome, cuts = decoder.cut(data, spans, Cutting(mode="exact", crf=10))
    assert outcome.reason is None
    whole, whole_pcm = _frames_of(decoder, data)
    for (start, end), cut in zip(spans, cuts, strict=True):
        assert (cut.reason, cut.mode) == (None, "exact")
        assert cut.num_frames == pytest.approx((end - start) * 25, abs=1)
        assert cut.body is not None
        seen, pcm = _frames_of(decoder, cut.body)
        probe = decoder.probe(cut.body, is_own=True)
        assert probe == decoder.probe(cut.body)  # what is seen of its key frame alone
        assert probe.video_start_s == pytest.approx(seen.times_s[0], abs=1e-6)
        assert len(seen.times_s) == cut.num_frames
        inside = (whole.times_s >= start - 0.021) & (whole.times_s < end - 0.019)
        assert np.abs(whole.pixels[inside].astype(int) - seen.pixels.astype(int)).mean() < 4
        assert len(pcm.pcm) / 48_000 == pytest.approx(end - start, abs=0.03)
        first = round((start - whole_pcm.start_s) * 48_000)
        part = whole_pcm.pcm[first : first + 20_000, 0]
        lags = np.correlate(pcm.pcm[:24_000, 0], part[2000:18_000], "valid")
        assert abs(int(lags.argmax()) - 2000 + round(pcm.start_s * 48_000)) < 480  # within 10 ms


@pytest.mark.parametrize(
    ("kind", "container"), [("mp4", "mp4"), ("mkv", "matroska"), ("webm", "matroska"), ("ts", "matroska")]
)
def test_copies_begin_at_a_key_frame_and_keep_the_packets(decoder: AvDecoder, kind: str, container: Any) -> None:
    data = media.write(media.pan(6, 75, 4, width=160, height=120), media.music(3.0, 6), kind, options={"g": "15"})
    whole, whole_pcm = _frames_of(decoder, data)
    _, (cut,) = decoder.cut(data, [(0.9, 2.0)], Cutting(mode="copy", container=container))
    assert (cut.reason, cut.mode) == (None, "copy")
    assert cut.body is not None
    assert cut.start_s is not None
    assert cut.start_s <= 0.92
    assert cut.video_end_s == pytest.approx(2.0, abs=0.13)
    assert cut.audio_end_s == pytest.approx(cut.video_end_s, abs=0.06)
    seen, pcm = _frames_of(decoder, cut.body)
    assert decoder.probe(cut.body, is_own=True) == decoder.probe(cut.body)
    assert len(seen.times_s) == cut.num_frames
    first = int(np.argmin(np.abs(whole.times_s - cut.start_s)))
    np.testing.assert_array_equal(seen.pixels, whole.pixels[first : first + cut.num_frames])
    offset = round((cut.start_s + pcm.start_s - seen.times_s[0] - whole_pcm.start_s) * 48_000)
    part = whole_pcm.pcm[max(0, offset) : offset + 24_000, 0]
    lags = np.correlate(pcm.pcm[:24_000, 0], part[4000:20_000], "valid")
    assert abs(int(lags.argmax()) - 4000) < 0.03 * 48_000


def test_auto_copies_where_a_key_frame_is_near(decoder: AvDecoder) -> None:
    data = media.write(media.pan(6, 75), media.music(3.0, 6), "mp4", options={"g": "25", "sc_threshold": "0"})
    _, cuts = decoder.cut(data, [(1.0, 2.0), (1.3, 2.0)], Cutting(mode="auto"))
    assert [cut.mode for cut in cuts] == ["copy", "exact"]
    _, again = decoder.cut(data, [(1.0, 2.0), (1.3, 2.0)], Cutting(mode="auto"))
    assert again == cuts  # the same bytes


def test_audio_alone_is_cut(decoder: AvDecoder) -> None:
    _, cuts = decoder.cut(media.small("flac"), [(0.5, 1.5), (5.0, 6.0)], Cutting("exact", audio_codec="flac"))
    assert cuts[0].body is not None
    probe = decoder.probe(cuts[0].body)
    assert (probe.has_video, probe.audio_codec) == (False, "flac")
    assert probe.duration_s == pytest.approx(1.0, abs=0.01)
    assert cuts[1].reason == "av.corrupt"
    with pytest.raises(ValueError, match="not a time range"):
        decoder.cut(b"", [(2.0, 1.0)])


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "avi"])
def test_options_of_the_encoder_hold_whichever_stream_begins_first(kind: str) -> None:
    """Encoders open with the header, which waits for all streams: what is said after that is not heard."""
    data = media.small(kind, 2.0, 3)
    with AvDecoder() as decoder:
        sizes = []
        for crf in (10, 40):
            _, (cut,) = decoder.cut(data, [(0.5, 1.9)], Cutting("exact", crf=crf))
            again = [decoder.cut(data, [(0.5, 1.9)], Cutting("exact", crf=crf))[1][0].body for _ in range(3)]
            assert cut.body is not None
            assert again == [cut.body] * 3
            sizes.append(len(cut.body))
    assert sizes[0] > 1.5 * sizes[1]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "flac"])
def test_the_sound_alone(kind: str) -> None:
    data = media.small(kind, 2.0, 4)
    with AvDecoder() as decoder:
        for codec in ("libopus", "flac"):
            _, (cut,) = decoder.cut(data, [(0.0, 9.0)], Cutting(container="ogg", audio_codec=codec, streams="audio"))
            assert cut.body is not None
            assert cut.mode == (
                "copy" if (kind, codec) in {("webm", "libopus"), ("mkv", "flac"), ("flac", "flac")} else "exact"
            )
            found = decoder.probe(cut.body)
            assert (found.container, found.has_video, found.audio_codec) == ("ogg", False, codec.removeprefix("lib"))
            assert found.duration_s == pytest.approx(2.0, abs=0.06)
        outcome, (none,) = decoder.cut(
            media.write(media.pan(1, 30, width=160, height=120), None, "mp4"), [(0.0, 1.0)], Cutting(streams="audio")
        )
        assert outcome.reason == none.reason == "av.no_stream"


@pytest.mark.parametrize("codec", ["aac", "libopus"])
def test_damaged_samples_keep_no_encoder_busy(decoder: AvDecoder, codec: Any) -> None:
    """Samples of 1e30, infinite ones and no numbers: FFmpeg's AAC encoder did not come back from them."""
    rng = np.random.default_rng(8)
    pcm = rng.normal(0, 0.1, 72_000).astype("<f4")
    pcm[::997] = 1e30
    pcm[500::4_999], pcm[700::4_999], pcm[900::4_999] = np.inf, -np.inf, np.nan
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 3, 1, 48_000, 192_000, 4, 32)
    data = struct.pack("<4sI", b"RIFF", len(head) + 8 + pcm.nbytes) + head
    data += struct.pack("<4sI", b"data", pcm.nbytes) + pcm.tobytes()
    _, (cut,) = decoder.cut(data, [(0.2, 1.2)], Cutting("exact", audio_codec=codec))
    assert cut.reason is None
    assert cut.body is not None
    _, got = decoder.gather(cut.body, Wanted(audio=(AudioTap(),)))
    assert np.isfinite(got.samples().pcm).all()
    assert len(got.samples().pcm) / 48_000 == pytest.approx(1.0, abs=0.03)


def _ending_early(data: bytes, num_samples: int) -> bytes:
    """An Ogg stream whose last page says that it ends `num_samples` sooner (RFC 3533; the CRC has no reflection)."""
    at = data.rfind(b"OggS")
    page = bytearray(data[at:])
    struct.pack_into("<q", page, 6, struct.unpack_from("<q", page, 6)[0] - num_samples)
    page[22:26] = bytes(4)
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    struct.pack_into("<I", page, 22, crc)
    return data[:at] + bytes(page)


def test_an_ogg_that_ends_before_its_last_packet_lasts_no_longer_when_copied(decoder: AvDecoder) -> None:
    data = _ending_early(media.write(None, media.music(1.0, 3), "vorbis"), 2000)
    with av.open(io.BytesIO(data)) as whole:  # what FFmpeg makes of it
        assert max(packet.duration or 0 for packet in whole.demux(audio=0)) > 1 << 31
    _, (cut,) = decoder.cut(data, [(0.0, 1.0)], Cutting(mode="copy", container="matroska"))
    assert cut.body is not None
    assert 0.9 < (cut.audio_end_s or 0) < 1.1
    probe = decoder.probe(cut.body)
    assert probe.reason is None
    assert 0.9 < (probe.duration_s or 0) < 1.1
