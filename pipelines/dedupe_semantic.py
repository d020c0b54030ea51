"""Semantic duplicates of the whole pool: pairs of stored embeddings that are alike, within clusters of k-means.

Three steps, each of write-once parts that are reused: centroids from a sample; for each part of the pool its vectors,
rounded and sorted by cluster; for each batch of clusters the pairs in it. A task of the last step reads from every part
just the row groups of its clusters, so nothing is shuffled and memory is bounded by a cluster. Who stays is the
policy's decision (`dedupe: name` with `of: semantic`).

A pool that grows keeps its centroids: they are fitted once for the settings and the embedding's model, on the pool as
it is then. New rows go to the kept ones, and only clusters that have got some are searched again; the pairs are those
that one go over all finds with the same centroids. Another `seed` (or number of clusters) in the recipe fits anew,
which is advisable when the pool has grown manifold: large clusters are split (`curation.semantic`), and pairs across
the pieces are not compared.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.duplicate_search import SemanticSearch
from curation.fitted import content_digest
from curation.scorers import embedding_matrix
from curation.semantic import (
    SAMPLE_PER_CLUSTER,
    assign,
    first_of_same,
    fit_centroids,
    neighbours,
    num_clusters,
    whole_numbers,
)
from curation.signal import Signal
from curation.step import digest
from curation.table import Part, find_part, open_part, read_part, write_part
from pipelines.part_rows import UID
from pipelines.stage import Run, Wanted, run_parts
from pipelines.views import SEMANTIC_EDGES
from pipelines.workers import Task

VERSION = 2
"""Of the rules in this file and in curation/semantic.py that decide pairs."""
TABLES = ("semantic_edges",)
SAME, ALIKE = "embedding (same)", "embedding"
VECTORS_AT_A_TIME = 50_000
"""Vectors of a batch of clusters, unless one cluster alone has more."""
OUTGROWN = 4
"""How many times the vectors that centroids were fitted on there must be for the run to say so: clusters of four times
the size take sixteen times the comparisons."""
STATE_DIGITS = 16
"""Hex digits of the digest of the settings that stand before the state of a cluster."""


def semantic_key(run: Run, settings: SemanticSearch) -> str:
    """Digest of the settings, of the centroids (None where there are none yet) and of the embeddings' parts."""
    kept = find_part(run.store.table("semantic_centroids"), 0, _centroids_key(run, settings))
    identities = [open_part(path).identity for path in _files(run, settings)]
    return digest("semantic", VERSION, settings, kept.identity if kept else None, identities)


def dedupe_semantic(run: Run, settings: SemanticSearch) -> dict[str, Any]:
    """Find the pairs of the whole pool; reused where settings and embeddings are the same."""
    made = find_part(run.store.table("semantic_edges"), 0, semantic_key(run, settings))
    reused = made is not None
    searched = 0
    if made is None:
        level = _signal(run, settings).level
        centroids = _centroids(run, settings)
        vectors = [] if centroids is None else _assigned(run, settings, centroids, UID[level])
        edges, searched = _pairs(run, settings, vectors)
        edges = edges.set_column(2, "level", pa.array([level] * edges.num_rows, pa.string()))
        edges = edges.sort_by([("uid", "ascending"), ("other_uid", "ascending")])
        stats = {
            "clusters": 0 if centroids is None else centroids.num_rows,
            "vectors": sum(part.num_rows for part in vectors),
        }
        if centroids is not None and stats["vectors"] >= OUTGROWN * centroids.stats["vectors"]:
            fitted = f"{centroids.stats['vectors']:,} vectors, now there are {stats['vectors']:,}"
            run.say(f"  centroids were fitted on {fitted}: another `duplicates.semantic.seed` fits them anew")
        made = write_part(run.store.table("semantic_edges"), 0, semantic_key(run, settings), edges, stats=stats)
    run.state.tables["semantic_edges"] = [run.store.relative(made.path)]
    counts = {"semantic_clusters": made.stats["clusters"], "semantic_pairs": made.num_rows,
              "semantic_clusters_searched": searched}  # fmt: skip
    return {**counts, "parts_run": int(not reused), "parts_reused": int(reused)}


def _signal(run: Run, settings: SemanticSearch) -> Signal:
    found = [s for s in run.recipe.signals_until(run.round_index) if settings.embedding in s.writes().names]
    return found[0]


def _files(run: Run, settings: SemanticSearch) -> list[Path]:
    return run.store.files(run.state, f"signal_{_signal(run, settings).table_name()}")


# centroids ------------------------------------------------------------------------------------------------------------


def _centroids_key(run: Run, settings: SemanticSearch) -> str:
    """Of all that decides the fit but the pool."""
    fit = (settings.embedding, settings.clusters, settings.iterations, settings.seed)
    return digest("semantic centroids", VERSION, fit, _signal(run, settings).key())


