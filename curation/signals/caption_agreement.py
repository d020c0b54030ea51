"""Caption agreement: whether the captions of one picture say the same, by a multilingual model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import ColumnSignal, Level, as_table
from curation.similarity import unit_vectors


class CaptionAgreement(ColumnSignal):
    """Mean cosine of a caption with the captions that its picture has in other languages.

    A caption that belongs to another picture, or a translation gone wrong, disagrees with all the others.
    Columns: `caption_agreement`, float32, -1 to 1; `num_compared_captions`, int32, 0 or more: how many those were. The
    first is null where there are none; both are null where the text has no embedding, no sample or, if languages are
    asked for, no language. It looks at all texts of a sample, which always stand in one part. Unit: none; captions.
    Model: none of its own; it follows the embeddings that it reads, and across languages these mean something only if
    the model is multilingual. Source: this project, after the cross-lingual consistency of CCRK (arXiv 2406.18254).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"
    whole_samples: ClassVar[bool] = True

    name: str = "clip"
    """The `name` of the text embedding signal."""
    language: str | None = "language"
    """Column that tells languages apart (by primary subtag). None: all other captions of the picture."""

    def reads(self) -> tuple[str, ...]:
        languages = (self.language,) if self.language else ()
        return ("sample_uid", f"{self.name}_text_embedding", *languages)

    def writes(self) -> pa.Schema:
        return pa.schema({"caption_agreement": pa.float32(), "num_compared_captions": pa.int32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        text_ND, known = unit_vectors(rows.column(self.reads()[1]))
        samples = rows.column("sample_uid").to_pylist()
        languages = [""] * len(samples)
        if self.language:
            languages = [
                (each or "").replace("_", "-").split("-")[0].lower() for each in rows.column(self.language).to_pylist()
            ]
            known &= np.array([bool(each) for each in languages], bool)
        known &= np.array([each is not None for each in samples], bool)
        groups: dict[str, list[int]] = {}
        for row in np.flatnonzero(known):
            groups.setdefault(samples[row], []).append(int(row))
        agreement, number = np.zeros(len(samples), np.float32), np.zeros(len(samples), np.int32)
        for members in groups.values():
            cosines = text_ND[members].astype(np.float64) @ text_ND[members].T.astype(np.float64)
            tongues = np.array([languages[row] for row in members])
            other = tongues[:, None] != tongues[None, :] if self.language else ~np.eye(len(members), dtype=bool)
            number[members] = other.sum(axis=1)
            agreement[members] = np.clip((cosines * other).sum(axis=1) / np.maximum(other.sum(axis=1), 1), -1, 1)
        columns = {
            "caption_agreement": pa.array(agreement, mask=~known | (number == 0)),
            "num_compared_captions": pa.array(number, mask=~known),
        }
        return as_table(columns, self.writes())
