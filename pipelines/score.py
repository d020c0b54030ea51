"""Score: every signal of the recipe on every part, computed once; pictures are decoded once for all signals.

A signal's part is keyed by the signal and by the identity of just those tables that it reads, so a changed model runs
its signal and what reads it, and a new caption does not touch the pictures' signals. A signal that needs the whole pool
is fitted first (pipelines/fit.py).
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.av.segment_signal import SegmentSignal
from curation.fitted import FittedSignal
from curation.media.av_types import AvLimits
from curation.media.decode import DecodeLimits
from curation.reasons import Reason
from curation.signal import ColumnSignal, FileSignal, ImageSignal, Level, Signal, drop_nonfinite
from curation.step import digest
from curation.table import Part, find_part, read_part, write_part
from pipelines.canary import check_canaries
from pipelines.download import media_parts
from pipelines.fit import find_fit, make_fit
from pipelines.part_rows import MEDIA_COLUMNS, UID, media_rows, text_rows
from pipelines.picture_pass import from_pictures
from pipelines.segment_scores import from_segments
from pipelines.stage import Run, Wanted, run_parts
from pipelines.store import legend_name
from pipelines.workers import Task


def waves(signals: Sequence[Signal], known: set[str], apart: bool = True) -> Iterator[list[Signal]]:
    """Groups of signals that can run together: all that they read is known.

    `known` are the columns of the base tables. Each group's columns are known to the next. apart: all or none of a
    group run a model, so that nothing else takes a GPU's time; without GPUs, one pass over the media serves both.
    """
    left, known = list(signals), set(known)
    while left:
        ready = [signal for signal in left if set(signal.reads()) <= known]
        if not ready:
            names = ", ".join(type(signal).__name__ for signal in left)
            raise ValueError(f"these signals wait for each other's columns: {names}")
        cheap = [signal for signal in ready if apart and not signal.needs_model()]
        wave = cheap or ready
        yield wave
        known |= {name for signal in wave for name in signal.writes().names}
        left = [signal for signal in left if signal not in wave]


def score(run: Run) -> dict[str, Any]:
    """Compute all signals of this round that are not stored yet."""
    signals = run.recipe.signals_until(run.round_index)
    media, pool = media_parts(run), run.store.samples(run.state)
    parts: dict[str, list[Part]] = {}
    all_fits: dict[str, Part] = {}
    total: dict[str, Any] = {"signals": len(signals)}
    apart = any(signal.needs_model() for signal in signals) and run.workers.num_gpus > 0
    for wave in waves(signals, _base_columns(run), apart):
        upstreams = [{table: made[position] for table, made in parts.items()} for position in range(len(pool))]
        fits = _fits(run, wave, media, upstreams, total)
        all_fits |= fits
        wanted = []
        for medium, each, upstream in zip(media, pool, upstreams, strict=True):
            wanted += _wanted(run, wave, medium, each.texts, upstream, fits)
        made, stats = run_parts(run, "score " + ", ".join(signal.table_name() for signal in wave), wanted)
        for position, signal in enumerate(wave):
            table = signal.table_name()
            parts[table] = made[position :: len(wave)]
            run.state.signals[table] = signal.level
            run.state.signal_keys[table] = signal.key()
            run.state.tables[f"signal_{table}"] = [run.store.relative(part.path) for part in parts[table]]
        for name, value in stats.items():
            total[name] = total.get(name, 0) + value
    run.state.tables = {name: files for name, files in run.state.tables.items() if not name.startswith("fit_")}
    run.state.tables |= {f"fit_{table}": [run.store.relative(fit.path)] for table, fit in all_fits.items()}
    for signal in signals:
        _store_legend(run, signal)
    _forget_others(run, signals)
    return total


def _forget_others(run: Run, signals: Sequence[Signal]) -> None:
    """Signals that this round does not know keep their parts on disk but leave the views."""
    for stale in run.state.signals.keys() - {signal.table_name() for signal in signals}:
        del run.state.signals[stale]
        run.state.signal_keys.pop(stale, None)
        del run.state.tables[f"signal_{stale}"]
        run.state.tables.pop(legend_name(stale), None)


def _store_legend(run: Run, signal: Signal) -> None:
    name, key = legend_name(signal.table_name()), digest("legend", signal.key())
    part = find_part(run.store.table(name), 0, key)
    if part is None:
        legend = signal.legend()
        if legend is None:
            return
        part = write_part(run.store.table(name), 0, key, legend)
    run.state.tables[name] = [run.store.relative(part.path)]


def planned_signals(run: Run) -> tuple[int, int]:
    """How many parts of signals a run would compute and how many it would reuse. Where none is missing, the state of
    `run` then names them.
    """
    signals = run.recipe.signals_until(run.round_index)
    media, pool = media_parts(run), run.store.samples(run.state)
    provider = {name: signal.table_name() for signal in signals for name in signal.writes().names}
    found: dict[str, dict[int, Part]] = {signal.table_name(): {} for signal in signals}
    fits: dict[str, Part] = {}
    for wave in waves(signals, _base_columns(run)):
        upstreams = [{t: parts[i] for t, parts in found.items() if i in parts} for i in range(len(pool))]
        for signal in wave:
            read = {provider[name] for name in signal.reads() if name in provider}
            if isinstance(signal, FittedSignal) and all(read <= upstream.keys() for upstream in upstreams):
                fit = find_fit(run, signal, _keys_without_fit(run, signal, media, upstreams))
                fits |= {signal.table_name(): fit} if fit is not None else {}
        for position, (medium, each) in enumerate(zip(media, pool, strict=True)):
            upstream = upstreams[position]
            for signal in wave:
                table = signal.table_name()
                read = {provider[name] for name in signal.reads() if name in provider}
                if read <= upstream.keys() and (table in fits or not isinstance(signal, FittedSignal)):
                    key = part_keys(run, [signal], medium, each.texts, upstream, fits)[table]
                    part = find_part(run.store.table(f"signal_{table}"), medium.index, key)
                    if part is not None:
                        found[table][position] = part
    present = sum(len(parts) for parts in found.values())
    missing = len(signals) * len(pool) - present
    if missing == 0:
        _forget_others(run, signals)
        run.state.tables |= {f"fit_{table}": [run.store.relative(fit.path)] for table, fit in fits.items()}
        for signal in signals:
            table = signal.table_name()
            run.state.signals[table] = signal.level
            run.state.signal_keys[table] = signal.key()
            run.state.tables[f"signal_{table}"] = [run.store.relative(found[table][i].path) for i in range(len(pool))]
    return missing, present


def _keys_without_fit(
    run: Run, signal: Signal, media: Sequence[Part], upstreams: Sequence[dict[str, Part]]
) -> list[str]:
    """The key of the signal in each part as far as rows alone decide: what its fit depends on."""
    table = signal.table_name()
    return [
        part_keys(run, [signal], medium, each.texts, upstream)[table]
        for medium, each, upstream in zip(media, run.store.samples(run.state), upstreams, strict=True)
    ]


def _fits(
    run: Run, wave: Sequence[Signal], media: Sequence[Part], upstreams: Sequence[dict[str, Part]], total: dict[str, Any]
) -> dict[str, Part]:
    """Signal table -> fit, for those of the wave that need one; what is not stored is made, and counted in `total`."""
    fits = {}
    for signal in wave:
        if isinstance(signal, FittedSignal):
            levels = _sources(run, [signal])
            sources = [
                (medium.path, each.texts.path, {table: upstream[table].path for table in levels})
                for medium, each, upstream in zip(media, run.store.samples(run.state), upstreams, strict=True)
            ]
            keys = _keys_without_fit(run, signal, media, upstreams)
            fits[signal.table_name()], counts = make_fit(run, signal, keys, sources, levels)
            for name, value in counts.items():
                total[name] = total.get(name, 0) + value
    return fits


def _sources(run: Run, signals: Sequence[Signal]) -> dict[str, Level]:
    """Signal table -> level, of those whose columns `signals` read."""
    read = {name for signal in signals for name in signal.reads()}
    known = run.recipe.signals_until(run.round_index)
    return {signal.table_name(): signal.level for signal in known if read & set(signal.writes().names)}


def part_keys(
    run: Run,
    wave: Sequence[Signal],
    media: Part,
    texts: Part,
    upstream: dict[str, Part],
    fits: dict[str, Part] | None = None,
) -> dict[str, str]:
    """Signal table -> key of this part's piece of it: the signal and the identities of the tables that it reads."""
    provider = {name: signal for signal in run.recipe.signals_until(run.round_index) for name in signal.writes().names}
    keys = {}
    for signal in wave:
        read = signal.reads()
        sources = {provider[name].table_name() for name in read if name in provider}
        on_media = signal.level == "media" or any(name in MEDIA_COLUMNS for name in read)
        on_media = on_media or any(provider[name].level == "media" for name in read if name in provider)
        identities = {table: upstream[table].identity for table in sources}
        identities |= {"media": media.identity} if on_media else {}
        identities |= {"texts": texts.identity} if signal.level == "text" else {}
        identities |= {"fit": fits[signal.table_name()].identity} if fits and signal.table_name() in fits else {}
        keys[signal.table_name()] = digest(signal.key(), identities)
    return keys


