"""Which medium belongs to which text of a part, in a bit for each text where nothing is out of the ordinary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

OWNERS = {"media": ("sample_uid", "role"), "texts": ("sample_uid",)}
"""Columns that tell which medium is whose."""
MEDIA_ROWS = "tamis__media_rows"
"""Where it is kept beside the columns."""


@dataclass(frozen=True)
class MediaRows:
    """For each text of a part the row of its sample's primary medium."""

    num_media: int
    num_texts: int
    kept: np.ndarray | None
    """None where texts and media lie side by side; uint8: bits, set where a text has the medium that follows that
    of the text before; int32: rows, -1 for none."""

    @classmethod
    def of(cls, texts: pa.Table, media: pa.Table) -> MediaRows:
        """From the columns `OWNERS` of the two tables."""
        rows = _matching(texts.column("sample_uid"), media.column("sample_uid"), media.column("role"))
        if rows is not None:
            steps = np.diff(rows, prepend=np.int32(-1))
            if ((steps == 0) | (steps == 1)).all() and (rows[:1] == 0).all():
                rows = np.packbits(steps.astype(bool))
        return cls(media.num_rows, texts.num_rows, rows)

    def rows(self) -> pa.Array | None:
        """None where texts and media lie side by side; null where a text has no medium."""
        if self.kept is None:
            return None
        if self.kept.dtype != np.uint8:
            return pa.array(self.kept, mask=self.kept < 0)
        return pa.array(np.cumsum(np.unpackbits(self.kept, count=self.num_texts), dtype=np.int32) - np.int32(1))

    def arrays(self, place: int) -> dict[str, np.ndarray]:
        """What a file has to hold of it."""
        sizes = {f"sizes {place}": np.array([self.num_media, self.num_texts])}
        return sizes if self.kept is None else {**sizes, f"rows {place}": self.kept}

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], place: int) -> MediaRows:
        """What `arrays` wrote down."""
        num_media, num_texts = arrays[f"sizes {place}"].tolist()
        return cls(num_media, num_texts, arrays.get(f"rows {place}"))


def _matching(wanted: pa.ChunkedArray, samples: pa.ChunkedArray, roles: pa.ChunkedArray) -> np.ndarray | None:
    is_primary = pc.equal(roles, "primary").to_numpy()
    if is_primary.all() and wanted.equals(samples):
        return None
    primary: np.ndarray = np.append(np.flatnonzero(is_primary), -1).astype(np.int32)
    samples = samples if is_primary.all() else samples.filter(pa.array(is_primary))
    is_next = np.ones(len(wanted), bool)
    if len(wanted):
        is_next[1:] = pc.not_equal(wanted[1:], wanted[:-1]).to_numpy()
    if wanted.filter(pa.array(is_next)).equals(samples):  # as they are taken in: one sample after the other
        place = np.cumsum(is_next) - 1
    else:
        place = pc.fill_null(pc.index_in(wanted, samples), -1).to_numpy()
    found: np.ndarray = primary[place]
    return found
