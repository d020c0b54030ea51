"""Columns of a version as tensors: what targets read beside pictures and texts (stored embeddings, scores, weights).

A column is named as it stands in the version; `texts.NAME` is one of the texts, of which each row takes its own text's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pretrain.config import ConfigError
from pretrain.embeddings.base import OF_TEXTS
from pretrain.rows import MEDIA
from pretrain.version import Version


@dataclass(frozen=True)
class Column:
    """values: float32 (n,) or (n, width), zeros where there is none; present: bool (n,)."""

    values: np.ndarray
    present: np.ndarray

    @property
    def width(self) -> int | None:
        """Numbers of each row's list; None where a row is a single number."""
        return None if self.values.ndim == 1 else int(self.values.shape[1])

    def take(self, rows: np.ndarray) -> Column:
        """Of these rows; nothing where a row is -1."""
        return Column(self.values[rows], self.present[rows] & (rows >= 0))


def read_column(version: Version, name: str) -> Column:
    """One column of all samples, or of all their texts in the order of the samples.

    Raises ConfigError where there is none of that name, or its values are no numbers and no lists of one length.
    """
    if name.startswith(OF_TEXTS):
        field = name.removeprefix(OF_TEXTS)
        texts = version.read(["texts"]).column("texts").combine_chunks().flatten()
        known = [each.name for each in texts.type]
        if field not in known:
            raise ConfigError(f"column {name!r}: the texts of {version.folder.name} have: {', '.join(sorted(known))}")
        return _as_numbers(texts.field(field), name, version)
    known = [each for each in version.columns() if each not in (*MEDIA, "texts")]
    if name not in known:
        raise ConfigError(f"column {name!r}: {version.folder.name} has: {', '.join(sorted(known))}")
    return _as_numbers(version.read([name]).column(name).combine_chunks(), name, version)


def _as_numbers(values: pa.Array, name: str, version: Version) -> Column:
    present = np.asarray(values.is_valid())
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        lengths = pc.list_value_length(values).drop_null().unique().to_pylist()
        numbers = values.drop_null().flatten()
        if len(lengths) > 1 or not _is_number(numbers.type) or numbers.null_count:
            raise ConfigError(f"column {name!r} of {version.folder.name}: no lists of numbers of one length: {lengths}")
        width = lengths[0] if lengths else 0
        found = np.zeros((len(values), width), dtype=np.float32)
        found[present] = np.asarray(numbers, dtype=np.float32).reshape(int(present.sum()), width)
    elif _is_number(values.type):
        found = np.zeros(len(values), dtype=np.float32)
        found[present] = np.asarray(values.drop_null(), dtype=np.float32)
    else:
        raise ConfigError(f"column {name!r} of {version.folder.name} holds {values.type}, no numbers")
    if not np.isfinite(found).all():
        raise ConfigError(f"column {name!r} of {version.folder.name} holds numbers that are not finite")
    return Column(found, present)


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether a column of this type can be read: numbers, or lists of them."""
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return _is_number(kind.value_type if is_list else kind)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind))