def _base_columns(run: Run) -> set[str]:
    pool = run.store.samples(run.state)
    return {*MEDIA_COLUMNS, "bytes", *(pq.read_schema(pool[0].texts.path).names if pool else [])}


def _wanted(
    run: Run, wave: Sequence[Signal], media: Part, texts: Part, upstream: dict[str, Part], fits: dict[str, Part]
) -> list[Wanted]:
    """What this wave needs of one part: one task for all signals of the wave that are missing there."""
    keys = part_keys(run, wave, media, texts, upstream, fits)
    folders = {table: run.store.table(f"signal_{table}") for table in keys}
    missing = [
        (signal, key)
        for signal, (table, key) in zip(wave, keys.items(), strict=True)
        if find_part(folders[table], media.index, key) is None
    ]
    sources = _sources(run, [signal for signal, _ in missing])
    arguments = {
        "signals": missing,
        "signal_keys": {signal.table_name(): signal.key() for signal, _ in missing},
        "media": media.path,
        "texts": texts.path,
        "upstream": {table: upstream[table].path for table in sources},
        "levels": sources,
        "tables": run.store.root / "tables",
        "index": media.index,
        "limits": run.recipe.download.decode,
        "av": run.recipe.download.av,
        "fits": {table: fit.path for table, fit in fits.items()},
    }
    needs_model = any(each.needs_model() for each in wave)
    arguments["num_decoders"] = run.workers.num_decoders(needs_model)
    task = Task(f"score of part {media.index}", score_part, arguments, needs_model)
    return [Wanted(folders[table], media.index, key, task) for table, key in keys.items()]


