"""Target sets: embeddings of pictures or classes that a pool is compared with, in files that run no code.

Such a file comes from a store (`tamis sql STORE "select clip_image_embedding as embedding, category as label from ..."
-o FILE.parquet`) or from whoever embedded an evaluation set with the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator

from curation.file_digest import known_digest
from curation.similarity import unit_vectors


@dataclass(frozen=True)
class TargetSet:
    """Unit vectors, float32 (M, D), and their labels, or None."""

    vectors_MD: np.ndarray
    labels: tuple[str, ...] | None


def target_digest(path: Path) -> str:
    """SHA-256 of the file. Raises FileNotFoundError naming it where it is not there."""
    if not path.is_file():
        raise FileNotFoundError(f"no target set {path}: a .npy, .npz or .parquet file of embeddings")
    return known_digest(path)


def load_targets(path: Path) -> TargetSet:
    """Read `.npy` (M, D), `.npz` (`embeddings`, perhaps `labels`) or `.parquet` (columns `embedding`, perhaps `label`).

    Raises ValueError where the file holds something else, no vector, or one that is null, zero or not finite.
    """
    return _load(path, target_digest(path))


@lru_cache(maxsize=4)
def _load(path: Path, _digest: str) -> TargetSet:
    vectors, labels = _read(path)
    if vectors.ndim != 2 or not len(vectors) or not np.issubdtype(vectors.dtype, np.floating):
        raise ValueError(
            f"{path}: expected floats of shape (vectors, dimensions), found {vectors.dtype} {vectors.shape}"
        )
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).ravel())
    vectors_MD, present_M = unit_vectors(pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]))
    if not present_M.all():
        raise ValueError(f"{path}: row {int(np.flatnonzero(~present_M)[0])} is null, zero or not finite")
    if labels is not None and len(labels) != len(vectors_MD):
        raise ValueError(f"{path}: {len(labels)} labels for {len(vectors_MD)} vectors")
    return TargetSet(vectors_MD, labels)


def _read(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The file's array and labels, unchecked."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        if "embedding" not in table.column_names:
            raise ValueError(f"{path}: has no column `embedding`; its columns: {', '.join(table.column_names)}")
        column = table.column("embedding").combine_chunks()
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)) or column.null_count:
            raise ValueError(f"{path}: `embedding` must be a list of floats in every row")
        lengths = {len(row) for row in column}
        if len(lengths) > 1:
            raise ValueError(f"{path}: vectors of different lengths: {sorted(lengths)}")
        values = np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), -1)
        labels = table.column("label").to_pylist() if "label" in table.column_names else None
    elif path.suffix in (".npy", ".npz"):
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found, None
        if "embeddings" not in found:
            raise ValueError(f"{path}: has no array `embeddings`; its arrays: {', '.join(found)}")
        values, labels = found["embeddings"], found["labels"].tolist() if "labels" in found else None
    else:
        raise ValueError(f"{path}: a target set is a .npy, .npz or .parquet file")
    return values, None if labels is None else tuple(str(label) for label in labels)


def _loadable(path: Path) -> Path:
    """A recipe that names a file which is not there or holds something else is refused when it is read."""
    try:
        load_targets(path)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from None
    return path


TargetFile = Annotated[Path, AfterValidator(_loadable)]
"""The path of a target set, in a signal's field; relative to the working directory."""