def _centroids(run: Run, settings: SemanticSearch) -> Part | None:
    """None where there is no vector yet; the kept ones, or k-means over the sample: the vectors whose uids have the
    smallest keyed digests, in the order of these."""
    folder, key = run.store.table("semantic_centroids"), _centroids_key(run, settings)
    part = find_part(folder, 0, key)
    if part is not None:
        return part
    files, uid = _files(run, settings), UID[_signal(run, settings).level]
    num = 0
    for path in files:
        num += pc.sum(pc.is_valid(read_part(path, [settings.embedding]).column(0))).as_py() or 0
    if num == 0:
        return None
    clusters = num_clusters(num) if settings.clusters == "auto" else settings.clusters
    chosen = set(heapq.nsmallest(clusters * SAMPLE_PER_CLUSTER, _draws(files, uid, settings)))
    picked: list[tuple[bytes, np.ndarray]] = []
    for path in files:
        uids, vectors_ND = _vectors(path, uid, settings.embedding)
        draws = [_draw(settings.seed, each) for each in uids]
        picked += [(draw, row) for draw, row in zip(draws, vectors_ND, strict=True) if draw in chosen]
    picked.sort(key=lambda each: each[0])
    sample_ND = whole_numbers(np.array([row for _, row in picked]).reshape(len(picked), -1))
    centroids_KD = fit_centroids(sample_ND, clusters, settings.iterations)
    rows = [row.astype("<i2").tobytes() for row in centroids_KD]
    table = pa.table({"centroid": pa.array(rows, pa.binary())})
    return write_part(folder, 0, key, table, identity=content_digest(table), stats={"vectors": num})


def _draws(files: list[Path], uid: str, settings: SemanticSearch) -> Iterator[bytes]:
    for path in files:
        table = read_part(path, [uid, settings.embedding])
        for each in table.column(uid).filter(pc.is_valid(table.column(settings.embedding))).to_pylist():
            yield _draw(settings.seed, each)


def _draw(seed: int, uid: str) -> bytes:
    return hashlib.blake2b(f"{seed} {uid}".encode(), digest_size=16).digest()


def _vectors(path: Path, uid: str, column: str) -> tuple[list[str], np.ndarray]:
    """The uids of a part's rows that have an embedding, and these (float32 N, D)."""
    table = read_part(path, [uid, column])
    vectors_ND, present_N = embedding_matrix(table.column(column))
    uids: list[str] = table.column(uid).filter(pa.array(present_N)).to_pylist()
    return uids, vectors_ND[present_N]


# vectors by cluster ---------------------------------------------------------------------------------------------------


def _assigned(run: Run, settings: SemanticSearch, centroids: Part, uid: str) -> list[Part]:
    folder = run.store.table("semantic_vectors")
    wanted = []
    for index, path in enumerate(_files(run, settings)):
        key = digest("semantic vectors", VERSION, centroids.identity, open_part(path).identity)
        arguments = {"embeddings": path, "uid": uid, "column": settings.embedding, "centroids": centroids.path,
                     "folder": folder, "index": index, "key": key}  # fmt: skip
        wanted.append(Wanted(folder, index, key, Task(f"clusters of part {index}", assign_part, arguments)))
    return run_parts(run, "dedupe, clusters of embeddings", wanted)[0]


def assign_part(
    embeddings: Path, uid: str, column: str, centroids: Path, folder: Path, index: int, key: str
) -> dict[str, Any]:
    """Round one part's vectors, find their clusters and publish them sorted by cluster. Runs in a worker."""
    uids, vectors_ND = _vectors(embeddings, uid, column)
    rows = read_part(centroids).column("centroid").to_pylist()
    centroids_KD = np.frombuffer(b"".join(rows), "<i2").reshape(len(rows), -1).astype(np.float32)
    whole_ND = whole_numbers(vectors_ND)
    cluster_N = assign(whole_ND, centroids_KD)[0] if len(uids) else np.zeros(0, np.int64)
    order = np.lexsort((np.array(uids, dtype=object), cluster_N)) if len(uids) else np.zeros(0, np.int64)
    table = pa.table(
        {
            "uid": pa.array([uids[k] for k in order], pa.string()),
            "cluster": pa.array(cluster_N[order], pa.int64()),
            "vector": pa.array([whole_ND[k].astype("<i2").tobytes() for k in order], pa.binary()),
        }
    )
    stats = {"sizes": np.bincount(cluster_N, minlength=len(rows)).tolist()}
    part = write_part(folder, index, key, table, stats=stats)
    return {"rows": part.num_rows}


# pairs ----------------------------------------------------------------------------------------------------------------


