"""Views: several sizes of a picture from one decoding, each a function of the bytes alone."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from curation.media import shared_pages
from curation.media.decode import Decoder
from curation.media.decoded import Decoded, DecodeLimits, View
from curation.media.views import DecodePool, ViewDecoder


def picture(width: int, height: int, kind: str = "JPEG", seed: int = 0, **options: object) -> bytes:
    """Smooth colours with some detail, so that sizes can be compared."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.fixture(scope="module")
def decoder() -> Iterator[ViewDecoder]:
    with ViewDecoder() as it:
        yield it


def shown(decoded: Decoded) -> list[np.ndarray]:
    assert decoded.views is not None, decoded
    return [np.array(view) for view in decoded.views]


SHAPES = [("JPEG", 1600, 1200), ("JPEG", 700, 900), ("PNG", 1600, 1200), ("WEBP", 500, 1300), ("JPEG", 150, 100)]


@pytest.mark.parametrize(("kind", "width", "height"), SHAPES)
def test_views_are_near_to_a_full_decode(decoder: ViewDecoder, kind: str, width: int, height: int) -> None:
    data = picture(width, height, kind)
    decoded = decoder.views(data, [View(256), View(224, exact=False), View(256)])
    exact, rough, again = shown(decoded)
    assert (decoded.reason, decoded.format, decoded.width_px, decoded.height_px) == (None, kind, width, height)
    assert min(exact.shape[:2]) == min(256, width, height)
    assert np.array_equal(exact, again)
    assert min(width, height, 1.25 * 224) <= min(rough.shape[:2]) < max(4 * 224, 1)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    for view in (exact, rough):
        wanted = whole.resize((view.shape[1], view.shape[0]), Image.Resampling.BOX)
        error = np.abs(view.astype(float) - np.asarray(wanted, float)).mean()
        assert error < 3.0, (view.shape, error)


def test_a_view_does_not_depend_on_what_else_is_asked_for(decoder: ViewDecoder) -> None:
    data = picture(1300, 800)
    asked = [View(512), View(224, exact=False), View(64), View(64, exact=False)]
    together = shown(decoder.views(data, asked))
    for view, pixels in zip(asked, together, strict=True):
        assert np.array_equal(shown(decoder.views(data, [view]))[0], pixels)


def test_turned_pictures_are_upright_in_every_view(decoder: ViewDecoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = picture(900, 600, exif=exif.tobytes())
    decoded = decoder.views(data, [View(300), View(100, exact=False)])
    exact, rough = shown(decoded)
    assert (decoded.width_px, decoded.height_px) == (600, 900)
    assert exact.shape == (450, 300, 3)
    assert rough.shape[0] > rough.shape[1]
    full = decoder.decode(data).pixels
    assert full is not None
    wanted = Image.fromarray(full).resize((300, 450), Image.Resampling.BOX)
    assert np.abs(exact.astype(float) - np.asarray(wanted, float)).mean() < 3.0


def test_what_cannot_be_decoded_has_the_reason_of_the_plain_decoder(decoder: ViewDecoder) -> None:
    whole = picture(300, 200)
    for data in (b"", b"<html>", whole[: len(whole) // 2], picture(200, 3, "PNG"), picture(300, 200, "BMP")):
        with Decoder() as plain:
            assert decoder.views(data, [View()]).reason == plain.decode(data).reason is not None
        assert decoder.views(data, [View()]).views is None


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_pictures_of_other_colours(decoder: ViewDecoder, mode: str) -> None:
    kind = "JPEG" if mode in ("L", "CMYK") else "PNG"
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(640, 480, "PNG"))).convert(mode).save(buffer, kind)
    (view,) = shown(decoder.views(buffer.getvalue(), [View(512)]))
    full = decoder.decode(buffer.getvalue()).pixels
    assert full is not None
    assert np.abs(view.astype(float) - full).mean() < 2.0


def test_large_answers_pass_the_pipe_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    data = picture(1000, 700)
    with ViewDecoder() as shared:
        wanted = shown(shared.views(data, [View(512), View(300, exact=False)]))
    monkeypatch.setattr("curation.media.child.OUT_BYTES", 4096)
    monkeypatch.setattr(shared_pages, "OUT_BYTES", 4096)
    with ViewDecoder() as narrow:
        found = shown(narrow.views(data, [View(512), View(300, exact=False)]))
    assert all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_pixels_decoded_straight_to_shared_memory_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG's only view is decoded to where the answer lies; with another beside it, or without room, it is copied."""
    datas = [picture(900, 640), picture(900, 640, "PNG"), picture(640, 900), picture(900, 640)[:-300]]

    def is_beside(decoder: ViewDecoder, others: list[View]) -> list[bytes | None]:
        found = decoder.views_of_several(datas, [View(300, exact=False), *others])
        return [each.views and each.views[0].tobytes() for each in found]

    with ViewDecoder() as decoder:
        wanted = is_beside(decoder, [View(64)])
        assert [each is None for each in wanted] == [False, False, False, True]
        assert is_beside(decoder, []) == wanted
    monkeypatch.setattr("curation.media.child.OUT_BYTES", 2_000_000)  # for one of them, 1.7 MB
    monkeypatch.setattr(shared_pages, "OUT_BYTES", 2_000_000)
    with ViewDecoder() as narrow:
        assert is_beside(narrow, []) == wanted


def test_a_pool_keeps_the_order_and_isolates_poison() -> None:
    datas: list[bytes | None] = [picture(40 + n, 40, "PNG", seed=n) for n in range(30)]
    datas[3], datas[7] = None, b"no picture"
    threads: set[int] = set()

    def prepare(decoded: Decoded) -> int:
        threads.add(threading.get_ident())
        return decoded.width_px or 0

    with DecodePool(2, DecodeLimits()) as pool:
        found = list(pool.map(datas, [View(32)], prepare, ahead=4))
        assert found == [None if n in (3, 7) else 40 + n for n in range(30)]
        assert threading.get_ident() not in threads
        half = pool.map(datas, [View(32)], prepare, ahead=2)
        assert next(half) == 40
        half.close()  # taken by nobody: the pool still works
        assert list(pool.map(datas[:2], [View(32)], prepare, ahead=2)) == [40, 41]


def test_several_at_once_are_as_each_alone(decoder: ViewDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [picture(900, 640), picture(200, 150, "PNG"), b"<html>", picture(64, 60, "WEBP"), picture(1300, 800)[:-300]]
    wanted = [View(300), View(40, exact=False), View(300)]
    alone = [(each.reason, each.views and shown(each)) for each in (decoder.views(data, wanted) for data in kinds)]

    def is_alone(with_what: ViewDecoder) -> bool:
        for data, (reason, views) in zip(with_what.views_of_several(kinds, wanted), alone, strict=True):
            if data.reason != reason or (views is None) != (data.views is None):
                return False
            if views is not None and not all(map(np.array_equal, shown(data), views)):
                return False
        return True

    assert is_alone(decoder)
    monkeypatch.setattr("curation.media.child.OUT_BYTES", 500_000)  # the last ones find no room
    monkeypatch.setattr(shared_pages, "OUT_BYTES", 500_000)
    with ViewDecoder() as narrow:
        assert is_alone(narrow)
