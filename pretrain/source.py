"""One dataset of a run: which rows of a version qualify, how often each is seen, and which of its texts are drawn.

`Subset`s come from SQL without packing anew: `tamis sql STORE "select sample_uid, ... as weight" -o subset.parquet`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pretrain.config import Clause, ConfigError, TextPolicy
from pretrain.embeddings.base import OF_TEXTS
from pretrain.keyed import key, mix
from pretrain.order import Epochs
from pretrain.rows import MEDIA, Rows
from pretrain.version import Version


@dataclass(frozen=True)
class Seen:
    """One sample as it is seen at one place: the row of its version and the texts drawn, by their places."""

    epoch: int
    row: int
    text_rows: tuple[int, ...]


class Source:
    """The samples of a version that qualify and their endless order.

    rows_N: int64, rows of the version; ok_T: bool for each text of the version, None where all may be drawn;
    weight_T: float64, how readily each text is drawn, None where all alike.
    """

    def __init__(
        self,
        rows: Rows,
        rows_N: np.ndarray,
        seed: int,
        captions_per_image: int,
        ok_T: np.ndarray | None = None,
        weight_T: np.ndarray | None = None,
        weight_N: np.ndarray | None = None,
    ) -> None:
        self.rows, self.rows_N, self._seed, self._captions = rows, rows_N, seed, captions_per_image
        self._ok_T, self._weight_T = ok_T, weight_T
        self.epochs = Epochs(len(rows_N), rows.version.digest, seed, weight_N)

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def num_texts(self) -> int:
        """Texts of its samples that may be drawn."""
        counts = np.concatenate([counts for counts, _ in self.rows.texts_by_shard([])])
        if self._ok_T is not None:
            of_text = np.repeat(np.arange(len(counts)), counts)
            counts = np.bincount(of_text[self._ok_T], minlength=len(counts))
        return int(counts[self.rows_N].sum())

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(epoch, row of the version) at each place of the endless order."""
        epochs, entries = self.epochs.at(places)
        return epochs, self.rows_N[entries]

    def texts_of(self, row: int) -> list[int]:
        """Places of the texts of a row that may be drawn."""
        found = self.rows.text_rows(row)
        if self._ok_T is None:
            return list(found)
        return [found.start + int(i) for i in np.flatnonzero(self._ok_T[found.start : found.stop])]

    def draw_said(self, epoch: int, text_row: int, field: str, uid: str) -> str:
        """What the version says of a text in `field`, a text or a list of them (or of structs with `text`) of which one
        is drawn for this epoch; empty where it says nothing."""
        said = self.rows.of_text(text_row, field) if text_row >= 0 else None
        if isinstance(said, list):
            said = said[int(key("said", self._seed, epoch, uid, text_row) % np.uint64(len(said)))] if said else None
        return str(said["text"] if isinstance(said, dict) else said or "")

    def draw_texts(self, epoch: int, row: int, uid: str) -> tuple[int, ...]:
        """`captions_per_image` texts of a row for this epoch: different ones as far as it has as many; none if none.

        With weights: without replacement, each draw in proportion to them (Efraimidis and Spirakis 2006).
        """
        texts = self.texts_of(row)
        if len(texts) <= 1:
            return tuple(texts) * self._captions
        draws = mix(np.arange(len(texts), dtype=np.uint64), key("text", self._seed, epoch, uid))
        if self._weight_T is None:
            order = np.argsort(draws, kind="stable")
        else:
            uniform = (draws >> np.uint64(11)).astype(np.float64) + 0.5
            with np.errstate(divide="ignore"):
                waits = -np.log(uniform / (1 << 53)) / self._weight_T[texts]
            order = np.argsort(waits, kind="stable")
        return tuple(texts[order[k % len(texts)]] for k in range(self._captions))


