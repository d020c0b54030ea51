"""negCLIPLoss: the CLIP score less how well picture and text go with everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.fitted import FittedSignal
from curation.keyed_sample import KeyedSample
from curation.scorers import embedding_array, embedding_matrix
from curation.signal import Level, as_table
from curation.similarity import log_sum_exp, unit_vectors


class NegClipLoss(FittedSignal):
    """Minus the contrastive loss that a pair has in a batch of the pool; captions that fit any picture score low.

    s_ii - T/2 * (log sum_j exp(s_ij / T) + log sum_j exp(s_ji / T)) over a batch that holds the pair itself, where s_ij
    is the cosine of picture i and text j; the mean over several batches. The published code cuts each file at random
    into batches, the last of which is smaller and scores higher. Here each batch is a keyed sample of the whole pool,
    one text a picture, in which the pair takes the place of a pair of its own picture, or else of the last one: as
    random, of the same size for every row, without captions of the same picture as negatives, and the same however the
    pool is cut. A pool of fewer pictures than `batch_size` is one batch. Numbers of different batch sizes, models or
    temperatures are not comparable.

    Column: `neg_clip_loss`, float32, at most 0 (the pair is by far the best of its batch), seldom below -1; higher is
    better. Null where either embedding is null, zero or not finite. Unit: none (of cosines). Model: none of its own; it
    follows the embeddings that it reads. Source: Wang et al. 2024, arXiv 2405.19547 (batches of 32,768, T = 0.01, 0.07
    for a DFN teacher, 10 to 100 repetitions; the top 30% are kept).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    name: str = "clip"
    """The `name` of the two embedding signals."""
    prefix: str = ""
    """Begins the names of table and column, so that several stand side by side."""
    temperature: float = Field(default=0.01, gt=0)
    batch_size: int = Field(default=32_768, ge=2)
    repetitions: int = Field(default=10, ge=1)
    """Batches to average over; a pool of one batch has one. Each costs 2 ms of a core a row (512 dimensions)."""
    seed: int = 0

    def table_name(self) -> str:
        return f"{self.prefix}neg_clip_loss"

    def reads(self) -> tuple[str, ...]:
        return ("text_uid", "sample_uid", f"{self.name}_image_embedding", f"{self.name}_text_embedding")

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): pa.float32()})

    def fit_pool(self, parts: Iterable[pa.Table]) -> pa.Table:
        samples = [KeyedSample(self.batch_size, self.seed + 1_000_003 * k) for k in range(self.repetitions)]
        dim = 1
        for rows in parts:
            image_ND, text_ND = (embedding_matrix(rows.column(name))[0] for name in self.reads()[2:])
            known = self._known(rows)[2]
            dim = max(dim, image_ND.shape[1])
            indices = np.flatnonzero(known)
            pictures = [rows.column("sample_uid")[i].as_py() for i in indices]
            texts = [rows.column("text_uid")[i].as_py() for i in indices]
            kept = {
                "image": image_ND[indices].astype(np.float16),
                "text": text_ND[indices].astype(np.float16),
                "sample_uid": np.array(pictures, object),
            }
            for sample in samples:
                sample.add(pictures, texts, kept)
        if len(samples[0]) < self.batch_size:  # the whole pool: all batches are the same
            samples = samples[:1]
        return pa.concat_tables([_batch(k, sample, dim) for k, sample in enumerate(samples)])

    def _known(self, rows: pa.Table) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unit vectors of pictures and of texts, and which rows have both and their uids."""
        (image_ND, has_image), (text_ND, has_text) = (unit_vectors(rows.column(name)) for name in self.reads()[2:])
        has_uids = [rows.column(name).is_valid().to_numpy() for name in self.reads()[:2]]
        return image_ND, text_ND, has_image & has_text & has_uids[0] & has_uids[1]

    def apply(self, rows: pa.Table, fit: pa.Table) -> pa.Table:
        image_ND, text_ND, known = self._known(rows)
        image_ND, text_ND = image_ND[known], text_ND[known]
        pictures = rows.column("sample_uid").filter(pa.array(known)).to_pylist()
        own_N = (image_ND * text_ND).sum(axis=1)
        numbers = fit.column("batch").to_numpy()
        batches = [fit.filter(pa.array(numbers == k)) for k in np.unique(numbers)]
        if len(own_N) and not batches:
            raise ValueError(f"{self.table_name()}: the fit holds no pair")
        total_N = np.zeros(len(own_N), np.float64)
        for batch in batches:
            names = batch.column("sample_uid").to_pylist()
            place = {name: i for i, name in enumerate(names)}
            place_N = np.array([place.get(name, len(names) - 1) for name in pictures], np.int64)
            for vectors_ND, column in ((image_ND, "text"), (text_ND, "image")):
                others_MD = unit_vectors(batch.column(column))[0]
                total_N += log_sum_exp(vectors_ND, others_MD, own_N, place_N, self.temperature)
        value = np.zeros(len(known), np.float32)
        value[known] = own_N - self.temperature / 2 * total_N / max(1, len(batches))
        return as_table({self.table_name(): pa.array(value, mask=~known)}, self.writes())


def _batch(number: int, sample: KeyedSample, dim: int) -> pa.Table:
    """One batch as rows of the fit."""
    columns = sample.columns()
    present = np.ones(len(sample), bool)
    empty = np.zeros((0, dim), np.float16)
    return pa.table(
        {
            "batch": pa.array(np.full(len(sample), number, np.int32)),
            "sample_uid": pa.array(columns["sample_uid"] if columns else [], pa.string()),
            "image": embedding_array(columns.get("image", empty), present),
            "text": embedding_array(columns.get("text", empty), present),
        }
    )
