"""One pass over a part's pictures, and the canary of a store."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from curation.media.decode import DecodeLimits
from curation.media.decoded import View
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