def open_source(
    rows: Rows,
    *,
    where: tuple[Clause, ...],
    subset: str | None,
    exclude_languages: tuple[str, ...],
    policy: TextPolicy,
    seed: int,
    captions_per_image: int,
    wanted: frozenset[str] = frozenset({"image", "text"}),
    is_whole: np.ndarray | None = None,
) -> Source:
    """The rows that meet the conditions, are in the subset, and have at least two of what the model wants (one, where
    it wants but one): a text to draw, a picture that decodes, a sound, a film.

    wanted: sources that the model reads. is_whole: bool for each row of the version, whether its picture decodes, None
    where that is not known before. Raises ConfigError where nothing is left, or a column is not there.
    """
    version = rows.version
    keep = meets(version, where)
    weights = None
    if subset is not None:
        weights = read_subset(Path(subset), rows)
        keep &= weights > 0
        if not keep.any():
            raise ConfigError(f"subset: {subset} names none of the samples of {version.folder.name} that qualify")
    ok_T = _allowed(rows, frozenset(exclude_languages), None if policy.sources is None else tuple(policy.sources))
    counts = [counts for counts, _ in rows.texts_by_shard([])]
    of_text = np.repeat(np.arange(len(rows)), np.concatenate(counts))
    there = {name: rows.has(name) for name in wanted if name in MEDIA}
    if is_whole is not None and "image" in there:
        there["image"] &= is_whole
    weight_T = None
    if "text" in wanted:
        there["text"] = np.bincount(of_text[ok_T], minlength=len(rows)) > 0
        if not (keep & there["text"]).any():
            raise ConfigError(f"exclude_languages, texts.sources: no text of {version.folder.name} is left")
        weight_T = _column_weights(rows, policy.weight_column)
        if weight_T is not None:
            ok_T &= weight_T > 0
            there["text"] = np.bincount(of_text[ok_T], minlength=len(rows)) > 0
        if policy.sources is not None:
            by_source_T = _source_weights(rows, policy.sources, ok_T, of_text)
            weight_T = by_source_T if weight_T is None else weight_T * by_source_T
    needed = min(2, sum(not name.startswith(OF_TEXTS) for name in wanted))
    keep &= sum((each.astype(np.int64) for each in there.values()), np.zeros(len(rows), np.int64)) >= needed
    if policy.language_alpha not in (None, 1.0) and "text" in wanted and keep.any():
        often_N = keep * (np.ones(len(rows)) if weights is None else weights)
        readily_T = ok_T * (np.ones(rows.num_texts) if weight_T is None else weight_T)
        weights, weight_T = _by_temperature(rows, policy.language_alpha or 0.0, often_N, readily_T, of_text)
    if not keep.any():
        counts_of = ", ".join(f"{name} {int(each.sum()):,}" for name, each in sorted(there.items()))
        raise ConfigError(
            f"of the {len(rows):,} samples of {version.folder.name} none qualifies that has {needed} of what the model "
            f"reads (pictures must decode); there are: {counts_of}"
        )
    rows_N = np.flatnonzero(keep)
    weight_N = None if weights is None or np.ptp(weights[rows_N]) == 0 else weights[rows_N]
    return Source(rows, rows_N, seed, captions_per_image, None if ok_T.all() else ok_T, weight_T, weight_N)


def meets(version: Version, where: tuple[Clause, ...]) -> np.ndarray:
    """Bool for each row: whether it meets all conditions. Raises ConfigError where a column is not there, or no row."""
    known = version.columns()
    for index, clause in enumerate(where):
        if clause.column not in known or clause.column in (*MEDIA, "texts"):
            usable = ", ".join(sorted(set(known) - {*MEDIA, "texts"}))
            raise ConfigError(f"where.{index}.column = {clause.column!r}: {version.folder.name} has: {usable}")
    keep = np.ones(version.num_samples, dtype=bool)
    if not where:
        return keep
    table = version.read(list(dict.fromkeys(clause.column for clause in where)))
    for clause in where:
        keep &= np.array([clause.holds(value) for value in table.column(clause.column).to_pylist()], dtype=bool)
    if not keep.any():
        conditions = [clause.model_dump() for clause in where]
        raise ConfigError(f"where: none of the {len(keep)} samples of {version.folder.name} meets {conditions}")
    return keep


def read_subset(path: Path, rows: Rows) -> np.ndarray:
    """The weight of each row: 0 where the file does not name its sample, else its `weight` (1 without that column).

    Raises ConfigError where the file cannot be used: no column sample_uid, a sample twice, weights that are no weights.
    """
    subset_schema(path)
    table = pq.read_table(path)
    if not table.num_rows:
        raise ConfigError(f"subset: {path} holds no samples")
    names = table.column("sample_uid").cast(pa.string())
    if pc.count_distinct(names).as_py() != table.num_rows:
        raise ConfigError(f"subset: {path} names a sample twice")
    given = np.ones(table.num_rows)
    if "weight" in table.column_names:
        given = np.asarray(table.column("weight").cast(pa.float64()).to_numpy(zero_copy_only=False))
    if not np.isfinite(given).all() or (given < 0).any():
        raise ConfigError(f"subset: {path} has weights that are null, not finite or below 0")
    found = pc.index_in(rows.uids(), names.combine_chunks())
    places = np.asarray(pc.fill_null(found, -1))
    return np.where(places >= 0, given[places], 0.0)


