"""Language agreement: whether what is said, what is shown and what is written about a sample are in one language."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from curation.signal import ColumnSignal, Level, as_table


class LanguageAgreement(ColumnSignal):
    """Share of the sample's texts from other sources that are in this text's language.

    A text's source is its column: captions, subtitles or a transcript (what is said); what no column holds cannot be
    compared. What is shown is one text more where `screen` names the column of its language. A caption that disagrees
    with the speech is most often a translation, or another film's.
    Columns: `language_agreement`, float32, 0 to 1; `num_compared_texts`, int32, 0 or more: how many those were. The
    first is null where there are none; both are null where the text has no language or no sample. Languages are
    compared by their primary subtag. It looks at all texts of a sample, which always stand in one part. Unit: none;
    texts. Model: none of its own; it follows the languages that it reads. Source: this project.
    """

    version: ClassVar[int] = 2
    level: ClassVar[Level] = "text"
    whole_samples: ClassVar[bool] = True

    language: str = "language"
    """Column of each text's language."""
    screen: str | None = None
    """Column of media that holds the language of what is written in the picture: `screen_language` of `ScreenText`."""

    def reads(self) -> tuple[str, ...]:
        return ("sample_uid", "text_source", self.language, *([self.screen] if self.screen else []))

    def writes(self) -> pa.Schema:
        return pa.schema({"language_agreement": pa.float32(), "num_compared_texts": pa.int32()})

    def compute(self, rows: pa.Table) -> pa.Table:
        samples, sources, claims = (rows.column(name).to_pylist() for name in self.reads()[:3])
        tongues = _primary(claims)
        shown = _primary(rows.column(self.screen).to_pylist() if self.screen else [None] * len(samples))
        known = np.array([bool(s) and bool(t) for s, t in zip(samples, tongues, strict=True)], bool)
        of_all, of_source, of_tongue, of_both = Counter[str](), Counter[Any](), Counter[Any](), Counter[Any]()
        for row in np.flatnonzero(known):
            sample, source, tongue = samples[row], sources[row], tongues[row]
            of_all[sample] += 1
            of_source[sample, source] += 1
            of_tongue[sample, tongue] += 1
            of_both[sample, source, tongue] += 1
        share, number = np.zeros(len(samples), np.float32), np.zeros(len(samples), np.int32)
        for row in np.flatnonzero(known):
            sample, source, tongue = samples[row], sources[row], tongues[row]
            number[row] = of_all[sample] - of_source[sample, source] + bool(shown[row])
            same = of_tongue[sample, tongue] - of_both[sample, source, tongue] + (shown[row] == tongue)
            share[row] = same / max(1, number[row])
        columns = {
            "language_agreement": pa.array(share, mask=~known | (number == 0)),
            "num_compared_texts": pa.array(number, mask=~known),
        }
        return as_table(columns, self.writes())


def _primary(tags: list[str | None]) -> list[str]:
    """Primary subtags, lower case; empty where there is none."""
    return [(each or "").replace("_", "-").split("-")[0].lower() for each in tags]
