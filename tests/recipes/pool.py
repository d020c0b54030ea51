"""A made-up pool for the selection of every published recipe: values on both sides of every threshold, and nulls."""

import random
from typing import Any

import numpy as np
import pyarrow as pa

Row = dict[str, Any]

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("text_uid", "sample_uid", "media_uid", "url", "status", "image_format")),
        *((name, pa.int64()) for name in ("size_bytes",)),
        *((name, pa.int32()) for name in ("width_px", "height_px", "original_width_px", "original_height_px")),
        *((name, pa.string()) for name in ("sha256", "text_clean", "language", "language_detected", "entry_language")),
        *((name, pa.float32()) for name in ("token_repetition", "clip_score", "clip_score_text_masked")),
        *((name, pa.float32()) for name in ("neg_clip_loss", "norm_sim", "cluster_distance")),
        *((name, pa.int32()) for name in ("num_words", "num_characters", "cluster_id")),
        *((name, pa.bool_()) for name in ("is_boilerplate", "is_file_name", "cluster_has_target")),
        ("entry_ids", pa.list_(pa.int32())),
        ("draw", pa.float64()),
    ]
)
TEXTS = [
    "A red boat on the river", "A red boat on the river", "a red boat on the river", "the cat",
    "Cat", "A CAT IN THE HAT", "boat boat boat boat",
    "a dog with a hat", "Two dogs under the old tree by the wooden house", "x" * 4, "x" * 5, "hello", "a b c",
    " ".join(["word"] * 25), " ".join(f"w{i}" for i in range(256)), " ".join(f"w{i}" for i in range(257)),
    "一只猫", "猫", "猫" * 32, "猫" * 33, "the 猫 and the dog", "ein Boot auf dem Fluss",
    "The house of the river people",
    "Über den Fluss", "A nice view over the city at night", "no noun here", "The profile photo of a cat on a mat",
]  # fmt: skip
LANGUAGES = ["en", "en", "en", "en-GB", "de", "zh", "zh", "zh-Hant", "eng"]
URLS = ["http://a.example/%d.jpg", "http://a.example/%d.SVG?x", "http://b.example/%d.gif", "http://b.example/%d.webp"]


def near(chance: random.Random, values: list[Any], nothing: float = 0.08) -> Any:
    return None if chance.random() < nothing else chance.choice(values)


def make(seed: int, samples: int = 500) -> list[Row]:
    """Rows of a pool; a sample has one to three texts, which share all that is said of its picture."""
    chance = random.Random(seed)
    rows: list[Row] = []
    texts = [*TEXTS, *(f"猫{i} 在家" for i in range(60)), *(f"A photo of the cat number {i}" for i in range(60))]
    for sample in range(samples):
        wide = near(chance, [199, 200, 201, 400, 401, 401, 600, 600, 801, 1000, 9460, 89478485], 0.02)
        high = near(chance, [1, 199, 200, 201, 267, 400, 401, 401, 500, 500, 1003, 9459], 0.02) if wide else None
        picture = {
            "sample_uid": f"s{sample:04d}",
            "media_uid": f"m{sample:04d}",
            "url": chance.choice(URLS) % sample,
            "status": chance.choices(["ok", "failed", "refused"], [20, 1, 1])[0],
            "image_format": near(chance, ["JPEG", "JPEG", "JPEG", "JPEG", "PNG", "WEBP", "GIF"], 0.02),
            "size_bytes": near(chance, [4999, 5000, 5001, 80_000], 0.02),
            "original_width_px": wide,
            "original_height_px": high,
            "width_px": min(wide, 512) if wide else None,
            "height_px": min(high, 512) if high else None,
            "sha256": chance.choice(["same", f"sha{sample}", f"sha{sample}"]),
            "cluster_id": near(chance, [1, 2, 3]),
            "cluster_distance": near(chance, [0.0, 0.25, 0.5]),
            "cluster_has_target": near(chance, [True, False]),
        }
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            text = near(chance, texts, 0.03)
            words = text.split() if text else []
            rows.append(
                {
                    **picture,
                    "text_uid": f"t{chance.randrange(16**8):08x}-{len(rows)}",
                    "text_clean": text,
                    "num_words": len(words) if text else None,
                    "num_characters": len(text) if text else None,
                    "token_repetition": 1 - len({w.casefold() for w in words}) / len(words) if text else None,
                    "language": near(chance, ["en", "en", "en", "en-GB", "de", "zh", "zh", "zh-Hant", "eng"])
                    if text
                    else None,
                    "language_detected": near(chance, ["en", "en", "de", "zh"]) if text else None,
                    "is_boilerplate": chance.random() < 0.1 if text else None,
                    "is_file_name": chance.random() < 0.1 if text else None,
                    "clip_score": near(chance, [-0.1, 0.24, 0.25, 0.26, 0.27, 0.28, 0.29, 0.3, 0.31]),
                    "clip_score_text_masked": near(chance, [0.1, 0.2, 0.3]),
                    "neg_clip_loss": near(chance, [-9.0, -3.0, -2.5, -1.0]),
                    "norm_sim": near(chance, [0.1, 0.2, 0.3, 0.4, 0.5]),
                    "entry_language": near(chance, ["en", "en", "en", "de", "zh"]) if text else None,
                    "draw": chance.random(),
                }
            )
            # entries: a head and a tail in each language
            here = rows[-1]["entry_language"]
            first = {"en": 0, "de": 100, "zh": 200, None: 0}[here]
            ids = sorted({first + min(int(chance.paretovariate(0.7)), 40) for _ in range(chance.randrange(4))})
            rows[-1]["entry_ids"] = ids if here else None
    float32 = {field.name for field in SCHEMA if field.type == pa.float32()}
    for row in rows:
        for name in float32:
            row[name] = None if row[name] is None else float(np.float32(row[name]))
    return rows
