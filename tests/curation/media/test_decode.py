import hashlib
import io
import os
import signal
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from curation.media.decode import Decoded, DecodeLimits, Decoder
from curation.reasons import Reason
from tests.curation.media import pictures


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as it:
        yield it


@pytest.mark.parametrize("name", sorted(pictures.valid()))
def test_valid_pictures(decoder: Decoder, name: str) -> None:
    data = pictures.valid()[name]
    out = decoder.decode(data)
    reference = Image.open(io.BytesIO(data))
    assert out.reason is None
    assert out.format == reference.format
    assert (out.width_px, out.height_px) == reference.size
    assert out.num_frames == getattr(reference, "n_frames", 1)
    assert out.has_alpha == (name in {"png_rgba", "webp_lossless"})
    assert out.pixels is not None
    assert out.pixels.dtype == np.uint8
    assert out.pixels.shape == (reference.size[1], reference.size[0], 3)
    if not out.has_alpha:
        np.testing.assert_array_equal(out.pixels, np.asarray(reference.convert("RGB")))
    header_only = decoder.decode(data, pixels=False)
    assert header_only.pixels is None
    assert header_only == Decoded(out.format, out.width_px, out.height_px, out.num_frames, out.has_alpha)


def test_a_tracking_pixel_is_no_picture(decoder: Decoder) -> None:
    out = decoder.decode(pictures.encode(Image.new("RGB", (1, 1)), "PNG"))
    assert (out.reason, out.width_px, out.pixels) == ("img.too_small", 1, None)


