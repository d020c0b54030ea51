"""Pairs of texts as a search over the pool: normal forms and keys of each part, buckets of keys, pairs of a bucket.

Texts of one normal form are one *form*. A form goes with its text into the bucket of each of its band keys; a pair is
found wherever its keys meet. Size of the bucketed files: 60 bytes a form and band, compressed: 1 KB a caption
with the 16 bands of the default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.duplicate_search import TextSearch
from curation.minhash import MAX_HASHES, Bands, band_keys, choose_bands, meeting, runs_of
from curation.set_join import Asked
from curation.shingles import normal_form, shingle_sets
from curation.table import read_part, write_part
from pipelines.bucket_search import Cut, Job, Rows

FORM_BYTES = 16
FORMS = pa.schema(
    [("text_uid", pa.string()), ("form", pa.binary(FORM_BYTES)), ("normal", pa.string()), ("keys", pa.binary())]
)
"""form: digest of the normal form; keys: uint64 of each band, little-endian. All null where there is no normal form."""
TEXT_PAIRS = pa.schema(
    [("form_a", pa.binary(FORM_BYTES)), ("form_b", pa.binary(FORM_BYTES)), ("similarity", pa.float64())]
)


def bands_of(settings: TextSearch) -> Bands:
    """The bands that the settings ask for."""
    return choose_bands(settings.similarity, settings.recall, MAX_HASHES)


def forms_part(source: Path, settings: TextSearch, folder: Path, index: int, key: str) -> dict[str, Any]:
    """Normal forms and band keys of one part of texts. Runs in a worker."""
    table = read_part(source)
    texts = table.column(settings.column) if settings.column in table.column_names else pa.nulls(table.num_rows)
    normal = normal_form(texts.cast(pa.string()))
    if settings.min_words > 1:
        num_words = pc.add(pc.count_substring(normal, " "), 1)
        normal = pc.if_else(pc.fill_null(pc.greater_equal(num_words, settings.min_words), False), normal, None)
    keys = band_keys(shingle_sets(normal, settings.words, settings.characters), bands_of(settings))
    data, width = np.ascontiguousarray(keys.T).astype("<u8").tobytes(), 8 * len(keys)
    there = normal.is_valid()
    forms = [None if each is None else _form(each) for each in normal.to_pylist()]
    packed = pa.array([data[k * width : (k + 1) * width] for k in range(len(normal))], pa.binary())
    columns = [table.column("text_uid"), pa.array(forms, pa.binary(FORM_BYTES)), normal.cast(pa.string())]
    made = pa.table([*columns, pc.if_else(there, packed, None)], schema=FORMS)
    part = write_part(folder, index, key, made, unique=["text_uid"])
    return {"rows": part.num_rows}


def _form(normal: str) -> bytes:
    return hashlib.blake2b(normal.encode(), digest_size=FORM_BYTES).digest()


@dataclass(frozen=True, kw_only=True)
class TextJob(Job):
    """Pairs of forms of the similarity; an item is the first 8 bytes of a form. Its parts are those of `forms_part`."""

    what = "near-duplicate texts"
    bucket_table = "text_buckets"
    entries_per_row = 1

    search: TextSearch

    @property
    def num_bands(self) -> int:
        return bands_of(self.search).num_bands

    def entries(self, path: Path, num_groups: int) -> pa.Table:
        forms = _there(read_part(path, ["form", "normal", "keys"]))
        keys_BN = self._keys(forms)
        bands = np.arange(len(keys_BN))[:, None] * num_groups
        buckets = bands + (keys_BN % np.uint64(num_groups)).astype(np.int64)
        rows = np.tile(np.arange(forms.num_rows), len(keys_BN))
        repeated = forms.select(["form", "normal"]).take(pa.array(rows))
        columns = {
            "bucket": buckets.ravel().astype(np.int32),
            "item": np.tile(_items(forms), len(keys_BN)),
            "row": rows.astype(np.int32),
            "key": keys_BN.ravel(),
        }
        return pa.table({**columns, "form": repeated.column("form"), "normal": repeated.column("normal")})

    def search_whole(self) -> dict[str, Any]:
        tables = [_there(read_part(path, ["form", "keys"])) for path in self.files]
        sizes = np.array([table.num_rows for table in tables], np.int64)
        rows = pa.concat_tables(tables)
        # the first of equal forms: old parts come first
        _, first = np.unique(_items(rows), return_index=True)
        is_new = first >= sizes[: self.num_old].sum()
        rows = rows.take(pa.array(first))
        meets, keys_BN = self._meeting(self._keys(rows), is_new)
        ends = np.cumsum(sizes)
        part = np.searchsorted(ends, first[meets], side="right")
        texts = np.empty(len(meets), object)
        for number in np.unique(part).tolist():
            normal = _there(read_part(self.files[number], ["form", "normal"])).column("normal")
            which = np.flatnonzero(part == number)
            texts[which] = normal.take(pa.array(first[meets][which] - (ends - sizes)[number])).to_pylist()
        asked = Asked(is_new[meets], np.zeros(len(meets), np.int64))
        return self._compare(0, rows.column("form").take(pa.array(meets)), pa.array(texts, pa.string()), keys_BN, asked)

    def search_rows(self, index: int, rows: Rows, cut: Cut) -> dict[str, Any]:
        once = np.searchsorted(rows.item, np.arange(len(rows.items)))
        is_new = rows.places[:, 0] >= self.num_old
        keys_N = rows.columns.column("key").to_numpy()[once]
        meets, keys_BN = self._meeting(keys_N[None], is_new)
        chosen = rows.columns.select(["form", "normal"]).take(pa.array(once[meets]))
        asked = Asked(is_new[meets], cut.slice_of(rows.items[meets]), cut.one != cut.other)
        return self._compare(index, chosen.column("form"), chosen.column("normal").combine_chunks(), keys_BN, asked)

    def _keys(self, forms: pa.Table) -> np.ndarray:
        """uint64 (bands, N)."""
        data = b"".join(forms.column("keys").to_pylist())
        return np.ascontiguousarray(np.frombuffer(data, "<u8").reshape(forms.num_rows, self.num_bands).T)

    def _meeting(self, keys_BN: np.ndarray, is_new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows that meet another one, one of them new, in a band; and their keys. Most texts meet none."""
        meets = np.zeros(keys_BN.shape[1], bool)
        asked = Asked(is_new, np.zeros(len(is_new), np.int64))
        for keys_N in keys_BN:
            order, starts, sizes = runs_of(keys_N, asked)
            inside = np.zeros(len(order) + 1, np.int64)
            inside[starts] += 1
            inside[starts + sizes] -= 1
            meets[order[np.cumsum(inside[:-1]) > 0]] = True
        return np.flatnonzero(meets), keys_BN[:, meets]

    def _compare(
        self, index: int, forms: pa.ChunkedArray, normal: pa.Array, keys_BN: np.ndarray, asked: Asked
    ) -> dict[str, Any]:
        """Compare what meets, and publish the pairs in the order of their forms."""
        sets = shingle_sets(normal.cast(pa.large_string()), self.search.words, self.search.characters)
        pairs = meeting(sets, keys_BN, self.search.similarity, asked=asked)
        columns = [forms.combine_chunks().take(pa.array(ends)) for ends in (pairs.i, pairs.j)]
        made = pa.table([*columns, pa.array(pairs.similarity)], schema=TEXT_PAIRS)
        write_part(self.folder, index, self.key, made, stats=self.stats)
        return {"pairs": len(pairs.i)}


def _there(forms: pa.Table) -> pa.Table:
    return forms.filter(pc.is_valid(forms.column("form")))


def _items(forms: pa.Table) -> np.ndarray:
    """uint64 (N): the first 8 bytes of the forms."""
    data = b"".join(forms.column("form").to_pylist())
    return np.frombuffer(data, ">u8").reshape(-1, FORM_BYTES // 8)[:, 0].astype(np.uint64)
