"""What is stored of a picture: sizes and order of checks as img2dataset's, pixels near to a full decode, metadata."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from curation.media.decode import Decoded, Decoder
from curation.media.image_output import ImageOutput
from tests.curation.media import pictures

decoders: dict[ImageOutput, Decoder] = {}


@pytest.fixture(scope="module", autouse=True)
def _end_decoders() -> Iterator[None]:
    yield
    for each in decoders.values():
        each.close()


def convert(data: bytes, **fields: Any) -> Decoded:
    output = ImageOutput(**fields)
    if output not in decoders:
        decoders[output] = Decoder(output=output)
    return decoders[output].convert(data)


def opened(out: Decoded) -> Image.Image:
    assert out.reason is None, (out.reason, out.detail)
    assert out.stored is not None
    image = Image.open(io.BytesIO(out.stored))
    image.load()
    assert image.format == out.out_format
    assert image.size == (out.out_width_px, out.out_height_px)
    return image


def psnr(a: Any, b: Any) -> float:
    error = ((np.asarray(a).astype(float) - np.asarray(b).astype(float)) ** 2).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


SIZES = [
    # mode, only if bigger, original, as img2dataset 1.47 stores it (its Resizer was asked)
    ("no", False, (300, 200), (300, 200)),
    ("keep_ratio", False, (300, 200), (150, 100)),
    ("keep_ratio", False, (333, 200), (166, 100)),
    ("keep_ratio", False, (60, 90), (100, 150)),
    ("keep_ratio", True, (60, 90), (60, 90)),
    ("keep_ratio_largest", False, (300, 200), (100, 67)),
    ("keep_ratio_largest", True, (90, 60), (90, 60)),
    ("keep_ratio_largest", False, (90, 60), (100, 67)),
    ("center_crop", False, (300, 200), (100, 100)),
    ("center_crop", True, (300, 90), (300, 90)),
    ("border", False, (300, 200), (100, 100)),
    ("border", True, (90, 60), (90, 60)),
    ("border", False, (50, 40), (100, 100)),
]


@pytest.mark.parametrize(("mode", "only", "size", "expected"), SIZES)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_sizes_are_img2datasets(
    mode: str, only: bool, size: tuple[int, int], expected: tuple[int, int], format: str
) -> None:
    data = pictures.encode(pictures.photo(*size), format)
    out = convert(data, resize_mode=mode, image_size=100, resize_only_if_bigger=only)
    assert (out.width_px, out.height_px) == size
    assert (out.out_width_px, out.out_height_px) == expected
    if expected == size:
        assert out.stored is None  # nothing to change: the bytes as they came
    else:
        assert opened(out).size == expected


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"])
def test_pixels_are_near_to_img2datasets(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    resizer = pytest.importorskip("img2dataset.resizer")
    for width, height in ((300, 200), (199, 301), (640, 480), (90, 60), (57, 91), (1200, 801), (100, 100)):
        data = pictures.encode(pictures.photo(width, height), "PNG")
        theirs, w, h, *_, error = resizer.Resizer(100, mode, False, encode_format="png", encode_quality=6)(
            io.BytesIO(data)
        )
        assert error is None
        ours = convert(
            data, resize_mode=mode, image_size=100, resize_only_if_bigger=False, format="png", keep_original_bytes=False
        )
        assert opened(ours).size == (w, h)
        np.testing.assert_array_equal(np.asarray(opened(ours)), np.asarray(Image.open(io.BytesIO(theirs))))


def test_bars_and_crops_lie_in_the_middle() -> None:
    black = pictures.encode(Image.new("RGB", (200, 100)), "PNG")
    framed = np.asarray(opened(convert(black, resize_mode="border", image_size=101, format="png")))
    rows = (framed == 255).all(axis=(1, 2))
    assert rows.argmin() == 25  # 50 rows of picture, 25 above, 26 below
    assert rows[::-1].argmin() == 26
    split = Image.new("RGB", (300, 100))
    split.paste((255, 255, 255), (100, 0, 200, 100))
    middle = opened(convert(pictures.encode(split, "PNG"), resize_mode="center_crop", image_size=50, format="png"))
    assert np.asarray(middle).min() == 255


def test_a_scaled_decode_is_near_to_the_full_one() -> None:
    """The numbers over 5,000 collages are the benchmark's; these are drawn ones."""
    values = []
    for seed, (width, height) in enumerate(
        [(400, 300), (700, 520), (820, 600), (1024, 768), (1200, 900), (1600, 1200)]
    ):
        noisy = pictures.photo(width, height, seed).resize((width, height)).reduce(2).resize((width, height))
        data = pictures.encode(noisy, "JPEG", quality=85)
        out = opened(convert(data, resize_mode="keep_ratio", image_size=256, format="png"))
        full = Image.open(io.BytesIO(data)).convert("RGB").resize(out.size, Image.Resampling.BOX)
        values.append(psnr(out, full))
    assert np.median(values) >= 38
    assert min(values) >= 33


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_applied(orientation: int, format: str) -> None:
    image = Image.new("RGB", (200, 120), (250, 250, 250))
    image.paste((200, 0, 0), (0, 0, 60, 40))  # a corner tells the eight apart
    image.paste((0, 0, 200), (140, 0, 200, 40))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = pictures.encode(image, format, exif=exif, quality=95)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    out = convert(data, resize_mode="keep_ratio", image_size=60, format="png")
    assert (out.width_px, out.height_px) == upright.size
    small = opened(out)
    assert 0x0112 not in small.getexif()
    assert psnr(small, upright.resize(small.size, Image.Resampling.BOX)) > 30
    kept = convert(data)  # the bytes stay, and with them the tag
    assert (kept.out_width_px, kept.out_height_px) == upright.size
    stored = ImageOps.exif_transpose(Image.open(io.BytesIO(kept.stored or data)))
    np.testing.assert_array_equal(np.asarray(stored.convert("RGB")), np.asarray(upright))


