"""How link tables are sorted into the pool: on disk, so that memory holds some batches of links, not all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.schema import LINKS, TEXTS
from curation.table import TEMPORARY_PREFIX
from pipelines import database
from pipelines.stage import AccountingError
from pipelines.store import PoolPart, Store

SORTED_ROWS = 50_000
"""Rows that are taken from the sort at a time."""
ROW, PART, KNOWN = "tamis__row", "tamis__part", "tamis__known"
"""Columns that rows have on their way, under names that no link table has."""
SORT_MEMORY = "1GB"
"""What the sort may hold before it goes to disk; a link of 200 bytes takes about 600."""


class Growth:
    """Links on their way into the pool: taken in batches, given back sorted, part by part."""

    def __init__(self, store: Store, scratch: Path) -> None:
        self.scratch = scratch
        self.rows = 0
        self._files: list[Path] = []
        self._con = database.connect(spill=scratch, memory_limit=SORT_MEMORY)
        self._known = store.pool()

    def take(self, batch: pa.Table) -> None:
        """Rows with sample_uid and text_uid, in the order of the link tables."""
        numbers = pa.array(np.arange(self.rows, self.rows + batch.num_rows))
        self._files.append(self.scratch / f"incoming-{len(self._files):06d}.parquet")
        pq.write_table(batch.append_column(ROW, numbers), self._files[-1], compression="lz4")
        self.rows += batch.num_rows

    def parts(self, samples_per_part: int) -> Iterator[tuple[int, pa.Table]]:
        """(part, its rows sorted by sample and by appearance): the parts that have new rows, by number.

        A known sample's rows are its part's; new samples make new parts in the order of their uids. `KNOWN` tells
        whether the pool has the text.
        """
        database.create_view(self._con, "incoming", self._files)
        texts, links = ([getattr(each, kind).path for each in self._known] for kind in ("texts", "links"))
        database.create_view(self._con, "known_texts", texts, TEXTS)
        database.create_view(self._con, "known_links", links, pa.schema([*LINKS, ("filename", pa.string())]), True)
        homes = {"filename": [str(path) for path in links], "part": [each.index for each in self._known]}
        self._con.register(
            "homes", pa.table(homes, schema=pa.schema([("filename", pa.string()), ("part", pa.int64())]))
        )
        sorted_rows = database.batches(self._con, database.query("ingest/placed_rows"), SORTED_ROWS)
        first_new = max((each.index for each in self._known), default=-1) + 1
        held: list[pa.Table] = []
        current = -1
        for batch, parts in _placed(sorted_rows, first_new, samples_per_part):
            for start, end in pairwise([0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(parts)]):
                if parts[start] != current and held:
                    yield current, pa.concat_tables(held)
                    held = []
                current = int(parts[start])
                held.append(batch.slice(start, end - start))
        if held:
            yield current, pa.concat_tables(held)

    def reconcile(self, parts: list[PoolPart]) -> None:
        """What was written, read back: every text that came in stands in the pool, and none twice.

        Raises AccountingError; the pool is then as it was before.
        """
        database.create_view(self._con, "grown_texts", [each.texts.path for each in parts], TEXTS)
        (found,) = database.rows(self._con, database.query("ingest/lost_or_doubled"))
        if found["lost"] or found["doubled"]:
            raise AccountingError(
                f"ingest: {found['lost']} texts of the links are not in the pool, {found['doubled']} are there twice"
            )


@contextmanager
def growing(store: Store) -> Iterator[Growth]:
    """A `Growth` with a folder of its own in the store, gone afterwards; of one that was killed the store's lock makes
    an end."""
    with TemporaryDirectory(prefix=f"{TEMPORARY_PREFIX}ingest-", dir=store.root) as scratch:
        yield Growth(store, Path(scratch))


def _placed(batches: Iterable[pa.Table], first_new: int, per_part: int) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Each batch of sorted rows and the part of each row (int64)."""
    last: str | None = None
    new_samples = 0
    for batch in batches:
        samples = batch.column("sample_uid").combine_chunks()
        is_new = pc.is_null(batch.column(PART)).to_numpy()
        starts = is_first(samples)
        starts[0] = samples[0].as_py() != last
        number = new_samples + np.cumsum(starts & is_new) - 1
        known = pc.fill_null(batch.column(PART), 0).to_numpy()
        yield batch, np.where(is_new, first_new + number // per_part, known)
        last, new_samples = samples[-1].as_py(), int(number[-1]) + 1


def is_first(samples: pa.Array) -> np.ndarray:
    """Of a sorted column: bool of each value, whether it is the first of its kind."""
    differs = pc.not_equal(samples[1:], samples[:-1]).to_numpy(zero_copy_only=False)
    return np.concatenate([np.ones(min(1, len(samples)), bool), np.asarray(differs, bool)])


def folded(rows: pa.Table, extra: Sequence[str] = ()) -> pa.Table:
    """One row for each text of `rows`, as it first appears, with the languages that are claimed for it.

    Column `language` becomes language_claimed, the first that is not null, and languages_claimed, all of them, sorted.
    Of an `extra` column, too, the first value that is not null stays: so the pool is the same whether the rows come in
    one link table or one after the other.
    """
    uids = rows.column("text_uid").combine_chunks()
    text_of = uids.dictionary_encode().indices.to_numpy()
    _, first = np.unique(text_of, return_index=True)  # numbers are given in the order of appearance
    claims: list[list[str]] = [[] for _ in first]
    languages = rows.column("language")
    if languages.null_count < len(languages):
        for text, language in zip(text_of.tolist(), languages.to_pylist(), strict=True):
            if language is not None and language not in claims[text]:
                claims[text].append(language)
    unique = rows.drop_columns(["language"])
    if len(first) < len(uids):
        unique = unique.take(first)
        for name in extra:
            known = np.flatnonzero(rows.column(name).is_valid().to_numpy())
            text, place = np.unique(text_of[known], return_index=True)
            value = first.copy()
            value[text] = known[place]
            unique = unique.set_column(unique.column_names.index(name), name, rows.column(name).take(value))
    unique = unique.append_column(
        "language_claimed", pa.array([next(iter(each), None) for each in claims], pa.string())
    )
    return unique.append_column("languages_claimed", pa.array([sorted(each) for each in claims], pa.list_(pa.string())))
