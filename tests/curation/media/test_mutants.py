"""Thousands of malformed pictures through the child as a recipe runs it: each has a code or a picture, none is lost."""

import io
import sys
from collections import Counter

import pytest
from PIL import Image

from curation.media.decode import Decoder
from curation.media.image_output import ImageOutput
from curation.reasons import Reason
from tests.curation.media import pictures

NUM = 10_000
OUTPUT = ImageOutput(
    resize_mode="border",
    image_size=24,
    resize_only_if_bigger=False,
    keep_original_bytes=False,
    format="jpg",
    keep_exif=True,
)
CODES = {member.value for member in Reason if member.stage == "img"}


def check(num: int, seed: int, output: ImageOutput) -> Counter[str]:
    """Mutants and bombs, a good picture after every tenth; returns how often each code was given."""
    bombs = [
        *pictures.POISON,
        pictures.one_bit_bomb(30_000),
        pictures.many_frames_gif(1001),
        pictures.encode(Image.new("L", (16_000, 16_000)), "WEBP") if num >= NUM else b"RIFF",
        pictures.encode(Image.new("L", (16_000, 16_000)), "JPEG") if num >= NUM else b"\xff\xd8\xff",
    ]
    good = pictures.encode(pictures.photo(60, 40), "JPEG")
    codes: Counter[str] = Counter()
    with Decoder(output=output) as decoder:
        wanted = decoder.convert(good)
        assert wanted.reason is None
        for index, data in enumerate([*bombs, *pictures.mutants(num, seed)]):
            out = decoder.convert(data)
            codes[out.reason or "ok"] += 1
            assert out.reason is None or (out.reason in CODES and out.stored is None), out
            if out.reason is None and out.stored is not None:
                with Image.open(io.BytesIO(out.stored)) as image:
                    image.load()
                    assert (image.format, image.size) == (out.out_format, (out.out_width_px, out.out_height_px))
            if index % 10 == 0:
                assert decoder.convert(good) == wanted
        deaths = decoder.num_starts - 1
    assert sum(codes.values()) == num + len(bombs)
    assert deaths <= 2 * len(decoder.fatal), "a child died of something that no code stands for"
    codes["deaths"] = deaths
    return codes


def test_six_hundred_mutants_have_codes() -> None:
    codes = check(300, 1, OUTPUT) + check(300, 2, ImageOutput())
    assert codes["img.corrupt"] + codes["img.truncated"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("seed", [11, 12])
def test_ten_thousand_mutants_have_codes(seed: int) -> None:
    codes = check(NUM, seed, OUTPUT if seed == 11 else ImageOutput())
    print(dict(codes), file=sys.stderr)
    assert codes["deaths"] == 0
