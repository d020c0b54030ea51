"""Curve: what each threshold of a score would keep, of the whole pool, each language, host and source of texts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.table import replace_text
from pipelines import database
from pipelines.cut import cut_at, narrow
from pipelines.decide import Decider
from pipelines.pool_rows import Rows
from pipelines.report_charts import curves, round_step
from pipelines.row_wise import check_row_wise, is_true
from pipelines.rule_sql import finite
from pipelines.sources import SourceError

STEPS = 20
"""Thresholds that are chosen where none are given: round values over the middle 98% of the texts."""
LANGUAGES_SHOWN = 6
"""Of a table in the terminal: the largest."""
HOST = "lower(regexp_extract(url, '^[a-zA-Z]+://([^/:?#]+)', 1))"


@dataclass(frozen=True)
class CurveOptions:
    """What is measured."""

    value: str
    """A column or SQL expression of numbers."""
    thresholds: tuple[float, ...] = ()
    where: str = "true"
    """SQL predicate: the texts that count."""
    below: bool = False
    """Whether a text is kept at or below the threshold, not at or above it."""
    least: int = 1
    """Texts that a language, a host or a source must have to be shown."""


def curve(rows: Rows, options: CurveOptions, threads: int | None = None) -> pa.Table:
    """(kind, name, threshold, texts, kept, keep_rate, samples_kept, missing), the whole pool first.

    kind: all; language; host (of the picture's link); source (the column of the link table that the text comes from).

    Raises SourceError where the value or the predicate cannot be bound, or fails on some row.
    """
    for threshold in options.thresholds:
        if not math.isfinite(threshold):
            raise SourceError(f"the threshold {threshold} is no finite number")
    kinds = []
    for expression, wanted in ((options.value, "NUMBER"), (options.where, "BOOLEAN")):
        try:
            database.columns_of(expression)
            kinds.append(database.check_expression(expression, rows.types, wanted))
            check_row_wise(expression, rows.types)
        except ValueError as error:
            known = ", ".join(sorted(rows.types))
            raise SourceError(f"{expression}: {error} (columns: {known})") from error
    try:
        return _curve(rows, options, kinds[0], threads)
    except database.SqlError as error:
        raise SourceError(
            f"{options.value}: {database.said(error)} (try_cast gives null where a value does not fit its type)"
        ) from error


def _curve(rows: Rows, options: CurveOptions, kind: str, threads: int | None) -> pa.Table:
    with Decider(rows, [], threads=threads) as decider:
        thresholds = tuple(sorted(set(options.thresholds))) or _thresholds(decider, options, "INT" in kind)
        sign = -1 if options.below else 1
        # as in a policy: a number beside a value of single precision is compared in single precision
        compared = [float(np.float32(t)) if kind == "FLOAT" else float(t) for t in thresholds]
        parameters = {"thresholds": compared, "sign": sign}

        def bins(batch: int) -> pa.Table:
            with decider.candidates(_valued(decider, options, batch), "valued") as con:
                return database.arrow(con, database.query("curve/bins"), parameters)

        found = pa.concat_tables([rows for _, rows in decider.each(bins)])
        strictest_last = sorted(thresholds, reverse=options.below)
        steps = pa.table({"threshold": strictest_last, "place": range(1, len(thresholds) + 1)})
        decider.con.register("bins", found)
        decider.con.register("steps", steps)
        return database.arrow(decider.con, database.query("curve/rates"), {"least": options.least})


def _read(decider: Decider, batch: int, names: Sequence[str]) -> pa.Table:
    return decider.rows.read(batch, [name for name in dict.fromkeys(names) if name in decider.known])


def _valued(decider: Decider, options: CurveOptions, batch: int) -> pa.Table:
    """sample_uid, value and groups of the texts that count."""
    names = ["text_uid", "sample_uid", "url", "language", "language_claimed", "text_source"]
    names += [*database.columns_of(options.value), *database.columns_of(options.where)]
    language = "coalesce(language, language_claimed)" if "language" in decider.known else "language_claimed"
    groups = f"{{kind: 'all', name: ''}}, {{kind: 'language', name: coalesce({language}, 'unknown')}}, "
    groups += f"{{kind: 'host', name: coalesce({HOST}, '')}}"
    if "text_source" in decider.known:
        groups += ", {kind: 'source', name: coalesce(text_source, '')}"
    with decider.candidates(_read(decider, batch, names)) as con:
        return database.arrow(
            con,
            f"select sample_uid, {finite(options.value)} as value, [{groups}] as groups from candidates "
            f"where {is_true(options.where)}",
        )


def _thresholds(decider: Decider, options: CurveOptions, are_whole: bool) -> tuple[float, ...]:
    """Round values between the first and the last hundredth of the texts; whole ones where all values are."""

    def values(batch: int) -> np.ndarray:
        names = ["text_uid", *database.columns_of(options.value), *database.columns_of(options.where)]
        with decider.candidates(_read(decider, batch, names)) as con:
            value = finite(options.value)
            where = f"{is_true(options.where)} and {value} is not null"
            return narrow(database.arrow(con, f"select {value} from candidates where {where}").column(0).to_numpy())

    pieces = [found for _, found in decider.each(values)]
    num = sum(map(len, pieces))
    if num == 0:
        raise SourceError(f"{options.value} has no value in any text that counts")
    low, high = (cut_at(pieces, place).value for place in (num - num // 100, 1 + num // 100))
    return round_steps(low, high, least=1.0 if are_whole else 0.0)


def round_steps(low: float, high: float, steps: int = STEPS, least: float = 0.0) -> tuple[float, ...]:
    """About `steps` round values from `low` to `high` (1, 2 or 5 times a power of ten apart, and `least` or more)."""
    if low == high:
        return (low,)
    step = max(round_step((high - low) / steps), least)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(number * step, digits) for number in range(first, last + 1))


def shown(table: pa.Table) -> list[dict[str, Any]]:
    """One line for each threshold: texts, samples and rate of the pool, and the rates of the largest languages."""
    rows = table.to_pylist()
    names = list(dict.fromkeys(row["name"] for row in rows if row["kind"] == "language"))[:LANGUAGES_SHOWN]
    rates = {(row["name"], row["threshold"]): row["keep_rate"] for row in rows if row["kind"] == "language"}
    lines = []
    for row in rows:
        if row["kind"] == "all":
            line = {"threshold": f"{row['threshold']:g}", "texts kept": row["kept"], "of": row["texts"]}
            line |= {"rate": percent(row["keep_rate"]), "samples kept": row["samples_kept"]}
            lines.append(line | {name: percent(rates[name, row["threshold"]]) for name in names})
    return lines


def percent(share: float | None) -> str:
    """`12.3%`; nothing for None."""
    return "" if share is None else f"{100 * share:.1f}%"


def write_page(table: pa.Table, title: str, output: Path) -> None:
    """A page with the curves of the pool and of the largest languages, hosts and sources; nothing in it runs or is
    fetched."""
    from jinja2 import Environment, StrictUndefined

    rows = table.to_pylist()
    charts = []
    for kind in ("language", "host", "source"):
        lines: dict[str, list[tuple[float, float]]] = {"all": []}
        names = list(dict.fromkeys(row["name"] for row in rows if row["kind"] == kind))[:6]
        if not names:
            continue
        for row in rows:
            if row["kind"] == "all" or (row["kind"] == kind and row["name"] in names):
                name = "all" if row["kind"] == "all" else row["name"] or f"no {kind}"
                lines.setdefault(name, []).append((row["threshold"], row["keep_rate"] or 0.0))
        charts.append((f"By {kind}", curves(lines, title)))
    everything = [row for row in rows if row["kind"] == "all"]
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    replace_text(output.absolute(), environment.from_string(PAGE).render(title=title, charts=charts, rows=everything))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ title }}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
svg{width:100%;max-width:44rem}svg text{font-size:11px;fill:currentColor}
.grid{stroke:#8884}polyline{fill:none;stroke-width:2}td,th{text-align:right;padding:0 .8em}
.c0{stroke:#000}.c1{stroke:#0072b2}.c2{stroke:#d55e00}.c3{stroke:#009e73}.c4{stroke:#cc79a7}.c5{stroke:#e69f00}
.c6{stroke:#56b4e9}
</style></head><body><h1>Texts kept against the threshold of {{ title }}</h1>
{% for name, chart in charts %}<h2>{{ name }}</h2>{{ chart }}{% endfor %}
<table><tr><th>threshold</th><th>texts kept</th><th>rate</th><th>samples kept</th></tr>
{% for row in rows %}<tr><td>{{ "%g" % row.threshold }}</td><td>{{ "{:,}".format(row.kept) }}</td>
<td>{{ "%.1f%%" % (100 * (row.keep_rate or 0)) }}</td><td>{{ "{:,}".format(row.samples_kept) }}</td></tr>
{% endfor %}</table></body></html>
"""