def subset_schema(path: Path) -> pa.Schema:
    """Of a file of sample_uid and perhaps weights. Raises ConfigError where it is none."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"subset: {path} cannot be read as Parquet: {reason}") from error
    if "sample_uid" not in schema.names:
        raise ConfigError(f"subset: {path} has no column sample_uid; it has: {', '.join(schema.names)}")
    if "weight" in schema.names and not _is_weight(schema.field("weight").type):
        raise ConfigError(f"subset: {path}: weight holds {schema.field('weight').type}, no numbers")
    return schema


def _is_weight(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind))


def _allowed(rows: Rows, excluded: frozenset[str], sources: tuple[str, ...] | None) -> np.ndarray:
    """Bool for each text: not empty, not known to be in excluded languages only, from one of the sources."""
    if sources is not None and "source" not in rows.text_fields:
        raise ConfigError(f"texts.sources = {list(sources)}: the texts have no `source`, they have {rows.text_fields}")
    parts = []
    for _, columns in rows.texts_by_shard([*_spoken_fields(rows), *(["source"] if sources is not None else [])]):
        ok = np.asarray(pc.fill_null(pc.greater(pc.utf8_length(columns["text"]), 0), False))
        if excluded:
            spoken = languages(columns)
            ok &= np.array([not (each and excluded.issuperset(each)) for each in spoken], dtype=bool)
        if sources is not None:
            ok &= np.asarray(pc.fill_null(pc.is_in(columns["source"], pa.array(sources, pa.string())), False))
        parts.append(ok)
    return np.concatenate(parts)


def _spoken_fields(rows: Rows) -> list[str]:
    known = rows.text_fields
    return [name for name in ["text", "language", "languages"] if name in known]


def languages(columns: dict[str, pa.Array]) -> list[tuple[str, ...]]:
    """Of each text: all languages in which it is a caption of its sample; empty if none is known."""
    several = columns["languages"].to_pylist() if "languages" in columns else None
    one = columns["language"].to_pylist() if "language" in columns else [None] * len(columns["text"])
    lists = several if several is not None else [None] * len(one)
    return [
        tuple(name for name in (listed or ([single] if single else [])) if name is not None)
        for listed, single in zip(lists, one, strict=True)
    ]


def _source_weights(rows: Rows, sources: dict[str, float], ok_T: np.ndarray, of_text: np.ndarray) -> np.ndarray:
    """For each text its source's weight, divided among its sample's texts of that source."""
    names = [name for _, columns in rows.texts_by_shard(["source"]) for name in columns["source"].to_pylist()]
    numbers = {name: number for number, name in enumerate(sources)}
    number_T = np.array([numbers.get(name, 0) for name in names], dtype=np.int64)
    place_T = of_text * len(sources) + number_T
    counts = np.bincount(place_T[ok_T], minlength=len(rows) * len(sources))
    return np.array(list(sources.values()))[number_T] / np.maximum(1, counts[place_T])


def _column_weights(rows: Rows, column: str | None) -> np.ndarray | None:
    """How readily each text is drawn by a column of the texts."""
    if column is None:
        return None
    if column not in rows.text_fields:
        raise ConfigError(f"texts.weight_column = {column!r}: the texts have {rows.text_fields}")
    arrays = [columns[column] for _, columns in rows.texts_by_shard([column])]
    given = np.asarray(pa.chunked_array(arrays).cast(pa.float64()).fill_null(0.0).to_numpy())
    if not np.isfinite(given).all() or (given < 0).any():
        raise ConfigError(f"texts.weight_column = {column!r}: weights below 0 or not finite")
    return given


def _by_temperature(
    rows: Rows, alpha: float, often_N: np.ndarray, readily_T: np.ndarray, of_text: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How often each sample is seen, and how readily each of its texts is drawn, so that languages are drawn in
    proportion to n^alpha, n being how often they would be without it.

    Without it a text is drawn as often as its sample is seen (`often_N`), times its share of its sample's weights
    (`readily_T`). Each text's part of that is multiplied by n^(alpha - 1): a sample is seen as often as its texts
    together say, and among them each has its share. A sample without a text is seen as often as the mean of the others.
    """
    fields = _spoken_fields(rows)
    spoken = [each[0] if each else "" for _, columns in rows.texts_by_shard(fields) for each in languages(columns)]
    language_T = pa.array(spoken, pa.string()).dictionary_encode().indices.to_numpy()
    together_N = np.bincount(of_text, weights=readily_T, minlength=len(rows))
    plain_T = (often_N / np.where(together_N > 0, together_N, 1.0))[of_text] * readily_T
    n_L = np.bincount(language_T, weights=plain_T)
    factor_T = np.where(n_L > 0, np.where(n_L > 0, n_L / n_L.max(), 1.0) ** (alpha - 1.0), 0.0)[language_T]
    seen_N = np.bincount(of_text, weights=plain_T * factor_T, minlength=len(rows))
    with_text_N = (together_N > 0) & (often_N > 0)
    usual = seen_N[with_text_N].sum() / often_N[with_text_N].sum() if with_text_N.any() else 1.0
    return np.where(with_text_N, seen_N, often_N * usual), readily_T * factor_T
