"""Score: every signal of the recipe on every part, computed once; pictures are decoded once for all signals.

A signal's part is keyed by the signal and by the identity of just those tables that it reads, so a changed model runs
its signal and what reads it, and a new caption does not touch the pictures' signals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.media.decode import DecodeLimits
from curation.reasons import Reason
from curation.schema import MEDIA
from curation.signal import ColumnSignal, ImageSignal, Signal, drop_nonfinite
from curation.step import digest
from curation.table import Part, find_part, read_part, write_part
from pipelines.download import decoder, media_parts
from pipelines.stage import Run, Wanted, run_parts
from pipelines.workers import Task

UID = {"media": "media_uid", "text": "text_uid"}
PICTURES_AT_A_TIME = 64
"""Decoded pictures held at once by a worker: at 512 x 512 pixels, 50 MB."""
MEDIA_COLUMNS = [name for name in MEDIA.names if name != "bytes"]


def waves(signals: Sequence[Signal], known: set[str]) -> Iterator[list[Signal]]:
    """Groups of signals that can run together: all that they read is known, and all or none of them run a model.

    `known` are the columns of the base tables. Each group's columns are known to the next.
    """
    left, known = list(signals), set(known)
    while left:
        ready = [signal for signal in left if set(signal.reads()) <= known]
        if not ready:
            names = ", ".join(type(signal).__name__ for signal in left)
            raise ValueError(f"these signals wait for each other's columns: {names}")
        cheap = [signal for signal in ready if not signal.needs_model()]
        wave = cheap or ready
        yield wave
        known |= {name for signal in wave for name in signal.writes().names}
        left = [signal for signal in left if signal not in wave]


def score(run: Run) -> dict[str, Any]:
    """Compute all signals of this round that are not stored yet."""
    signals = run.recipe.signals_until(run.round_index)
    media, pool = media_parts(run), run.store.pool()
    parts: dict[str, list[Part]] = {}
    total: dict[str, Any] = {"signals": len(signals)}
    for wave in waves(signals, _base_columns(run)):
        wanted = []
        for position, (medium, each) in enumerate(zip(media, pool, strict=True)):
            upstream = {table: made[position] for table, made in parts.items()}
            wanted += _wanted(run, wave, medium, each.texts, upstream)
        made, stats = run_parts(run, "score " + ", ".join(signal.table_name() for signal in wave), wanted)
        for position, signal in enumerate(wave):
            table = signal.table_name()
            parts[table] = made[position :: len(wave)]
            run.state.signals[table] = signal.level
            run.state.signal_keys[table] = signal.key()
            run.state.tables[f"signal_{table}"] = [run.store.relative(part.path) for part in parts[table]]
        for name, value in stats.items():
            total[name] = total.get(name, 0) + value
    # signals that this round does not know keep their parts on disk but leave the views
    for stale in run.state.signals.keys() - {signal.table_name() for signal in signals}:
        del run.state.signals[stale]
        run.state.signal_keys.pop(stale, None)
        del run.state.tables[f"signal_{stale}"]
    return total


def planned_signals(run: Run) -> tuple[int, int, bool]:
    """Parts of signals that a run would compute and those it would reuse, and whether none is missing.

    Where none is missing, the state of `run` then names them.
    """
    signals = run.recipe.signals_until(run.round_index)
    media, pool = media_parts(run), run.store.pool()
    provider = {name: signal.table_name() for signal in signals for name in signal.writes().names}
    found: dict[str, dict[int, Part]] = {signal.table_name(): {} for signal in signals}
    for wave in waves(signals, _base_columns(run)):
        for position, (medium, each) in enumerate(zip(media, pool, strict=True)):
            upstream = {table: parts[position] for table, parts in found.items() if position in parts}
            for signal in wave:
                table = signal.table_name()
                if {provider[name] for name in signal.reads() if name in provider} <= upstream.keys():
                    key = part_keys(run, [signal], medium, each.texts, upstream)[table]
                    part = find_part(run.store.table(f"signal_{table}"), medium.index, key)
                    if part is not None:
                        found[table][position] = part
    present = sum(len(parts) for parts in found.values())
    missing = len(signals) * len(pool) - present
    if missing == 0:
        for signal in signals:
            table = signal.table_name()
            run.state.signals[table] = signal.level
            run.state.tables[f"signal_{table}"] = [run.store.relative(found[table][i].path) for i in range(len(pool))]
    return missing, present, missing == 0


def part_keys(run: Run, wave: Sequence[Signal], media: Part, texts: Part, upstream: dict[str, Part]) -> dict[str, str]:
    """Signal table -> key of this part's piece of it: the signal and the identities of the tables that it reads."""
    provider = {name: signal for signal in run.recipe.signals_until(run.round_index) for name in signal.writes().names}
    keys = {}
    for signal in wave:
        sources = {provider[name].table_name() for name in signal.reads() if name in provider}
        on_media = signal.level == "media" or any(name in MEDIA_COLUMNS for name in signal.reads())
        on_media = on_media or any(provider[name].level == "media" for name in signal.reads() if name in provider)
        identities = {table: upstream[table].identity for table in sources}
        identities |= {"media": media.identity} if on_media else {}
        identities |= {"texts": texts.identity} if signal.level == "text" else {}
        keys[signal.table_name()] = digest(signal.key(), identities)
    return keys


def _base_columns(run: Run) -> set[str]:
    pool = run.store.pool()
    return {*MEDIA_COLUMNS, *(pq.read_schema(pool[0].texts.path).names if pool else [])}


