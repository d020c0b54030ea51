"""Malformed video and audio: every medium gets a code or is good, and none takes the child or a row with it."""

from __future__ import annotations

import collections
import io
import re
import socket
import struct
import threading
from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AudioTap, AvLimits, Cutting, FrameTap, GoodPart, Wanted, verdict
from curation.reasons import reason
from tests.curation.av import media
from tests.curation.av.malformed import raw

WANTED = Wanted(
    frames=(FrameTap("every", 1, width_px=64, height_px=48), FrameTap("rate", 2.0, 100)),
    audio=(AudioTap(), AudioTap(16_000, samples="s16")),
    motion=True,
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[AvDecoder]:
    with AvDecoder(AvLimits(timeout_s=60, stall_s=20)) as it:
        yield it


def _refused(decoder: AvDecoder, data: bytes) -> tuple[str | None, str | None]:
    starts = decoder.num_starts
    outcome, _ = decoder.gather(data, WANTED)
    assert decoder.probe(data).reason in (outcome.reason, None)
    assert decoder.num_starts == starts, "the child must survive all of these"
    assert outcome.detail is None or len(outcome.detail) <= 200
    return outcome.reason, outcome.detail


MP4 = media.small("mp4", 0.5)
WAV_HEAD = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0"
NOT_MEDIA = {
    "empty": (b"", "av.container_not_allowed"),
    "html": (b"<!doctype html><html><body>Please sign in</body></html>", "av.container_not_allowed"),
    "json": (b'{"error": "not found"}', "av.container_not_allowed"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(64), "av.container_not_allowed"),
    "avif": (b"\0\0\0\x1cftypavif" + bytes(64), "av.container_not_allowed"),
    "zeros": (bytes(5000), "av.container_not_allowed"),
    "hls": (b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n", "av.protocol_blocked"),
    "hls after bom": (b"\xef\xbb\xbf\n#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "av.protocol_blocked"),
    "dash": (b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>', "av.protocol_blocked"),
    "concat": (b"ffconcat version 1.0\nfile /etc/passwd\n", "av.protocol_blocked"),
    "sdp": (b"v=0\no=- 0 0 IN IP4 127.0.0.1\n", "av.protocol_blocked"),
    "playlist": (b"[playlist]\nFile1=http://127.0.0.1:1/\n", "av.protocol_blocked"),
    "mp4 magic only": (MP4[:24], "av.corrupt"),
    "mp4 header only": (MP4[: MP4.find(b"mdat") + 30], "av.corrupt"),
    "mkv magic only": (b"\x1a\x45\xdf\xa3" + bytes(40), "av.corrupt"),
    "ogg magic only": (b"OggS" + bytes(60), "av.corrupt"),
    "wav of 0 Hz": (WAV_HEAD + struct.pack("<IIHH", 0, 0, 2, 16) + b"data\x10\0\0\0" + bytes(16), "av."),
    "wav of 4 GHz": (WAV_HEAD + struct.pack("<IIHH", 0xFFFFFFF0, 0, 2, 16) + b"data\x10\0\0\0" + bytes(16), "av."),
}


@pytest.mark.parametrize("name", list(NOT_MEDIA))
def test_what_is_no_medium(decoder: AvDecoder, name: str) -> None:
    data, code = NOT_MEDIA[name]
    found, _ = _refused(decoder, data)
    assert found is not None
    assert found.startswith(code)


def test_bombs_of_pixels_and_frames(decoder: AvDecoder) -> None:
    assert _refused(decoder, raw("ffv1", "matroska", 2, 40_000, 2))[0] == "av.bomb"  # a line of pixels
    assert _refused(decoder, raw("ffv1", "matroska", 6000, 5000, 1))[0] == "av.bomb"
    with AvDecoder(AvLimits(max_frames=300)) as strict:
        assert _refused(strict, raw("mpeg4", "matroska", 16, 16, 400, "yuv420p"))[0] == "av.bomb"
        assert _refused(strict, raw("mpeg4", "mp4", 16, 16, 400, "yuv420p"))[0] == "av.bomb"


def test_a_header_that_lies_about_the_size(decoder: AvDecoder) -> None:
    data = bytearray(MP4)
    at = data.find(b"avc1", data.find(b"stsd"))
    data[at + 28 : at + 32] = b"\xff\xff\xff\xff"  # width and height of the sample entry (ISO/IEC 14496-12, 12.1.3)
    outcome, got = decoder.gather(bytes(data), WANTED)
    frames = got.frames()
    assert outcome.reason == "av.bomb" or (frames is not None and frames.pixels.shape[1:] == (48, 64, 3))


def test_frames_that_last_an_hour(decoder: AvDecoder) -> None:
    data = media.write(media.pan(0, 3), None, "mp4", times=[0.0, 3600.0, 3600.04])
    outcome, got = decoder.gather(data, WANTED)
    frames = got.frames(1)
    assert outcome.reason is None
    assert frames is not None
    assert len(frames.times_s) <= 3  # not two a second
    with AvDecoder(AvLimits(max_duration_s=60)) as strict:
        assert _refused(strict, data)[0] == "av.too_long"
        ogg = media.write(None, media.tone(61.0, rate=8000), "flac", rate=8000)
        cleared = bytearray(ogg)
        cleared[21:26] = bytes([cleared[21] & 0xF0]) + bytes(4)  # STREAMINFO: the number of samples is unknown
        assert _refused(strict, ogg)[0] == "av.too_long"
        assert _refused(strict, bytes(cleared))[0] == "av.too_long"


def test_audio_that_claims_a_year(decoder: AvDecoder) -> None:
    data = bytearray(media.small("flac", 0.5))
    data[21:26] = bytes([data[21] | 0x0F]) + b"\xff" * 4  # 2^36 samples
    assert _refused(decoder, bytes(data))[0] == "av.too_long"


def test_silence_that_unpacks_to_gigabytes_is_bounded_by_time(decoder: AvDecoder) -> None:
    zeros = np.zeros((8000 * 600, 1), np.float32)
    data = media.write(None, zeros, "flac", rate=8000)
    assert len(data) < len(zeros) * 2 / 50  # 10 minutes in 0.1 MB
    outcome, got = decoder.gather(data, Wanted(audio=(AudioTap(48_000),)), max_bytes=1_000_000)
    assert got.is_full
    assert got.samples() is None or len(got.samples().pcm) * 4 <= 1_000_000  # type: ignore[union-attr]
    assert outcome.audio_end_s == pytest.approx(600, abs=1)


def test_too_many_streams(decoder: AvDecoder) -> None:
    sink = io.BytesIO()
    with av.open(sink, "w", format="matroska") as out:
        streams = [out.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(40)]
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        for stream in streams:
            samples.sample_rate, samples.pts, samples.time_base = 8000, 0, Fraction(1, 8000)
            out.mux(stream.encode(samples))
    assert _refused(decoder, sink.getvalue())[0] == "av.bomb"


def test_codecs_beyond_the_allow_list(decoder: AvDecoder) -> None:
    found, detail = _refused(decoder, raw("prores_ks", "mov", 64, 48, 3, "yuv422p10le"))
    assert (found, detail) == ("av.codec_not_allowed", "prores")
    with AvDecoder(AvLimits(codecs=("aac",))) as strict:
        outcome, got = strict.gather(MP4, WANTED)
        assert outcome.reason is None
        assert got.frames() is None
        assert got.samples() is not None


def test_nothing_is_asked_of_the_network(decoder: AvDecoder) -> None:
    """A QuickTime file whose data lie elsewhere, and a playlist, that point at a server here: it sees no request."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1.0)

        def listen() -> None:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                return
            with connection:
                seen.append(connection.recv(1000))

        thread = threading.Thread(target=listen)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4".encode()
        dref = b"\0\0\0\x1cdref" + struct.pack(">II", 0, 1) + struct.pack(">I", 12) + b"url \0\0\0\x01"
        assert dref in MP4
        entry = b"url \0\0\0\0" + address + b"\0"
        referring = MP4.replace(dref[8:], struct.pack(">III", 0, 1, 4 + len(entry)) + entry)
        decoder.gather(referring, WANTED)
        decoder.gather(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + address + b"\n", WANTED)
        thread.join()
    assert seen == []


def _mass(num: int, seed: int) -> tuple[collections.Counter[str], int]:
    seeds = [media.small(kind, 0.6, seed=number) for number, kind in enumerate(media.CODECS)]
    counts: collections.Counter[str] = collections.Counter()
    with AvDecoder(AvLimits(timeout_s=60, stall_s=20)) as decoder:
        for number, data in enumerate(media.mutants(seeds, num, seed)):
            outcome, _ = decoder.gather(data, WANTED)
            code = verdict(outcome, GoodPart(min_s=0.2))[0]
            if number % 5 == 0:
                cut, cuts = decoder.cut(data, [(0.1, 0.5)], Cutting(container="matroska"))
                assert (cuts[0].body is None) == (cuts[0].reason is not None)
                assert cut.reason is None or reason(cut.reason)
            if code is not None:
                assert re.match(r"av\.", reason(code))
            counts[code or "ok"] += 1
        assert sum(counts.values()) == num
        return counts, len(decoder.fatal)


def test_mutants() -> None:
    counts, deaths = _mass(250, seed=1)
    assert counts["ok"] > 50
    assert counts["av.corrupt"] > 25
    assert deaths == 0


@pytest.mark.slow
def test_many_mutants() -> None:
    counts, deaths = _mass(10_000, seed=2)
    assert counts["ok"] > 2000
    assert counts["av.corrupt"] > 1000
    assert deaths <= 10, counts  # each has its code, and was tried twice; the others did not suffer
