"""A tiny version of segments, in the layout of `pipelines.pack_segments`: films with and without sound, sounds with and
without a picture, with and without texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from tiny import TEXT, uid, write_version

from pretrain.version import Version
from tests.curation.av import media

FPS, SIDE = 10, 64
RATE_HZ = 48_000
SCHEMA = pa.schema(
    [
        ("sample_uid", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64()), ("duration_s", pa.float64()),
        ("has_video", pa.bool_()), ("has_audio", pa.bool_()), ("has_text", pa.bool_()), ("split", pa.string()),
        ("video", pa.binary()), ("audio", pa.binary()), ("image", pa.binary()),
        ("texts", pa.list_(pa.struct([*TEXT, ("source", pa.string())]))),
    ]
)  # fmt: skip
LETTERS = "abcd"


def hertz(letter: str) -> float:
    return float(300 * 2 ** (LETTERS.index(letter) / 1.5))


def word(number: int) -> str:
    """Three letters, a different word for each number below 64."""
    return "".join(LETTERS[number // 4**place % 4] for place in range(3))


def spoken(text: str, seconds: float) -> np.ndarray:
    """Each letter a tone, all equally long."""
    return np.concatenate([media.tone(seconds / len(text), hertz(letter)) for letter in text])


def grey(step: int, num_steps: int, number: int) -> np.ndarray:
    """A frame whose brightness says at which share of the film it stands, with a corner that says of which film."""
    frame = np.full((SIDE, SIDE + 16, 3), 40 + round(160 * step / num_steps), np.uint8)
    frame[: SIDE // 2, : SIDE // 2] = [(number * 67) % 256, (number * 131) % 256, (number * 29) % 256]
    return frame


def segment(
    number: int, seconds: float = 1.2, film: bool = True, sound: bool = True, picture: bool = True, texts: bool = True
) -> dict[str, Any]:
    """One row; its sound spells `word(number)`, its film grows brighter."""
    count = math.ceil(seconds * FPS)
    frames = [grey(step, count, number) for step in range(count)]
    pcm = spoken(word(number), seconds) if sound else None
    title = {"text_uid": uid("title", number), "text": f"film {word(number)}", "language": "en", "source": "title"}
    said = {"text_uid": uid("said", number), "text": word(number), "language": "en", "source": "subtitles"}
    return {
        "sample_uid": uid("segment", number), "start_s": 0.0, "end_s": seconds, "duration_s": seconds,
        "has_video": film, "has_audio": sound, "has_text": texts, "split": "val" if number % 8 == 7 else "train",
        "video": media.write(frames, pcm, "mp4", fps=FPS) if film else None,
        "audio": media.write(None, pcm, "ogg") if sound else None,
        "image": cv2.imencode(".jpg", frames[count // 2][..., ::-1])[1].tobytes() if picture else None,
        "texts": [title, said] if texts else [],
    }  # fmt: skip


def write_segments(
    store: Path, samples: list[dict[str, Any]], name: str = "segments", schema: pa.Schema = SCHEMA
) -> Version:
    return write_version(store, samples, name=name, shard_samples=5, schema=schema)
