"""A tiny synthetic dataset version: coloured shapes on white with captions in invented languages."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from curation.table import write_parquet
from pretrain.config import TrainConfig, parse_config
from pretrain.dataset import open_data
from pretrain.loader import Loader
from pretrain.loop import METRICS_FILE, read_lines
from pretrain.rows import MEDIA
from pretrain.version import Version, open_version

TEXT = pa.struct(
    [
        ("text_uid", pa.string()),
        ("text", pa.string()),
        ("language", pa.string()),
        ("languages", pa.list_(pa.string())),
        ("clip_score", pa.float32()),
    ]
)
SCHEMA = pa.schema(
    [
        ("sample_uid", pa.string()),
        ("media_uid", pa.string()),
        ("url", pa.string()),
        ("image", pa.binary()),
        ("image_format", pa.string()),
        ("width_px", pa.int32()),
        ("height_px", pa.int32()),
        ("image_sha256", pa.string()),
        ("texts", pa.list_(TEXT)),
        ("category", pa.string()),
        ("split", pa.string()),
    ]
)
SYLLABLES = [first + second for first, second in zip("bcdfghklmnprstvwxyzq", "aeiou" * 4, strict=True)]
ENDINGS = {"aa": "", "ab": "s", "ac": "en", "zz": "o"}
"""Language -> its ending: every language has the same stems, so a held-out one has cognates."""


def uid(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def picture(number: int) -> bytes:
    """A PNG with a pattern of its own."""
    generator = np.random.default_rng(number)
    cells = generator.integers(0, 256, size=(3, 3, 3), dtype=np.uint8)
    pixels = np.kron(cells, np.ones((8, 8 + number % 3, 1), dtype=np.uint8))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sample(number: int, split: str = "train") -> dict[str, Any]:
    stem = f"{SYLLABLES[number % 20]}{SYLLABLES[(number * 7 + number // 20) % 20]}{SYLLABLES[number // 20]}r"
    texts = [
        {
            "text_uid": uid("text", number, language),
            "text": f"{stem}{ending}",
            "language": None if language == "ab" else language,
            "languages": [language],
            "clip_score": 0.5,
        }
        for language, ending in ENDINGS.items()
    ]
    data = picture(number)
    return {
        "sample_uid": uid("sample", number),
        "media_uid": uid("media", number),
        "url": f"http://example.org/{number}.png",
        "image": data,
        "image_format": "PNG",
        "width_px": 24,
        "height_px": 24,
        "image_sha256": hashlib.sha256(data).hexdigest(),
        "texts": texts,
        "category": "odd" if number % 2 else "even",
        "split": split,
    }


def write_version(
    store: Path,
    samples: list[dict[str, Any]],
    name: str = "tiny",
    shard_samples: int = 20,
    decontamination: str = "complete",
    schema: pa.Schema | None = None,
) -> Version:
    """Write samples as a sealed version, in the published layout. schema: `SCHEMA`, if not told."""
    tables = [
        pa.Table.from_pylist(samples[i : i + shard_samples], schema=schema or SCHEMA)
        for i in range(0, len(samples), shard_samples)
    ]
    folder = store / "versions" / "unsealed"
    folder.mkdir(parents=True)
    shards = []
    for index, table in enumerate(tables):
        file = folder / "shard.parquet"
        write_parquet(file, table, {}, plain=[name for name in MEDIA if name in table.column_names])
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        final = f"{index:05d}-{sha256[:12]}.parquet"
        shards.append(
            {"name": final, "num_samples": table.num_rows, "size_bytes": file.stat().st_size, "sha256": sha256}
        )
        file.rename(folder / final)
    digest = hashlib.sha256(json.dumps([name, shards]).encode()).hexdigest()
    manifest = {
        "format": "tamis.dataset/1",
        "name": name,
        "digest": digest,
        "num_samples": len(samples),
        "num_texts": sum(len(each["texts"]) for each in samples),
        "shards": shards,
        "decontamination": {"status": decontamination},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sealed = folder.with_name(f"{name}-{digest[:12]}")
    folder.rename(sealed)
    return open_version(sealed)


def spec(**changes: Any) -> dict[str, Any]:
    """The mapping form of a tiny config."""
    return {
        "name": "tiny",
        "where": [{"column": "split", "not_equals": "val"}],
        "exclude_languages": ["zz"],
        "model": {
            "embed_dim": 32,
            "streams": {
                "image": {
                    "embedding": {"use": "pretrain.embeddings.pictures.ConvStem", "width": 32, "stages": 2},
                    "encoder": {"use": "pretrain.encoders.transformer.FeedForward"},
                },
                "text": {
                    "embedding": {"use": "pretrain.embeddings.ngrams.HashedNgrams", "width": 32, "buckets": 2048},
                    "encoder": {"use": "pretrain.encoders.transformer.FeedForward"},
                },
            },
        },
        "targets": [{"use": "pretrain.targets.info_nce.InfoNCE", "weight": 1.0}],
        "image_size": 16,
        "batch_size": 16,
        "captions_per_image": 2,
        "steps": 12,
        "lr": 0.003,
        "warmup_steps": 3,
        "checkpoint_every": 5,
        "device": "cpu",
        "num_threads": 1,
        **changes,
    }


def logged(folder: Path, but: Collection[str] = ()) -> list[dict[str, Any]]:
    """The lines of a run's log, without some fields."""
    lines = [json.loads(line) for line in read_lines(folder / METRICS_FILE)]
    return [{name: value for name, value in line.items() if name not in but} for line in lines]


def loader_of(version: Version, store: Path, config: TrainConfig) -> Loader:
    """The loader of a run on one version, on the CPU."""
    model = config.model.build(config.image_size)
    data = open_data(config, [version.folder], store / "cache", model)
    return Loader(data.reader, model, data.columns, config, torch.device("cpu"))


def config(**changes: Any) -> TrainConfig:
    return parse_config(spec(**changes))
