"""The pool on which it is tested what families of pre-training ask of curation.

26 drawings (some of them copied, shrunk or turned into JPEG), captions in six languages, translations by a machine,
rows with nothing, and a part all of whose pictures are damaged.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.curation.signal_rows import drawing
from tests.pipelines.loopback import Request, Server
from tests.pipelines.patch_scorer import PatchScorer
from tests.stores import SIGNALS, recipe, run

NUM, VIEWS = 26, 3
TEACHER = {"model": "m", "scorer": f"{PatchScorer.__module__}.{PatchScorer.__qualname__}"}
LANGUAGES = ("en", "de", "fr", "ja", "ach", "sw")
CAPTIONS = {
    "en": "A red ball behind a green box", "de": "Ein Hund und eine Katze", "fr": "Un chat", "ja": "犬と猫",
    "ach": "Atoro", "sw": "Mbwa na paka",
}  # fmt: skip
POLICY = [{"rule": "some_text", "keep": "text_clean is not null"}]
ORIGINALS = {"rule": "originals", "keep": "text_source <> 'mt'"}
SETTINGS: dict[str, Any] = {
    "name": "families",
    "samples_per_part": 40,
    "source": {"columns": {"url": "url", "text": ["caption", "mt"], "language": "language", "extra": ["split"]}},
    "signals": [
        *({"use": f"curation.signals.{name}"} for name in SIGNALS),
        {"use": "curation.signals.keyed_draw.KeyedSampleDraw"},
        {"use": "curation.signals.caption_tags.CaptionTags"},
        {"use": "curation.signals.tag_targets.TagTargets", "num_tags": 8},
        {"use": "curation.signals.perceptual_hash.PerceptualHash"},
        {"use": "curation.signals.image_embedding.ImageEmbedding", **TEACHER},
        {"use": "curation.signals.text_embedding.TextEmbedding", **TEACHER},
        {"use": "curation.signals.augmented_image_embedding.AugmentedImageEmbedding", "views": VIEWS, **TEACHER},
    ],
    "duplicates": {
        "exact": ["sha256"],
        "perceptual": True,
        "semantic": {"embedding": "clip_image_embedding", "similarity": 0.98, "clusters": 1},
    },
    "pack": {
        "samples_per_shard": 12,
        "columns": ["split", "clip_augmented_embeddings", "clip_augmentations"],
        "text_columns": ["text_source", "clip_text_embedding", "tag_targets", "caption_negatives", "tags"],
    },
}


def file_of(pixels: np.ndarray, kind: str = "PNG", **how: Any) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, kind, **how)
        return file.getvalue()


def answer(request: Request, data: bytes) -> None:
    request.reply(data)


@dataclass(frozen=True)
class Pool:
    """links: with translations; plain: the same without them; damaged: pictures that do not decode."""

    store: Path
    links: Path
    plain: Path
    recipe: Path
    damaged: int


def link_table(path: Path, entries: list[dict[str, Any]], with_mt: bool = True) -> Path:
    columns = ["url", "caption", *(["mt"] if with_mt else []), "language", "split"]
    kept = [each for each in entries if with_mt or each["caption"] is not None or each["mt"] is None]
    pq.write_table(pa.table({name: pa.array([each[name] for each in kept], pa.string()) for name in columns}), path)
    return path


@contextmanager
def served_pool(root: Path) -> Iterator[Pool]:
    """The pool in `root`; its pictures are served meanwhile."""
    whole = [file_of(drawing(number, 300, 220)) for number in range(NUM - 4)]
    whole.append(file_of(drawing(0, 300, 220), "JPEG", quality=85))
    whole.append(file_of(np.asarray(Image.fromarray(drawing(1, 300, 220)).resize((200, 147))), "JPEG", quality=90))
    whole.append(file_of(drawing(2, 300, 220), "PNG", compress_level=1))
    whole.append(whole[3])
    damaged = [whole[number][: 200 + number] for number in range(5)]
    with Server() as server:
        address = f"http://127.0.0.1:{server.port}"
        for kind, files in (("whole", whole), ("damaged", damaged)):
            for number, data in enumerate(files):
                server.routes[f"/{kind}/{number}.png"] = partial(answer, data=data)
        first: list[dict[str, Any]] = []
        for number in range(NUM):
            url = f"{address}/whole/{number}.png"
            for language in LANGUAGES[: 2 + number % 5]:
                said = {"url": url, "language": language, "split": "train", "mt": None}
                first.append({**said, "caption": f"{CAPTIONS[language]} {number}"})
            mt = {"url": url, "split": "train", "caption": None}
            first.append({**mt, "language": "es", "mt": f"Una pelota roja {number}"})
            first.append({**mt, "language": "de", "mt": f"{CAPTIONS['de']} {number}"})  # as a person had it
        nothing = {"caption": None, "mt": None, "language": None, "split": None}
        first += [{**nothing, "url": None}, {**nothing, "url": "  "}, {**nothing, "url": f"{address}/gone.png"}]
        first += [{**nothing, "url": None, "caption": "a text alone", "language": "en"}]
        first += [{**nothing, "url": f"{address}/whole/0.png?without-a-text"}]
        second = [
            {
                "url": f"{address}/damaged/{number}.png",
                "caption": "A dog",
                "mt": None,
                "language": "en",
                "split": "train",
            }
            for number in range(len(damaged))
        ]
        made = Pool(
            root / "store",
            link_table(root / "links.parquet", first),
            link_table(root / "plain.parquet", first, with_mt=False),
            recipe(root / "families.yaml", POLICY, **SETTINGS),
            len(damaged),
        )
        run(made.store, made.recipe, made.links)
        run(made.store, made.recipe, link_table(root / "damaged.parquet", second))
        yield made
