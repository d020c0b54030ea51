"""Text quality: whether a caption reads like those of a selection that somebody vouches for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import AfterValidator

from curation.signal import TextSignal
from curation.text_classifier import classifier_digest, load_classifier, probabilities


def _loadable(path: Path) -> Path:
    """A recipe that names a file which is no classifier is refused when it is read."""
    load_classifier(path)
    return path


class TextQuality(TextSignal):
    """The probability that a text belongs to the positive of the two selections that a classifier was trained on.

    Column: `quality_probability`, float32, 0-1; both selections weigh alike in it, however large; null without a text.
    Unit: probability by the model, not calibrated. Model: a fastText classifier made by `tamis classifier train`; its
    digest is in the key, and its hold-out accuracy and AUC stand beside it in FILE.json. Source: Joulin et al. 2016,
    arXiv 1607.01759; as a quality filter DataComp-LM, arXiv 2406.11794.
    """

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset({"model"})

    model: Annotated[Path, AfterValidator(_loadable)]
    """The classifier's file."""
    prefix: str = ""
    """Begins the names of table and column, so that several stand side by side."""

    def table_name(self) -> str:
        return f"{self.prefix}text_quality"

    def key_extras(self) -> dict[str, object]:
        return {"model": classifier_digest(self.model)}

    def writes(self) -> pa.Schema:
        return pa.schema({f"{self.prefix}quality_probability": pa.float32()})

    def of_texts(self, texts: list[str | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        known = [text for text in texts if text is not None]
        found = iter(probabilities(self.model, known).tolist())
        return {self.writes().names[0]: [None if text is None else next(found) for text in texts]}
