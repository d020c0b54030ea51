"""A JPEG whose header is read without Pillow ends as if Pillow had read it, whatever is wrong with it."""

import dataclasses
import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from curation.media.decoded import DecodeLimits
from curation.media.image_output import ImageOutput

HERE = Path(__file__).parent
MEDIA = HERE.parents[2] / "curation" / "media"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pictures, child = load(HERE / "pictures.py"), load(MEDIA / "decode_child.py")


@pytest.fixture(autouse=True, scope="module")
def _codecs() -> Iterator[None]:
    """What a child loads at its start; Pillow's own limit, which it lifts, comes back for other tests."""
    limit = Image.MAX_IMAGE_PIXELS
    child.load_codecs(True)
    yield
    Image.MAX_IMAGE_PIXELS = limit


def limits(**output: Any) -> dict[str, Any]:
    return {**dataclasses.asdict(DecodeLimits()), "output": ImageOutput(**output).model_dump()}


SMALLER = limits(resize_mode="keep_ratio", image_size=60, keep_original_bytes=False)
PHOTO = pictures.photo(200, 150)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return bytes(pictures.encode(PHOTO, "JPEG", exif=exif))


PLAIN = {
    "baseline": pictures.encode(PHOTO, "JPEG"),
    "progressive": pictures.encode(PHOTO, "JPEG", progressive=True, quality=90),
    "4:4:4": pictures.encode(PHOTO, "JPEG", subsampling=0, optimize=True),
    "grey": pictures.encode(PHOTO.convert("L"), "JPEG"),
    "a comment, a profile, restarts": pictures.encode(
        PHOTO, "JPEG", comment=b"x" * 300, icc_profile=b"y" * 70_000, restart_marker_rows=1
    ),
}
OTHER = {
    "four inks": pictures.encode(PHOTO.convert("CMYK"), "JPEG"),
    "turned": turned(),
    "no JPEG": pictures.encode(PHOTO, "PNG"),
    "cut in its header": PLAIN["baseline"][:170],
}


ASKED = b"[[60, true], [40, false]]"


def as_it_is(data: bytes, given: dict[str, Any]) -> Any:
    """What is stored of it, and two views."""
    seen, made = child.decode(data, ASKED, child.serving.VIEWS, None, given)
    return child.decode(data, 0, child.serving.STORED, None, given), seen, [each.tobytes() for each in made]


def as_pillow_would(data: bytes, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(child.header, "plain_jpeg", lambda _: None)
        return as_it_is(data, given)


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
@pytest.mark.parametrize(
    "output",
    [
        SMALLER,
        limits(resize_mode="border", image_size=230, resize_only_if_bigger=False, format="webp"),
        limits(resize_mode="center_crop", image_size=90, max_aspect_ratio=1.2),
        limits(),
    ],
)
def test_what_is_stored_is_the_same(name: str, output: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = (PLAIN | OTHER)[name]
    assert (child.header.plain_jpeg(data) is not None) == (name in PLAIN)
    assert as_it_is(data, output) == as_pillow_would(data, output, monkeypatch)


def test_so_it_is_of_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, num_plain, reasons = random.Random(11), 0, set()
    for number in range(600):
        data = bytearray(rng.choice(list(PLAIN.values())))
        at = rng.randrange(2, 700)
        if number % 4 == 0:
            data[at] = rng.randrange(256)
        elif number % 4 == 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 20))
        elif number % 4 == 2:
            del data[at : at + rng.randrange(1, 20)]
        else:
            del data[rng.randrange(2, len(data)) :]
        num_plain += child.header.plain_jpeg(bytes(data)) is not None
        answer = as_it_is(bytes(data), SMALLER)
        assert answer == as_pillow_would(bytes(data), SMALLER, monkeypatch)
        reasons.add(answer[0][0].get("reason"))
    assert num_plain > 200
    assert {None, "img.corrupt", "img.truncated"} <= reasons
