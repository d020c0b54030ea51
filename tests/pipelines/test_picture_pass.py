"""One pass over a part's pictures, and the canary of a store."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from curation.media.decode import DecodeLimits
from curation.media.decoded import Decoded, View
from curation.media.views import ViewDecoder
from curation.schema import MEDIA
from curation.signal import Image, ImageSignal
from curation.table import write_part
from pipelines import canary, picture_pass
from pipelines.canary import CanaryFailed, check_canaries
from pipelines.picture_pass import from_pictures


class Mean(ImageSignal):
    """The mean of all values, of a view that the test chooses, perhaps made ahead of time."""

    name: str
    side: int = 64
    ahead: bool = False
    bias: float = 0.0
    prepares: ClassVar[bool] = False

    def table_name(self) -> str:
        return self.name

    def view(self) -> View:
        return View(self.side)

    def writes(self) -> pa.Schema:
        return pa.schema({self.name: pa.float32()})

    def needs_model(self) -> bool:
        return True

    def of_images(self, images: Sequence[Image | None]) -> dict[str, list[float | None]]:  # type: ignore[override]
        return {self.name: [None if image is None else float(image.mean()) + self.bias for image in images]}


class Prepared(Mean):
    """The same of a smaller copy."""

    prepares: ClassVar[bool] = True

    def prepare(self, image: Image, height_px: int, width_px: int) -> Image:
        assert (height_px, width_px) == (90, 120)
        return np.ascontiguousarray(image[::4, ::4])


def part(folder: Path, num: int) -> Path:
    rows = []
    for n in range(num):
        buffer = io.BytesIO()
        PillowImage.new("RGB", (120, 90), (n, 2 * n, 100)).save(buffer, "PNG")
        data = [buffer.getvalue(), None, b"broken"][0 if n % 5 else n % 3]
        rows.append(dict.fromkeys(MEDIA.names) | {"media_uid": f"m{n}", "bytes": data})
    return write_part(folder, 0, "ab" * 32, pa.Table.from_pylist(rows, schema=MEDIA)).path


@pytest.mark.parametrize("num", [0, 1, 64, 70])
def test_every_signal_sees_every_picture_once_in_order(tmp_path: Path, num: int) -> None:
    path = part(tmp_path, num)
    signals = [Mean(name="a"), Mean(name="b", side=32), Prepared(name="c")]
    found = from_pictures(path, signals, DecodeLimits(), 2)
    expected = [n + 100 / 3 if n % 5 or not n % 3 else None for n in range(num)]
    assert set(found) == {"a", "b", "c"}
    for table in found.values():
        assert table.column(0).to_pylist() == pytest.approx(expected, abs=0.01)
    assert from_pictures(path, [], DecodeLimits(), 2) == {}


def test_each_picture_is_decoded_once_for_all_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six signals of four sizes, two of the bytes: one reading of the column and one request for each picture."""
    path = part(tmp_path, 20)
    asked: list[tuple[int, int]] = []
    read: list[int] = []
    several, one_at_a_time = ViewDecoder.views_of_several, picture_pass.Lazily.__getitem__

    def counted(decoder: ViewDecoder, items: Sequence[bytes], wanted: Sequence[View]) -> Iterator[Decoded]:
        asked.extend((hash(item), len(wanted)) for item in items)
        return several(decoder, items, wanted)

    def taken(column: picture_pass.Lazily, at: int) -> bytes | None:
        read.append(at)
        return one_at_a_time(column, at)

    monkeypatch.setattr(ViewDecoder, "views_of_several", counted)
    monkeypatch.setattr(picture_pass.Lazily, "__getitem__", taken)
    signals = [Mean(name="a"), Mean(name="b", side=32), Mean(name="c"), Prepared(name="d"), Mean(name="e", side=16)]
    found = from_pictures(path, [*signals, Mean(name="f", side=8)], DecodeLimits(), 2)
    assert len(found) == 6
    num = sum(1 for n in range(20) if n % 5 or n % 3 != 1)
    assert asked == [(key, 6) for key, _ in asked]
    assert len(asked) == num
    assert sorted(read) == list(range(20))


def test_a_jpeg_is_opened_once_and_decoded_once_at_each_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    import simplejpeg

    from curation.media import views_child

    with io.BytesIO() as file:
        PillowImage.fromarray(np.random.default_rng(0).integers(0, 256, (1200, 1600, 3), np.uint8)).save(file, "JPEG")
        data = file.getvalue()
    scales: list[int] = []
    plainly = simplejpeg.decode_jpeg

    def counted(data: bytes, kind: str, min_height: int, min_width: int, buffer: None) -> np.ndarray:
        scales.append(1200 // min_height)
        pixels: np.ndarray = plainly(data, kind, min_height=min_height, min_width=min_width)
        return pixels

    class Making:
        """What the child hands its views to."""

        @staticmethod
        def resize(pixels: np.ndarray, target: tuple[int, int], *_: object) -> np.ndarray:
            return np.asarray(PillowImage.fromarray(pixels).resize(target))

        @staticmethod
        def turn(pixels: np.ndarray, _: int) -> np.ndarray:
            return pixels

    def whole() -> None:
        raise AssertionError("a sound JPEG is not given to Pillow")

    monkeypatch.setattr(simplejpeg, "decode_jpeg", counted)
    source = views_child.Source(data, (1600, 1200), True, whole, Making)
    out: dict[str, object] = {}
    views_child.answer(source, [[512, True]] * 5 + [[512, True], [500, True], [224, False]], 1, Making, out)
    assert scales == [1, 4]  # 512 and 500 pixels from one decoding, a model's square from the smallest that serves it


def test_signals_that_prepare_take_larger_batches_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = part(tmp_path, 20)
    whole = from_pictures(path, [Prepared(name="c")], DecodeLimits(), 1)["c"]
    monkeypatch.setattr(picture_pass, "AT_A_TIME_PREPARED", 3)
    assert from_pictures(path, [Prepared(name="c")], DecodeLimits(), 1)["c"].to_pydict() == whole.to_pydict()


def test_the_first_answer_is_kept_and_another_is_an_operators_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = Mean(name="a")
    monkeypatch.setattr(canary, "_checked", set())
    check_canaries([signal], tmp_path)
    (stored,) = (tmp_path / "a").iterdir()
    before = stored.read_bytes()
    canary._checked.clear()  # another worker
    check_canaries([signal, signal], tmp_path)
    assert len(canary._checked) == 1
    canary._checked.clear()
    monkeypatch.setattr(Mean, "of_images", lambda self, images: {self.name: [99.0] * len(images)})
    with pytest.raises(CanaryFailed, match=r"score\.canary_failed: a on .*known examples.*precision: fp32"):
        check_canaries([signal], tmp_path)
    assert stored.read_bytes() == before
