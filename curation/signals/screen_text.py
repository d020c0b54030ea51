"""Screen text: what is written in a picture, or in the middle picture of a segment, and in which language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation import text_detection, text_reading
from curation.file_digest import known_digest
from curation.signal import Image, ImageSignal
from curation.signals.language import FastTextLanguage


class ScreenText(ImageSignal):
    """The lines that a detector finds in the picture and a recogniser reads.

    Columns: `screen_text`, string: the lines from top to bottom with a space between, null where nothing is read;
    `screen_text_confidence`, float32, 0.5 to 1: mean of the lines' mean probabilities of their characters;
    `screen_language`, string: its language (primary subtag of BCP 47) as `FastTextLanguage` guesses it without a claim,
    null where the text is shorter than `min_characters` or nobody is sure. It reads Latin, Greek, Chinese and Japanese
    letters; of others nothing, or nonsense of little confidence. Unit: as said. Model: PP-OCRv6 detection and
    recognition, small (Apache-2.0), of the package rapidocr, or `weights` and `reader_weights`; lid.176.ftz and CLD2.
    Source: DB, arXiv 1911.08947; PP-OCR, arXiv 2206.03001; Graves et al. 2006 (CTC).
    """

    version: ClassVar[int] = 1

    weights: Path | None = None
    """Of the detector."""
    reader_weights: Path | None = None
    """Of the recogniser."""
    min_characters: int = Field(default=8, ge=1)
    """A logo or a number has no language."""
    not_in_key: ClassVar[frozenset[str]] = frozenset({"weights", "reader_weights"})

    def key_extras(self) -> dict[str, object]:
        return {
            "weights": known_digest(self._detector_file()),
            "reader": known_digest(self._reader_file()),
            "language": FastTextLanguage().key(),
        }

    def needs_model(self) -> bool:
        return True

    def _detector_file(self) -> Path:
        return self.weights or text_detection.default_weights()

    def _reader_file(self) -> Path:
        return self.reader_weights or text_reading.default_weights()

    def writes(self) -> pa.Schema:
        return pa.schema(
            {"screen_text": pa.string(), "screen_text_confidence": pa.float32(), "screen_language": pa.string()}
        )

    def of_images(self, images: Sequence[Image | None]) -> dict[str, Sequence[object] | np.ndarray | pa.Array]:
        detector, reader = (
            text_detection.text_detector(self._detector_file()),
            text_reading.text_reader(self._reader_file()),
        )
        lines = [[] if image is None else reader.lines(image, detector.boxes(image)) for image in images]
        texts = [" ".join(line.text for line in own) or None for own in lines]
        return {
            "screen_text": texts,
            "screen_text_confidence": [
                float(np.mean([each.confidence for each in own])) if own else None for own in lines
            ],
            "screen_language": self._languages(texts),
        }

    def _languages(self, texts: list[str | None]) -> list[str | None]:
        said = [text if text is not None and len(text) >= self.min_characters else None for text in texts]
        rows = pa.table(
            {"text_clean": pa.array(said, pa.string()), "language_claimed": pa.nulls(len(said), pa.string())}
        )
        found: list[str | None] = FastTextLanguage().compute(rows).column("language").to_pylist()
        return found
