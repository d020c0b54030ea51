"""pretrain/columns.py: what stands beside a sample, as tensors, and that every row gets its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tiny import config

from pretrain.columns import Column, read_column
from pretrain.config import ConfigError
from pretrain.dataset import open_data
from pretrain.loader import Loader
from pretrain.version import Version


@dataclasses.dataclass(frozen=True)
class Table:
    """A version as far as columns go."""

    table: pa.Table
    folder: Path = Path("v")

    def columns(self) -> list[str]:
        return list(self.table.column_names)

    def read(self, names: list[str]) -> pa.Table:
        return self.table.select(names)


def read(values: pa.Array, name: str = "c") -> Column:
    return read_column(Table(pa.table({name: values})), name)  # type: ignore[arg-type]


def test_numbers_lists_and_nulls() -> None:
    found = read(pa.array([1.5, None, 3.0], pa.float32()))
    assert found.values.tolist() == [1.5, 0, 3]
    assert found.present.tolist() == [True, False, True]
    for kind in (pa.list_(pa.float16()), pa.list_(pa.float16(), 2)):
        found = read(pa.array([np.array([1, 2], np.float16), None, np.array([3, 4], np.float16)], kind))
        assert found.values.tolist() == [[1, 2], [0, 0], [3, 4]]
        assert found.values.dtype == np.float32
    assert read(pa.array([None, None], pa.list_(pa.float32()))).values.shape == (2, 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([[1.0], [1.0, 2.0]]), "one length"),
        (pa.array([[1.0, None]]), "one length"),
        (pa.array(["x"]), "string, no numbers"),
        (pa.array([[float("nan")]]), "not finite"),
    ],
)
def test_what_is_no_column_of_numbers_is_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(values)


def test_unknown_names_list_what_there_is(version: Version) -> None:
    with pytest.raises(ConfigError, match=r"column 'width': .* has: category, height_px.*width_px"):
        read_column(version, "width")
    with pytest.raises(ConfigError, match=r"texts of .* have: clip_score, language, languages, text, text_uid"):
        read_column(version, "texts.score")


def test_every_row_gets_the_values_of_its_own_sample_and_text(version: Version, store: Path) -> None:
    settings = config()
    texts = version.read(["texts"]).column("texts").to_pylist()
    all_texts = [entry["text"] for entries in texts for entry in entries]
    numbered = {
        "number": Column(np.arange(len(texts), dtype=np.float32), np.arange(len(texts)) % 3 > 0),
        "texts.number": Column(np.arange(len(all_texts), dtype=np.float32), np.ones(len(all_texts), bool)),
    }
    model = settings.model.build(settings.image_size)
    data = open_data(settings, [str(version.folder)], store / "cache", model)
    raw = data.reader.raw(0)
    batch = Loader(data.reader, model, [numbered], settings, torch.device("cpu")).ready(0, raw).pieces[0]
    _, epochs, rows = data.reader.positions(0)
    source = data.reader.sources[0]
    drawn = [
        source.draw_texts(int(epoch), int(row), source.rows.uid(int(row)))
        for epoch, row in zip(epochs, rows, strict=True)
    ]
    assert batch.columns["texts.number"].tolist() == [place for each in drawn for place in each]
    assert [all_texts[place] for each in drawn for place in each] == raw.texts
    repeated = np.repeat(rows, settings.captions_per_image)
    assert batch.columns["number"].tolist() == repeated.tolist()
    assert batch.present["number"].tolist() == (repeated % 3 > 0).tolist()