def _pairs(run: Run, settings: SemanticSearch, vectors: list[Part]) -> tuple[pa.Table, int]:
    """The pairs within all clusters, and how many clusters were searched for it.

    What was found for a cluster counts as long as the same parts have vectors in it.
    """
    folder = run.store.table("semantic_pairs")
    search = digest("semantic pairs", VERSION, settings.similarity, settings.iterations)
    sizes, states = _clusters(vectors)
    wanted = {str(c): f"{search[:STATE_DIGITS]}-{states[c]}" for c in np.flatnonzero(sizes).tolist()}
    known = [open_part(path) for path in sorted(folder.glob("[0-9]*.parquet"))]
    there = {(cluster, state) for part in known for cluster, state in part.stats["clusters"].items()}
    missing = [int(cluster) for cluster, state in wanted.items() if (cluster, state) not in there]
    tasks = []
    for index, clusters in enumerate(_batches(missing, sizes)):
        states_of = {str(cluster): wanted[str(cluster)] for cluster in clusters}
        paths = [part.path for part in vectors if any(part.stats["sizes"][cluster] for cluster in clusters)]
        key = digest(search, states_of)
        arguments = {"vectors": paths, "settings": settings, "states": states_of,
                     "folder": folder, "index": index, "key": key}  # fmt: skip
        name = f"pairs of {len(clusters)} clusters from {clusters[0]} on"
        tasks.append(Wanted(folder, index, key, Task(name, pairs_part, arguments)))
    made, _ = run_parts(run, "dedupe, pairs of embeddings", tasks)
    found, left = [SEMANTIC_EDGES.empty_table()], dict(wanted)
    for part in [*known, *made]:
        ours = [int(c) for c, state in part.stats["clusters"].items() if left.get(c) == state]
        for cluster in ours:
            del left[str(cluster)]
        if ours:
            edges = read_part(part.path).replace_schema_metadata(None)
            found.append(edges.filter(pc.is_in(edges.column("cluster"), pa.array(ours, pa.int64()))))
    return pa.concat_tables(found), len(missing)


def _clusters(vectors: list[Part]) -> tuple[np.ndarray, list[str]]:
    """For each cluster the number of its vectors (int64, K), and in which parts they are: a sum of these' digests."""
    num = max((len(part.stats["sizes"]) for part in vectors), default=0)
    total, sums = np.zeros(num, np.int64), np.zeros((num, 2), np.uint64)
    for part in vectors:
        sizes = np.array(part.stats["sizes"], np.int64)
        total += sizes
        sums[sizes > 0] += np.frombuffer(hashlib.blake2b(part.identity.encode(), digest_size=16).digest(), "<u8")
    return total, [f"{one:016x}{other:016x}" for one, other in sums.tolist()]


def _batches(clusters: list[int], sizes: np.ndarray) -> Iterator[list[int]]:
    """Clusters in order, as many as have `VECTORS_AT_A_TIME` vectors together; at least one."""
    batch, held = list[int](), 0
    for cluster in clusters:
        if batch and held + sizes[cluster] > VECTORS_AT_A_TIME:
            yield batch
            batch, held = [], 0
        batch.append(cluster)
        held += sizes[cluster]
    if batch:
        yield batch


def pairs_part(
    vectors: list[Path], settings: SemanticSearch, states: dict[str, str], folder: Path, index: int, key: str
) -> dict[str, Any]:
    """Compare the vectors within each of some clusters and publish the pairs. Runs in a worker."""
    inside = [("cluster", "in", [int(cluster) for cluster in states])]
    rows = pa.concat_tables([pq.read_table(path, filters=inside, page_checksum_verification=True) for path in vectors])
    rows = rows.sort_by([("cluster", "ascending"), ("uid", "ascending")])
    cluster_N = rows.column("cluster").to_numpy()
    found = [SEMANTIC_EDGES.empty_table()]
    for cluster in np.unique(cluster_N).tolist():
        begin, end = np.searchsorted(cluster_N, [cluster, cluster + 1]).tolist()
        found.append(_cluster_pairs(rows.slice(begin, end - begin), cluster, settings))
    write_part(folder, index, key, pa.concat_tables(found), stats={"clusters": states})
    return {"rows": rows.num_rows}


def _cluster_pairs(rows: pa.Table, cluster: int, settings: SemanticSearch) -> pa.Table:
    """Equal vectors as stars around the first of them, and the pairs of these first ones."""
    whole_ND = np.frombuffer(b"".join(rows.column("vector").to_pylist()), "<i2").reshape(rows.num_rows, -1)
    same = first_of_same(whole_ND)
    copies = np.flatnonzero(same != np.arange(len(same)))
    firsts = np.flatnonzero(same == np.arange(len(same)))
    pairs = neighbours(whole_ND[firsts].astype(np.float32), settings.similarity, settings.iterations)
    uids = rows.column("uid").combine_chunks()
    i = np.concatenate([same[copies], firsts[pairs.i]])
    j = np.concatenate([copies, firsts[pairs.j]])
    return pa.table(
        {
            "uid": uids.take(pa.array(i)),
            "other_uid": uids.take(pa.array(j)),
            "level": pa.nulls(len(i), pa.string()),
            "kind": pa.array([SAME] * len(copies) + [ALIKE] * len(pairs.i), pa.string()),
            "similarity": np.concatenate([np.ones(len(copies)), pairs.similarity]),
            "cluster": pa.array(np.full(len(i), cluster)),
        }
    ).cast(SEMANTIC_EDGES)