def test_alpha_is_laid_on_white_and_grey_stays_grey() -> None:
    clear = Image.new("RGBA", (80, 60), (10, 20, 30, 0))
    out = opened(convert(pictures.encode(clear, "PNG"), resize_mode="keep_ratio", image_size=30))
    assert (out.mode, np.asarray(out).min()) == ("RGB", 255)
    named = opened(convert(pictures.encode(clear, "PNG"), format="png"))  # right format, but not flat
    assert (named.mode, np.asarray(named).min()) == ("RGB", 255)
    assert convert(pictures.encode(clear, "PNG")).stored is None
    for format in ("JPEG", "PNG"):
        grey = pictures.encode(pictures.photo(200, 150).convert("L"), format)
        assert opened(convert(grey, resize_mode="keep_ratio", image_size=64)).mode == "L"


def test_checks_come_in_img2datasets_order() -> None:
    limits = {"min_image_size": 50, "max_image_area": 10_000, "max_aspect_ratio": 2.0}
    sized = {
        size: pictures.encode(pictures.photo(*size), "PNG") for size in [(400, 40), (400, 100), (190, 50), (90, 60)]
    }
    assert convert(sized[400, 40], **limits).reason == "img.too_small"
    assert convert(sized[400, 100], **limits).reason == "img.too_large"
    assert convert(sized[190, 50], **limits).reason == "img.aspect"
    fine = convert(sized[90, 60], **limits)
    assert (fine.reason, fine.stored) == (None, None)


def test_animations() -> None:
    data = pictures.valid()["gif_animated"]
    assert convert(data, animated="refuse").reason == "img.animated"
    assert convert(data).stored is None
    first = opened(convert(data, format="png"))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    resized = convert(data, resize_mode="keep_ratio", image_size=10)
    assert (resized.format, resized.out_format, opened(resized).size) == ("GIF", "PNG", (10, 10))


@pytest.mark.parametrize("format", ["jpg", "png", "webp"])
def test_formats_quality_and_determinism(format: str) -> None:
    data = pictures.encode(pictures.photo(300, 200), "JPEG")
    low, high = (convert(data, format=format, quality=q, keep_original_bytes=False) for q in (40, 95))
    assert psnr(opened(high), Image.open(io.BytesIO(data))) > 30
    assert low.stored is not None
    assert high.stored is not None
    assert len(low.stored) < len(high.stored) or format == "png"
    with Decoder(output=ImageOutput(format=format, keep_original_bytes=False)) as other:
        assert other.convert(data).stored == high.stored