def test_alpha_is_laid_on_white(decoder: Decoder) -> None:
    rgba = np.zeros((4, 6, 4), np.uint8)  # black, of three opacities
    rgba[:, :, 3] = [0, 128, 255] * 2
    grey = Image.new("RGB", (4, 4), (10, 20, 30))
    out = decoder.decode(pictures.encode(Image.fromarray(rgba), "PNG"))
    assert out.has_alpha
    assert out.pixels is not None
    np.testing.assert_array_equal(out.pixels[0, :3, 0], [255, 127, 0])
    keyed = decoder.decode(pictures.encode(grey, "PNG", transparency=(10, 20, 30)))  # one colour means: nothing there
    assert keyed.has_alpha
    assert keyed.pixels is not None
    assert (keyed.pixels == 255).all()
    still = Image.new("P", (4, 4), 1)
    still.putpalette([0, 0, 0, 200, 0, 0])
    gif = decoder.decode(pictures.encode(still, "GIF", transparency=1))
    assert gif.pixels is not None
    assert (gif.pixels == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(decoder: Decoder, orientation: int) -> None:
    from PIL import ImageOps

    image = pictures.photo(64, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for format in ("PNG", "JPEG"):
        data = pictures.encode(image, format, exif=exif)
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        out = decoder.decode(data)
        assert (out.width_px, out.height_px) == upright.size
        assert out.pixels is not None
        np.testing.assert_array_equal(out.pixels, np.asarray(upright))
        assert decoder.decode(data, pixels=False).width_px == out.width_px


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_shrinking(decoder: Decoder, format: str) -> None:
    image = pictures.photo(1200, 900)
    data = pictures.encode(image, format)
    full = decoder.decode(data, short_side_px=2000).pixels
    assert full is not None
    assert full.shape == (900, 1200, 3)  # never enlarged
    small, again = decoder.decode(data, short_side_px=96), decoder.decode(data, short_side_px=96)
    assert (small.width_px, small.height_px) == (1200, 900)
    assert small.pixels is not None
    assert again.pixels is not None
    assert small.pixels.shape == (96, 128, 3)
    np.testing.assert_array_equal(small.pixels, again.pixels)
    ideal = np.asarray(image.resize((128, 96), Image.Resampling.BOX)).astype(float)
    error = ((small.pixels - ideal) ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 38  # antialiased: the noise is averaged away, not sampled


def test_sixteen_bit_grey_is_scaled(decoder: Decoder) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, 0)
    out = decoder.decode(pictures.encode(Image.fromarray(ramp), "PNG"))
    assert out.pixels is not None
    np.testing.assert_array_equal(out.pixels[0, :, 0], ramp[0] >> 8)


SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
JPEG, PNG = pictures.encode(pictures.photo(200, 150), "JPEG"), pictures.encode(pictures.photo(200, 150), "PNG")
ZTXT = pictures.chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 27)))
BAD = {
    "empty": (b"", "img.not_image"),
    "html": (b"<!doctype html><html><body>Please sign in</body></html>", "img.not_image"),
    "json": (b'{"error": "not found"}', "img.not_image"),
    "pdf": (b"%PDF-1.7\n", "img.not_image"),
    "mp4": (b"\0\0\0\x18ftypmp42" + b"\0" * 64, "img.not_image"),
    "svg": (SVG, "img.format_not_allowed"),
    "bmp": (pictures.encode(pictures.photo(8, 8), "BMP"), "img.format_not_allowed"),
    "tiff": (pictures.encode(pictures.photo(8, 8), "TIFF"), "img.format_not_allowed"),
    "ico": (pictures.encode(pictures.photo(16, 16), "ICO"), "img.format_not_allowed"),
    "jpeg cut": (JPEG[: len(JPEG) // 2], "img.truncated"),
    "jpeg header only": (JPEG[:100], "img.truncated"),
    "png cut": (PNG[: len(PNG) // 2], "img.truncated"),
    "png magic only": (PNG[:8], "img.truncated"),
    "webp cut": (pictures.encode(pictures.photo(200, 150), "WEBP")[:-400], "img.truncated"),
    "gif cut": (pictures.encode(pictures.photo(200, 150), "GIF")[:2000], "img.truncated"),
    "png bad crc": (PNG[:20] + b"\xff" + PNG[21:], "img.corrupt"),
    "30000 x 30000": (pictures.one_bit_bomb(30_000), "img.bomb_pixels"),
    "header liar": (pictures.png(30_000, 30_000, 8, 6, zlib.compress(b"0123456789")), "img.bomb_pixels"),
    "webp liar": (b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3e\0\xff\x3e\0", "img.bomb_pixels"),
    "zTXt bomb": (pictures.png(1, 1, 8, 0, zlib.compress(b"\0\0"), ZTXT), "img.bomb_bytes"),
    "1001 frames": (pictures.many_frames_gif(1001), "img.bomb_frames"),
    "21 to 1": (pictures.encode(pictures.photo(210, 10), "PNG"), "img.aspect"),
    "IDAT length": (pictures.POISON[0], None),  # opencv 4.14: 4.1 GB
    "torchvision's end": (pictures.POISON[1], None),  # torchvision 0.29.1: SIGSEGV
}


@pytest.mark.parametrize("name", list(BAD))
@pytest.mark.parametrize("pixels", [True, False])
def test_bad_pictures(decoder: Decoder, name: str, pixels: bool) -> None:
    data, reason = BAD[name]
    starts = decoder.num_starts
    out = decoder.decode(data, short_side_px=64, pixels=pixels)
    if reason is None:
        assert out.reason in {None, "img.corrupt", "img.truncated"}
    else:
        assert out.reason is not None
        assert out.reason.startswith(reason)
        assert out.pixels is None
    assert out.detail is None or len(out.detail) <= 200
    assert decoder.num_starts == starts, "the child must survive all of these"


def test_bomb_costs_no_memory(decoder: Decoder) -> None:
    decoder.decode(JPEG)
    assert decoder.decode(pictures.one_bit_bomb(30_000)).width_px == 30_000
    assert decoder._child is not None
    if sys.platform == "linux":
        status = Path(f"/proc/{decoder._child._process.pid}/status").read_text()
        peak_kb = int(status.split("VmHWM:")[1].split()[0])
        assert peak_kb < 512 * 1024


def test_memory_limit_is_a_row_error() -> None:
    if sys.platform == "darwin":
        pytest.skip("macOS does not enforce RLIMIT_AS")
    with Decoder(DecodeLimits(max_memory_bytes=200_000_000)) as decoder:
        big = pictures.png(7000, 7000, 8, 2, zlib.compress(bytes(7000 * 21001), 1))
        assert decoder.decode(big).reason == "img.decoder_memory"
        assert decoder.decode(JPEG).reason is None
        assert decoder.num_starts == 1


def test_three_hundred_mutants_lose_no_row() -> None:
    codes = {member.value for member in Reason if member.stage == "img"}
    mutants = list(pictures.mutants(300, seed=20261122))
    good = decoder_pixels(JPEG)
    with Decoder() as decoder:
        outs = [decoder.decode(data) for mutant in mutants for data in (mutant, JPEG)]
    assert len(outs) == 600
    for out in outs[1::2]:
        assert out.reason is None
        assert out.pixels is not None
        np.testing.assert_array_equal(out.pixels, good)
    refused = [out.reason for out in outs[::2] if out.reason is not None]
    assert set(refused) <= codes
    assert len(refused) > 100
    assert all((out.pixels is None) != (out.reason is None) for out in outs)


def decoder_pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def stop_child(decoder: Decoder, sig: signal.Signals) -> None:
    assert decoder._child is not None
    os.kill(decoder._child._process.pid, sig)


def test_a_killed_child_loses_nothing() -> None:
    datas = [pictures.encode(pictures.photo(64 + i, 48), "PNG") for i in range(40)]
    with Decoder() as decoder:
        undisturbed = [decoder.decode(data) for data in datas]
        disturbed = []
        for i, data in enumerate(datas):
            if i % 10 == 5:
                stop_child(decoder, signal.SIGKILL)
            disturbed.append(decoder.decode(data))
        assert decoder.num_starts == 5
        assert decoder.fatal == {}
    for a, b in zip(undisturbed, disturbed, strict=True):
        assert b.reason is None
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_bytes_that_kill_twice_are_tried_no_more() -> None:
    """A picture that takes 0.3 s and a limit of 20 ms stand for one that never ends."""
    slow = pictures.png(6000, 6000, 8, 2, zlib.compress(bytes(6000 * 18001), 1))
    with Decoder(DecodeLimits(timeout_s=0.02)) as decoder:
        out = decoder.decode(slow)
        assert out.reason == "img.decoder_timeout"
        assert decoder.num_starts == 2
        assert decoder.decode(slow) == out  # a copy gets the same verdict, untried
        assert decoder.decode(b"no picture").reason == "img.not_image"
        assert decoder.num_starts == 3
        assert list(decoder.fatal) == [hashlib.sha256(slow).hexdigest()]
        digests = list(decoder.fatal)
    with Decoder(quarantine=digests) as later:
        assert later.decode(slow).reason == "img.quarantined"
        assert later.decode(JPEG).reason is None


def test_a_decoder_that_cannot_start_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="does not start"), Decoder() as decoder:
        decoder.decode(JPEG)


def test_timeout_of_a_stopped_child_is_healed_by_the_second_try() -> None:
    with Decoder(DecodeLimits(timeout_s=0.3)) as decoder:
        assert decoder.decode(JPEG).reason is None
        stop_child(decoder, signal.SIGSTOP)
        start = time.monotonic()
        out = decoder.decode(JPEG)
        assert 0.25 < time.monotonic() - start < 5
        assert out.reason is None
        assert decoder.num_starts == 2


def test_threads_take_turns(decoder: Decoder) -> None:
    datas = [pictures.encode(pictures.photo(32 + i, 32), "PNG") for i in range(24)]
    widths: dict[int, int | None] = {}

    def work(indices: range) -> None:
        for i in indices:
            widths[i] = decoder.decode(datas[i]).width_px

    threads = [threading.Thread(target=work, args=(range(k, 24, 4),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert widths == {i: 32 + i for i in range(24)}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_child_has_given_up_its_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    with Decoder() as fresh:
        fresh.decode(JPEG)
        assert fresh._child is not None
        pid = fresh._child._process.pid
        assert b"canary" not in Path(f"/proc/{pid}/environ").read_bytes()
        limits = Path(f"/proc/{pid}/limits").read_text()
        for line in ("Max core file size 0 0", "Max file size 0 0", "Max open files 16 16"):
            assert line in " ".join(limits.split())
        assert "Max address space 1500000000 1500000000" in " ".join(limits.split())
        assert os.getsid(pid) == pid
        assert len(os.listdir(f"/proc/{pid}/fd")) == 4  # with that of the memory it shares
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # gone with its decoder, and reaped


def test_starts_fast() -> None:
    before = os.times()
    with Decoder() as decoder:
        decoder.decode(b"")
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.3


def test_nonsense_from_the_child_is_a_death() -> None:
    """A decoder taken over by its input may answer anything; the parent must not reserve what it claims."""
    with Decoder() as decoder:
        decoder.decode(JPEG)
        assert decoder._child is not None
        child = decoder._child
        read_end, write_end = os.pipe()
        os.write(write_end, struct.pack("<IQ", 10, 1 << 60) + b'{"x": 1}  ')
        child._out = read_end
        assert decoder.decode(JPEG).reason is None  # the nonsense ended the first child; the second answered
        assert decoder.num_starts == 2
        os.close(read_end)
