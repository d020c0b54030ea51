"""What a training step sees: a global order of samples, and of each sample its picture and some of its texts.

Order, texts and augmentation depend on (version digest, seed, epoch, sample) only, so any number of workers sees the
same global batches, and the reader's state is one number: how many samples were seen, that is (epoch, position).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from pretrain.augment import augment
from pretrain.columns import TEXTS_PREFIX, Column
from pretrain.config import Clause, ConfigError, TrainConfig
from pretrain.inputs import model_inputs, model_repeats
from pretrain.keyed import U64, key, mix
from pretrain.model import Model
from pretrain.objective import Batch
from pretrain.version import Version


@dataclass(frozen=True)
class Text:
    """One caption. languages: all in which it is the caption of this sample; empty if none is known.

    row: its place among all texts of the version.
    """

    text: str
    languages: tuple[str, ...]
    row: int = 0

    def only_in(self, languages: frozenset[str]) -> bool:
        """Whether its languages are known and all among these."""
        return bool(self.languages) and languages.issuperset(self.languages)


@dataclass(frozen=True)
class Samples:
    """Samples of a version that qualify. rows: their rows in the version; hashes: uint64 of each sample_uid."""

    uids: list[str]
    rows: np.ndarray
    hashes: U64
    texts: list[list[Text]]

    def __len__(self) -> int:
        return len(self.uids)

    def subset(self, keep: np.ndarray) -> Samples:
        """Those where `keep` (bool for each) holds."""
        chosen = np.flatnonzero(keep)
        return Samples(
            [self.uids[i] for i in chosen], self.rows[chosen], self.hashes[chosen], [self.texts[i] for i in chosen]
        )


def read_samples(version: Version, where: tuple[Clause, ...] = ()) -> Samples:
    """All samples of a version that meet the conditions, with all of their texts.

    Raises ConfigError where a condition names a column that the version does not have, or no sample meets them.
    """
    known = version.columns()
    for index, clause in enumerate(where):
        if clause.column not in known or clause.column in ("image", "texts"):
            usable = ", ".join(sorted(set(known) - {"image", "texts"}))
            raise ConfigError(f"where.{index}.column = {clause.column!r}: {version.folder.name} has: {usable}")
    table = version.read(list(dict.fromkeys(["sample_uid", "texts", *(clause.column for clause in where)])))
    keep = np.ones(table.num_rows, dtype=bool)
    for clause in where:
        keep &= np.array([clause.holds(value) for value in table.column(clause.column).to_pylist()], dtype=bool)
    if not keep.any():
        conditions = [clause.model_dump() for clause in where]
        raise ConfigError(f"where: none of the {table.num_rows} samples of {version.folder.name} meets {conditions}")
    chosen = table.filter(pa.array(keep))
    uids = chosen.column("sample_uid").to_pylist()
    hashes = np.array([key(uid) for uid in uids], dtype=np.uint64)
    counts = np.array(pc.fill_null(pc.list_value_length(table.column("texts")), 0), dtype=np.int64)
    first_rows = (np.cumsum(counts) - counts)[keep]
    texts = [
        [_text(entry, int(first) + place) for place, entry in enumerate(entries or [])]
        for entries, first in zip(chosen.column("texts").to_pylist(), first_rows, strict=True)
    ]
    return Samples(uids, np.flatnonzero(keep), hashes, texts)


def _text(entry: dict[str, object], row: int) -> Text:
    languages = entry.get("languages") or ([entry["language"]] if entry.get("language") else [])
    assert isinstance(languages, list)
    return Text(str(entry["text"]), tuple(str(language) for language in languages if language is not None), row)


def training_samples(version: Version, config: TrainConfig) -> Samples:
    """What a config trains on: without the excluded languages, and without samples that have no other text.

    Raises ConfigError where nothing is left.
    """
    samples = read_samples(version, config.where)
    excluded = frozenset(config.exclude_languages)
    texts = [[text for text in each if text.text and not text.only_in(excluded)] for each in samples.texts]
    with_text = np.array([bool(each) for each in texts], dtype=bool)
    if not with_text.any():
        raise ConfigError(f"exclude_languages: no text of {version.folder.name} is left")
    return Samples(samples.uids, samples.rows, samples.hashes, texts).subset(with_text)


class Reader:
    """Global batches of a version, cut evenly among workers.

    pixels_NSSC: square uint8 pictures of the whole version; `samples.rows` says which belong to the samples.
    columns: of the whole version, those that the targets read.
    """

    def __init__(
        self,
        version_digest: str,
        samples: Samples,
        pixels_NSSC: np.ndarray,
        config: TrainConfig,
        model: Model,
        columns: dict[str, Column] | None = None,
    ) -> None:
        self.digest, self.samples, self.pixels_NSSC = version_digest, samples, pixels_NSSC
        self.config, self.model = config, model
        self.columns = columns or {}
        self._order = lru_cache(maxsize=2)(self._order_of)

    def _order_of(self, epoch: int) -> np.ndarray:
        draws = mix(self.samples.hashes, key("order", self.digest, self.config.seed, epoch))
        return np.lexsort((self.samples.hashes, draws))

    def positions(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, index of the sample) of each row of the global batch of `step` (0, 1, ...).

        Epochs follow each other without a gap: every sample is seen exactly once in each, whatever the batch size.
        """
        seen = step * self.config.batch_size + np.arange(self.config.batch_size)
        epoch_G, position_G = np.divmod(seen, len(self.samples))
        index_G = np.array([self._order(int(e))[p] for e, p in zip(epoch_G, position_G, strict=True)], dtype=np.int64)
        return epoch_G, index_G

    def choose_texts(self, epoch: int, index: int) -> list[Text]:
        """`captions_per_image` texts of a sample for this epoch: different ones as far as it has as many."""
        texts = self.samples.texts[index]
        salt = key("text", self.config.seed, epoch, self.samples.uids[index])
        order = np.argsort(mix(np.arange(len(texts), dtype=np.uint64), salt), kind="stable")
        return [texts[order[k % len(texts)]] for k in range(self.config.captions_per_image)]

    def batch(self, step: int, rank: int = 0, num_workers: int = 1) -> Batch:
        """Worker `rank`'s share of the global batch of `step`."""
        epoch_G, index_G = self.positions(step)
        share = len(index_G) // num_workers
        epoch_B, index_B = (each[rank * share : (rank + 1) * share] for each in (epoch_G, index_G))
        pixels = torch.from_numpy(np.ascontiguousarray(self.pixels_NSSC[self.samples.rows[index_B]]))
        image_BCHW = pixels.permute(0, 3, 1, 2).float().div_(255)
        hashes_B = self.samples.hashes[index_B]
        if self.config.augment:
            image_BCHW = augment(image_BCHW, hashes_B, self.config.seed, epoch_B)
        texts = [
            text for epoch, index in zip(epoch_B, index_B, strict=True) for text in self.choose_texts(int(epoch), index)
        ]
        captions = self.config.captions_per_image
        rows_of_samples = np.repeat(self.samples.rows[index_B], captions)
        rows_of_texts = np.array([text.row for text in texts], dtype=np.int64)
        chosen = {
            name: column.take(rows_of_texts if name.startswith(TEXTS_PREFIX) else rows_of_samples)
            for name, column in self.columns.items()
        }
        captions_B = [text.text for text in texts]
        return Batch(
            inputs=model_inputs(self.model, {"image": image_BCHW, "text": captions_B}),
            repeats=model_repeats(self.model, {"image": captions}),
            group_B=torch.from_numpy(np.repeat(hashes_B.view(np.int64), captions)),
            columns={name: torch.from_numpy(column.values) for name, column in chosen.items()},
            present={name: torch.from_numpy(column.present) for name, column in chosen.items()},
        )

    def batches(self, start: int, stop: int, rank: int = 0, num_workers: int = 1) -> Iterator[tuple[int, Batch]]:
        """(step, batch) for the steps start..stop-1, the next one made in a thread while one is used."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader") as thread:
            waiting = thread.submit(self.batch, start, rank, num_workers) if start < stop else None
            for step in range(start, stop):
                assert waiting is not None
                batch = waiting.result()
                waiting = thread.submit(self.batch, step + 1, rank, num_workers) if step + 1 < stop else None
                yield step, batch
