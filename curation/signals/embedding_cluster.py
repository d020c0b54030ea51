"""Embedding cluster: which part of the pool's space a picture lies in, and how near to its middle."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.fitted import FittedSignal
from curation.keyed_sample import KeyedSample
from curation.kmeans import spherical_kmeans
from curation.scorers import embedding_matrix
from curation.signal import Level, as_table
from curation.similarity import nearest, unit_vectors
from curation.target_sets import TargetFile, load_targets, target_digest

POINTS_PER_CLUSTER = 256
"""Points to fit a centroid on: more change it little (the default of faiss, max_points_per_centroid)."""
MAX_SAMPLE = 1_000_000
"""Most points that are fitted on unless the recipe says otherwise: 3 GB at 512 dimensions."""


class EmbeddingCluster(FittedSignal):
    """The cluster of a picture's embedding, by spherical k-means fitted on a keyed sample of the pool's pictures.

    Columns: `cluster_id`, int32, 0 to `num_clusters` - 1 (a pool of fewer different pictures has as many clusters; the
    numbers mean nothing across fits); `cluster_distance`, float32, 1 - cosine to the centroid, 0 to 2;
    `cluster_has_target`, bool: whether the centroid is also the nearest one of some item of `target`, null without a
    target. All null without an embedding. Unit: none. Model: none of its own; it follows the embeddings that it reads.
    Source: DataComp, arXiv 2304.14108, image-based filtering (100,000 clusters of L/14 features, 20 iterations of
    faiss; pictures are kept whose cluster holds an ImageNet-1k training picture); SemDeDup, arXiv 2303.09540.
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "media"
    not_in_key: ClassVar[frozenset[str]] = frozenset({"fit", "target"})

    name: str = "clip"
    """The `name` of the image embedding signal."""
    prefix: str = ""
    """Begins the names of table and columns, so that several stand side by side."""
    num_clusters: int = Field(default=1000, ge=1)
    iterations: int = Field(default=20, ge=1)
    sample_size: int | None = Field(default=None, ge=1)
    """Pictures to fit on; None: 256 for each cluster, at most a million."""
    seed: int = 0
    target: TargetFile | None = None
    """A file of embeddings (see `curation.target_sets`); its digest is in the key."""

    def table_name(self) -> str:
        return f"{self.prefix}embedding_cluster"

    def key_extras(self) -> dict[str, object]:
        return {"target": target_digest(self.target) if self.target else None}

    def reads(self) -> tuple[str, ...]:
        return ("media_uid", f"{self.name}_image_embedding")

    def writes(self) -> pa.Schema:
        kinds = {"cluster_id": pa.int32(), "cluster_distance": pa.float32(), "cluster_has_target": pa.bool_()}
        return pa.schema({self.prefix + name: kind for name, kind in kinds.items()})

    def fit_pool(self, parts: Iterable[pa.Table]) -> pa.Table:
        wanted = self.sample_size or min(POINTS_PER_CLUSTER * self.num_clusters, MAX_SAMPLE)
        sample, dim = KeyedSample(wanted, self.seed), 1
        for rows in parts:
            image_ND = embedding_matrix(rows.column(self.reads()[1]))[0]
            dim = max(dim, image_ND.shape[1])
            indices = np.flatnonzero(unit_vectors(rows.column(self.reads()[1]))[1])
            uids = rows.column("media_uid").take(pa.array(indices)).to_pylist()
            sample.add(uids, uids, {"image": image_ND[indices].astype(np.float16)})
        points_ND = sample.columns().get("image", np.zeros((0, dim), np.float16)).astype(np.float32)
        points_ND /= np.linalg.norm(points_ND, axis=1, keepdims=True)
        centroids_KD = spherical_kmeans(points_ND, self.num_clusters, self.iterations)
        targeted = np.zeros(len(centroids_KD), bool)
        if self.target is not None and len(centroids_KD):
            targeted[nearest(load_targets(self.target).vectors_MD, centroids_KD)[0]] = True
        return pa.table(
            {
                "centroid": pa.FixedSizeListArray.from_arrays(pa.array(centroids_KD.ravel()), centroids_KD.shape[1]),
                "has_target": pa.array(targeted, mask=np.full(len(targeted), self.target is None)),
            }
        )

    def apply(self, rows: pa.Table, fit: pa.Table) -> pa.Table:
        image_ND, known = unit_vectors(rows.column(self.reads()[1]))
        image_ND = image_ND[known]
        number, distance = np.zeros(len(known), np.int32), np.zeros(len(known), np.float32)
        has_target: list[bool | None] = [None] * len(known)
        if len(image_ND):
            index_N, cosine_N = nearest(image_ND, unit_vectors(fit.column("centroid"))[0])
            number[known], distance[known] = index_N, np.clip(1 - cosine_N, 0, 2)
            targeted = fit.column("has_target").to_pylist()
            for row, cluster in zip(np.flatnonzero(known), index_N, strict=True):
                has_target[row] = targeted[cluster]
        columns = (pa.array(number, mask=~known), pa.array(distance, mask=~known), has_target)
        return as_table(dict(zip(self.writes().names, columns, strict=True)), self.writes())
