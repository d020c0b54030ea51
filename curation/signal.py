"""Signals: pure functions from a batch of rows to new columns, computed once for every row, kept and rejected alike.

Laws, checked for every signal by tests/curation/test_signal_laws.py: as many rows out as in, in the same order;
f(a + b) = f(a) + f(b); null in, null out; only the declared columns and types; the key survives pickling and use.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.media.decoded import View
from curation.step import Step

Level = Literal["media", "text"]
Image = np.ndarray
"""uint8 array (height, width, 3), RGB, transparency flattened on white, EXIF orientation applied."""


class Signal(Step, ABC):
    """Base of all signals: subclass `TextSignal`, `ImageSignal`, `FileSignal` or `ColumnSignal`.

    A recipe names a signal by its import path (`use: curation.signals.language.FastTextLanguage`) and its fields.
    """

    level: ClassVar[Level]
    """Which rows it describes: one row for each media item, or for each text."""
    whole_samples: ClassVar[bool] = False
    """Whether it compares the texts of one sample with each other, so that a batch must hold all of a sample's texts
    (a part always does)."""

    def table_name(self) -> str:
        """Name of the signal's table in the store and of its view in SQL: the class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(self).__name__).lower()

    @abstractmethod
    def reads(self) -> tuple[str, ...]:
        """Columns needed: of the `media` or `texts` table or of other signals; a text signal may read media columns."""

    @abstractmethod
    def writes(self) -> pa.Schema:
        """The new columns, all nullable."""

    def legend(self) -> pa.Table | None:
        """What the ids in its columns stand for, if it writes ids: stored beside it once."""
        return None

    def needs_model(self) -> bool:
        """Whether it runs a neural network: such signals go to workers that hold a GPU where there is one."""
        return False


class ColumnSignal(Signal):
    """A signal of other columns. Subclasses set `level` and implement `reads`, `writes` and `compute`."""

    @abstractmethod
    def compute(self, rows: pa.Table) -> pa.Table:
        """The new columns for `rows` (which has the columns of `reads`), one row out for each row in."""


class TextSignal(ColumnSignal):
    """A signal of one text alone. Subclasses implement `of_texts`."""

    level: ClassVar[Level] = "text"

    def reads(self) -> tuple[str, ...]:
        return ("text_clean",)

    @abstractmethod
    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        """Column name -> values, one for each text; None for a null text."""

    def compute(self, rows: pa.Table) -> pa.Table:
        return as_table(self.of_texts(rows.column(self.reads()[0]).to_pylist()), self.writes())


class FileSignal(ColumnSignal):
    """A signal of the encoded bytes of a medium, undecoded. Subclasses implement `of_files`, and trust no byte.

    The stage hands them out in the same pass over a part in which it decodes the pictures.
    """

    level: ClassVar[Level] = "media"

    def reads(self) -> tuple[str, ...]:
        return ("bytes",)

    @abstractmethod
    def of_files(self, files: Sequence[bytes | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        """Column name -> values, one for each medium; None where there is none."""

    def compute(self, rows: pa.Table) -> pa.Table:
        return as_table(self.of_files(rows.column("bytes").to_pylist()), self.writes())


class ImageSignal(Signal):
    """A signal of the decoded picture. Subclasses implement `of_images`; the stage decodes once for all of them."""

    level: ClassVar[Level] = "media"
    short_side_px: ClassVar[int] = 512
    """The picture is given shrunk so that its shorter side has at most this many pixels; never enlarged."""

    def reads(self) -> tuple[str, ...]:
        return ("stored_sha256",)

    def view(self) -> View:
        """The size at which the stage decodes the picture for it."""
        return View(self.short_side_px)

    prepares: ClassVar[bool] = False
    """Whether `prepare` makes something smaller of a picture."""

    def prepare(self, image: Image, height_px: int, width_px: int) -> Image:  # noqa: ARG002
        """What `of_images` needs of a picture whose original has this size; `of_images` takes pictures of any size too.

        Runs in the threads that decode, so it costs the model no time. The result must not share memory with `image`.
        """
        return image.copy()

    @abstractmethod
    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        """Column name -> values, one for each picture; None where there is no picture."""

    def compute_images(self, images: Sequence[Image | None]) -> pa.Table:
        """The new columns for `images`, one row out for each."""
        return as_table(self.of_images(images), self.writes())


def as_table(columns: dict[str, Sequence[object] | np.ndarray | pa.Array], schema: pa.Schema) -> pa.Table:
    """`columns` as an Arrow table of exactly `schema`; raises ValueError where names differ."""
    if set(columns) != set(schema.names):
        raise ValueError(f"computed the columns {sorted(columns)}, declared {sorted(schema.names)}")
    arrays = [
        column if isinstance(column, pa.Array | pa.ChunkedArray) else pa.array(column, field.type)
        for field, column in ((field, columns[field.name]) for field in schema)
    ]
    return pa.table(dict(zip(schema.names, arrays, strict=True)), schema=schema)


def drop_nonfinite(table: pa.Table) -> tuple[pa.Table, pa.Array]:
    """`table` with NaN and infinities replaced by null, and for each row whether it held one.

    DuckDB holds `NaN > 0.3` to be true (and may or may not prune it by the row group's statistics), so no such value
    may reach SQL.
    """
    bad = np.zeros(table.num_rows, dtype=bool)
    columns = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_floating(column.type):
            finite = pc.fill_null(pc.is_finite(column), True)
            bad |= ~finite.to_numpy(zero_copy_only=False)
            column = pc.if_else(finite, column, pa.scalar(None, column.type))
        elif pa.types.is_fixed_size_list(column.type) and pa.types.is_floating(column.type.value_type):
            width = column.type.list_size
            values = np.asarray(column.values.to_numpy(zero_copy_only=False), dtype=np.float32)
            values = values[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)
            row_bad = column.is_valid().to_numpy(zero_copy_only=False) & ~np.isfinite(values).all(axis=1)
            bad |= row_bad
            if row_bad.any():
                column = pc.if_else(pa.array(~row_bad), column, pa.scalar(None, column.type))
        columns[name] = column
    return pa.table(columns, schema=table.schema), pa.array(bad)