def with_metadata(format: str) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "MakerOfCameras"
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x927C] = b"secret maker note"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 30.0), 3: "E", 4: (16.0, 22.0, 1.0)})
    extra: dict[str, Any] = {"xmp": b"<x:xmpmeta>here 48.2N</x:xmpmeta>"} if format != "PNG" else {}
    return pictures.encode(pictures.photo(90, 60), format, exif=exif, **extra)


def gps_of(data: bytes) -> dict[int, Any]:
    return dict(Image.open(io.BytesIO(data)).getexif().get_ifd(0x8825))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("change", [{}, {"resize_mode": "keep_ratio", "image_size": 30}])
def test_position_is_never_stored_unless_asked_for(format: str, change: dict[str, Any]) -> None:
    data = with_metadata(format)
    assert gps_of(data)
    plain, with_exif, with_gps = (
        convert(data, **change, **keep) for keep in ({}, {"keep_exif": True}, {"keep_gps": True})
    )
    assert (plain.width_px, plain.height_px) == (60, 90)
    for out in (plain, with_exif):
        assert out.stored is not None
        assert not gps_of(out.stored)
        for secret in (b"secret", b"48.2N"):
            assert secret not in out.stored
    assert plain.stored is not None
    assert b"MakerOfCameras" not in plain.stored
    assert with_exif.stored is not None
    assert Image.open(io.BytesIO(with_exif.stored)).getexif()[0x010F] == "MakerOfCameras"
    assert gps_of(with_gps.stored or data) == gps_of(data)
    if not change:
        same = np.asarray(Image.open(io.BytesIO(plain.stored)).convert("RGB"))
        np.testing.assert_array_equal(same, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert with_gps.stored is None


def test_what_lies_behind_a_jpeg_goes_with_its_metadata() -> None:
    hidden = with_metadata("JPEG") + with_metadata("JPEG")
    out = convert(hidden)
    assert out.stored is not None
    assert b"MakerOfCameras" not in out.stored
    assert out.stored.endswith(b"\xff\xd9")


def test_a_gif_loses_its_xmp() -> None:
    still = pictures.valid()["gif"]
    at = 13 + (3 << (still[10] & 7) + 1)
    packet = b"<x:xmpmeta>48.2N</x:xmpmeta>"
    block = b"\x21\xff\x0bXMP DataXMP" + packet + b"\x01" + bytes(range(255, -1, -1)) + b"\0"
    out = convert(still[:at] + block + still[at:])
    assert out.stored == still


def test_a_file_that_cannot_be_followed_is_encoded_anew() -> None:
    data = with_metadata("WEBP")
    broken = data[:4] + (len(data) + 92).to_bytes(4, "little") + data[8:] + b"EXIF" + (90).to_bytes(4, "little") + b"48"
    out = convert(broken)
    if out.reason is None:
        assert out.stored is not None
        assert not gps_of(out.stored)
        assert b"secret" not in out.stored


def test_a_cut_jpeg_is_not_filled_up_with_grey() -> None:
    data = pictures.encode(pictures.photo(400, 300), "JPEG")
    for cut in (data[: len(data) // 2], data[:-2000]):
        assert convert(cut, resize_mode="keep_ratio", image_size=64).reason == "img.truncated"
    cmyk = pictures.encode(pictures.photo(400, 300).convert("CMYK"), "JPEG")
    assert opened(convert(cmyk, resize_mode="keep_ratio", image_size=64)).mode == "RGB"


def test_poison_and_bombs_are_harmless_to_the_resizing_child() -> None:
    output = ImageOutput(resize_mode="keep_ratio", image_size=64)
    bombs = [pictures.one_bit_bomb(30_000), pictures.many_frames_gif(1001), b"", b"\xff\xd8\xff"]
    huge = bytearray(pictures.encode(pictures.photo(64, 64), "JPEG"))
    frame = huge.index(b"\xff\xc0")
    huge[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"  # a JPEG of 65,535 x 65,535 by its header
    with Decoder(output=output) as decoder:
        for data in [*bombs, bytes(huge)]:
            assert decoder.convert(data).reason is not None
        for data in pictures.POISON:  # of which OpenCV and torchvision die; Pillow may make a picture of it
            assert decoder.convert(data).reason in {None, "img.corrupt", "img.truncated"}
        assert decoder.num_starts == 1
        assert decoder._child is not None
        status = Path(f"/proc/{decoder._child._process.pid}/status")
        if status.exists():
            assert int(status.read_text().split("VmHWM:")[1].split()[0]) < 200_000