def _wanted(run: Run, wave: Sequence[Signal], media: Part, texts: Part, upstream: dict[str, Part]) -> list[Wanted]:
    """What this wave needs of one part: one task for all signals of the wave that are missing there."""
    keys = part_keys(run, wave, media, texts, upstream)
    folders = {table: run.store.table(f"signal_{table}") for table in keys}
    missing = [
        (signal, key)
        for signal, (table, key) in zip(wave, keys.items(), strict=True)
        if find_part(folders[table], media.index, key) is None
    ]
    read = {name for signal, _ in missing for name in signal.reads()}
    sources = {
        signal.table_name(): signal.level
        for signal in run.recipe.signals_until(run.round_index)
        if read & set(signal.writes().names)
    }
    arguments = {
        "signals": missing,
        "media": media.path,
        "texts": texts.path,
        "upstream": {table: upstream[table].path for table in sources},
        "levels": sources,
        "tables": run.store.root / "tables",
        "index": media.index,
        "limits": run.recipe.download.decode,
    }
    task = Task(f"score of part {media.index}", score_part, arguments, any(each.needs_model() for each in wave))
    return [Wanted(folders[table], media.index, key, task) for table, key in keys.items()]


def score_part(
    signals: Sequence[tuple[Signal, str]],
    media: Path,
    texts: Path,
    upstream: dict[str, Path],
    levels: dict[str, str],
    tables: Path,
    index: int,
    limits: DecodeLimits,
) -> dict[str, Any]:
    """Compute several signals of one part in one pass and publish a part for each. Runs in a worker."""
    media_rows = _joined(read_part(media, MEDIA_COLUMNS), upstream, levels, "media")
    text_rows = None
    if any(signal.level == "text" for signal, _ in signals):
        text_rows = _joined(read_part(texts), upstream, levels, "text")
        text_rows = _with_media(text_rows, media_rows)
    pictures = [signal for signal, _ in signals if isinstance(signal, ImageSignal)]
    from_pictures = _from_pictures(media, pictures, limits)
    nonfinite = 0
    for signal, key in signals:
        rows = media_rows if signal.level == "media" else text_rows
        if isinstance(signal, ImageSignal):
            columns = from_pictures[signal.table_name()]
        elif isinstance(signal, ColumnSignal) and rows is not None:
            columns = signal.compute(rows.select(list(dict.fromkeys(signal.reads()))))
        else:
            raise TypeError(f"{type(signal).__name__} is neither a ColumnSignal nor an ImageSignal")
        if rows is None or columns.num_rows != rows.num_rows or columns.schema.names != signal.writes().names:
            raise ValueError(
                f"{type(signal).__name__} broke its contract: {columns.num_rows} rows, {columns.schema.names}"
            )
        columns, bad = drop_nonfinite(columns)
        nonfinite += int(pc.sum(bad).as_py() or 0)
        uid = UID[signal.level]
        reason = pc.if_else(bad, pa.scalar(Reason.SCORE_NONFINITE.value), pa.scalar(None, pa.string()))
        table = pa.table(
            {uid: rows.column(uid), **{n: columns.column(n) for n in columns.column_names}, "reason": reason}
        )
        write_part(tables / f"signal_{signal.table_name()}", index, key, table)
    return {"rows": media_rows.num_rows if text_rows is None else text_rows.num_rows, "nonfinite": nonfinite}


def _joined(base: pa.Table, upstream: dict[str, Path], levels: dict[str, str], level: str) -> pa.Table:
    """`base` with the columns of the signals of its level: their parts hold the same rows in the same order."""
    uid = UID[level]
    for table in sorted(upstream):
        if levels[table] != level:
            continue
        extra = read_part(upstream[table])
        if not extra.column(uid).combine_chunks().equals(base.column(uid).combine_chunks()):
            raise ValueError(f"{upstream[table]} does not hold the rows of its part in order")
        for name in extra.column_names:
            if name not in (uid, "reason"):
                base = base.append_column(name, extra.column(name))
    return base


def _with_media(texts: pa.Table, media: pa.Table) -> pa.Table:
    """Each text with the columns of its sample's medium."""
    row = {sample: i for i, sample in enumerate(media.column("sample_uid").to_pylist())}
    take = pa.array([row[sample] for sample in texts.column("sample_uid").to_pylist()], pa.int64())
    for name in media.column_names:
        if name not in texts.column_names:
            texts = texts.append_column(name, pc.take(media.column(name), take))
    return texts


def _from_pictures(media: Path, signals: list[ImageSignal], limits: DecodeLimits) -> dict[str, pa.Table]:
    """The columns of all picture signals, by table: each picture is decoded once, in the limited child.

    In batches, so that memory does not grow with the part; signals look at one row at a time, so nothing changes.
    """
    made: dict[str, list[pa.Table]] = {signal.table_name(): [] for signal in signals}
    if not signals:
        return {}
    column = read_part(media, ["bytes"]).column(0)
    sides = sorted({signal.short_side_px for signal in signals}, reverse=True)
    for start in range(0, max(1, len(column)), PICTURES_AT_A_TIME):
        batch = column.slice(start, PICTURES_AT_A_TIME).to_pylist()
        for side in sides:
            images = [None if data is None else decoder(limits).decode(data, side).pixels for data in batch]
            for signal in signals:
                if signal.short_side_px == side:
                    made[signal.table_name()].append(signal.compute_images(images))
    return {table: pa.concat_tables(batches) for table, batches in made.items()}