class OtherSignal(RuntimeError):
    """A signal is not the same on this worker as where the run began: other weights, word lists or code."""


def _check_keys(signals: Sequence[Signal], wanted: Mapping[str, str]) -> None:
    """A part is named by the key that the run's beginning knew: what is computed by anything else must not get it."""
    for signal in signals:
        table = signal.table_name()
        if table in wanted and signal.key() != wanted[table]:
            raise OtherSignal(
                f"{table} on {platform.node()}: the signal's key is {signal.key()[:12]} here and was "
                f"{wanted[table][:12]} where the run began. Its weights, lists or code are other ones under the same "
                "name: put the same files and versions on every machine, and start the run again if they were replaced "
                "while it ran. Nothing was written."
            )


def _of_columns(signal: Signal, rows: pa.Table, fits: Mapping[str, Path]) -> pa.Table:
    """A signal that is made of columns: fitted, or not."""
    read = rows.select(list(dict.fromkeys(signal.reads())))
    if isinstance(signal, ColumnSignal):
        return signal.compute(read)
    if isinstance(signal, FittedSignal):
        return signal.apply(read, read_part(fits[signal.table_name()]))
    raise TypeError(f"{type(signal).__name__} is no ColumnSignal, FittedSignal, ImageSignal or SegmentSignal")


def score_part(
    signals: Sequence[tuple[Signal, str]],
    media: Path,
    texts: Path,
    upstream: dict[str, Path],
    levels: dict[str, Level],
    tables: Path,
    index: int,
    limits: DecodeLimits,
    fits: dict[str, Path] | None = None,
    num_decoders: int = 1,
    av: AvLimits | None = None,
    signal_keys: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Compute several signals of one part in one pass and publish a part for each. Runs in a worker.

    signal_keys: table -> key of the signal where the run began. Raises OtherSignal where this worker's is another.
    """
    _check_keys([signal for signal, _ in signals], signal_keys or {})
    of_media, of_texts = media_rows(media, upstream, levels), None
    if any(signal.level == "text" for signal, _ in signals):
        of_texts = text_rows(texts, of_media, upstream, levels)
    pictures = [signal for signal, _ in signals if isinstance(signal, ImageSignal | FileSignal)]
    check_canaries([signal for signal, _ in signals], tables.parent / "canaries")
    of_pictures = from_pictures(media, pictures, limits, num_decoders)
    of_segments = from_segments(media, [each for each, _ in signals if isinstance(each, SegmentSignal)], av)
    nonfinite = 0
    for signal, key in signals:
        rows = of_media if of_texts is None or signal.level == "media" else of_texts
        columns = of_pictures.get(signal.table_name(), of_segments.get(signal.table_name()))
        if columns is None:
            columns = _of_columns(signal, rows, fits or {})
        if columns.num_rows != rows.num_rows or columns.schema.names != signal.writes().names:
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
    return {"rows": of_media.num_rows if of_texts is None else of_texts.num_rows, "nonfinite": nonfinite}
