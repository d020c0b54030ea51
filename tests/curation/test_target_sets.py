"""Target sets: three file formats, and what is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from curation.signals.norm_sim import NormSim
from curation.target_sets import load_targets, target_digest

VECTORS = np.array([[3, 4], [0, 2]], np.float32)
UNIT = [[pytest.approx(0.6), pytest.approx(0.8)], [0, 1]]


def test_three_formats(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VECTORS.astype(np.float16))
    np.savez(tmp_path / "b.npz", embeddings=VECTORS, labels=np.array(["x", "y"]))
    for number, kind in enumerate((pa.list_(pa.float32()), pa.list_(pa.float16(), 2), pa.list_(pa.float64()))):
        column = pa.array(VECTORS.tolist(), pa.list_(pa.float32())).cast(kind)
        pq.write_table(pa.table({"embedding": column, "label": [1, 2]}), tmp_path / f"c{number}.parquet")
    found = {path.name: load_targets(path) for path in sorted(tmp_path.iterdir())}
    assert [each.vectors_MD.tolist() for each in found.values()] == [UNIT] * 5
    assert found["a.npy"].labels is None
    assert found["b.npz"].labels == ("x", "y")
    assert found["c0.parquet"].labels == ("1", "2")
    assert found["a.npy"].vectors_MD.dtype == np.float32


def test_what_is_refused(tmp_path: Path) -> None:
    def refused(name: str, message: str, **arrays: object) -> None:
        path = tmp_path / name
        if path.suffix == ".npy":
            np.save(path, arrays["a"])  # type: ignore[arg-type]
        elif path.suffix == ".npz":
            np.savez(path, **arrays)  # type: ignore[arg-type]
        elif path.suffix == ".parquet":
            pq.write_table(pa.table(arrays), path)
        else:
            path.write_text("0.1 0.2")
        with pytest.raises(ValueError, match=message):
            load_targets(path)

    refused("one.npy", r"expected floats of shape .* found float32 \(2,\)", a=VECTORS[0])
    refused("none.npy", "expected floats", a=VECTORS[:0])
    refused("int.npy", "expected floats", a=np.ones((2, 2), int))
    refused("zero.npy", "row 1 is null, zero or not finite", a=VECTORS * [[1], [0]])
    refused("nan.npy", "row 0 is null, zero or not finite", a=VECTORS * [[np.nan], [1]])
    refused("other.npz", "has no array `embeddings`; its arrays: x", x=VECTORS)
    refused("short.npz", "1 labels for 2 vectors", embeddings=VECTORS, labels=np.array(["x"]))
    refused("other.parquet", "has no column `embedding`; its columns: x", x=[1.0])
    refused("scalar.parquet", "must be a list of floats", embedding=[1.0])
    refused("null.parquet", "must be a list of floats", embedding=[[1.0], None])
    refused("ragged.parquet", "vectors of different lengths", embedding=[[1.0], [1.0, 2.0]])
    refused("table.txt", "a target set is a .npy, .npz or .parquet file")
    with pytest.raises(FileNotFoundError, match=r"no target set .*nowhere.npy"):
        target_digest(tmp_path / "nowhere.npy")
    for name, message in (("nowhere.npy", "no target set"), ("other.npz", "has no array `embeddings`")):
        with pytest.raises(ValidationError, match=message):
            NormSim(target=tmp_path / name)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        load_targets(tmp_path / "objects.npy")
    (tmp_path / "plain.npy").write_bytes(pickle.dumps([1.0]))
    with pytest.raises(ValueError, match="pickle"):
        load_targets(tmp_path / "plain.npy")
