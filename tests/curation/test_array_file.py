"""Arrays in a file: verified piece by piece, and the same after their pages were let go."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from curation import array_file


@pytest.mark.parametrize("pages", [1, 3, 1000])
def test_a_large_file_is_verified_in_pieces(pages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_file, "_PIECE_BYTES", pages * mmap.PAGESIZE)
    arrays = {"a": np.arange(5000), "none": np.zeros(0, np.int32), "b": np.linspace(0, 1, 3000).reshape(30, 100)}
    path = tmp_path / "some.arrays"
    array_file.save(path, arrays, durable=False)
    found = array_file.load(path)
    assert {name: array.dtype for name, array in found.items()} == {name: a.dtype for name, a in arrays.items()}
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    whole = path.read_bytes()
    for at in (20, mmap.PAGESIZE - 1, mmap.PAGESIZE, 3 * mmap.PAGESIZE + 7, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            array_file.load(path)
