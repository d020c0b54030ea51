"""Sweep: a grid of thresholds, and what each combination would keep; nothing is written to the store."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from curation.policy import PolicyItem, Rule, Threshold, sql_literal
from curation.step import Step, suggest
from pipelines import database
from pipelines.curve import LANGUAGES_SHOWN, percent
from pipelines.decide import Decider
from pipelines.policy_checks import check_rule_sql
from pipelines.policy_file import parse_value
from pipelines.pool_rows import Rows
from pipelines.solve import solve
from pipelines.stage import Report
from pipelines.yaml_place import RecipeError, load

MAX_CELLS = 1000
"""A larger grid is more likely a slip than a wish."""
Grid = dict[str, list[Any]]


class GridFile(Step):
    """A grid in YAML: `set: {rule.field: [values]}`."""

    set: dict[str, list[Threshold | None]]


def read_grid(settings: Sequence[str], path: Path | None) -> Grid:
    """`rule.field=a,b,c` settings and a grid file as one grid. Raises RecipeError for what is neither."""
    grid: Grid = dict(load(path, GridFile)[0].set) if path is not None else {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not equals or not values or "." not in name:
            raise RecipeError(f"--set {setting!r} is not RULE.FIELD=VALUE,VALUE,...")
        if name in grid:
            raise RecipeError(f"--set: {name} is set twice")
        grid[name] = [parse_value(value) for value in values.split(",")]
    if not grid or not all(grid.values()):
        raise RecipeError("a sweep needs values to set: --set RULE.FIELD=VALUE,VALUE,... or --grid FILE")
    return grid


def cells(policy: Sequence[PolicyItem], grid: Grid) -> list[tuple[dict[str, Any], list[PolicyItem]]]:
    """Every combination of the grid's values, with its policy. Raises RecipeError naming what cannot be set."""
    count = 1
    for values in grid.values():
        count *= len(values)
    if count > MAX_CELLS:
        raise RecipeError(f"a grid of {count:,} cells: at most {MAX_CELLS:,} are counted")
    found = []
    for combination in itertools.product(*grid.values()):
        chosen = dict(zip(grid, combination, strict=True))
        changed = list(policy)
        for name, value in chosen.items():
            changed = _set(changed, name, value)
        found.append((chosen, changed))
    return found


def _set(policy: Sequence[PolicyItem], name: str, value: Any) -> list[PolicyItem]:
    rule, _, field = name.partition(".")
    place = next((n for n, item in enumerate(policy) if item.name == rule), None)
    if place is None:
        raise RecipeError(f"{name}: the policy has no rule {rule!r}; {suggest(rule, [item.name for item in policy])}")
    item = policy[place]
    try:
        if isinstance(item, Rule) and field in item.at:
            changed: PolicyItem = item.changed(at={**item.at, field: value})
        elif field in type(item).model_fields:
            changed = item.changed(**{field: value})
        else:
            choices = [*type(item).model_fields, *(item.at if isinstance(item, Rule) else ())]
            raise RecipeError(f"{name}: the rule has no field or threshold {field!r}; {suggest(field, choices)}")
    except ValidationError as error:
        raise RecipeError(f"{name}={value!r}: {error.errors()[0]['msg']}") from error
    return [*policy[:place], changed, *policy[place + 1 :]]


def sweep(
    rows: Rows,
    grid_cells: Sequence[tuple[Mapping[str, Any], Sequence[PolicyItem]]],
    searches: Mapping[str, pa.Table | Sequence[Path]],
    say: Report,
    threads: int | None = None,
) -> pa.Table:
    """One row for each cell and language (null: all): the values set, texts, samples, pool_texts, keep_rate."""
    _check(grid_cells, rows.types)
    lines: list[dict[str, Any]] = []
    for number, (chosen, policy) in enumerate(grid_cells, start=1):
        values = ", ".join(f"{name} = {value}" for name, value in chosen.items())
        found = _count(rows, policy, searches, threads)
        say(f"  {number} of {len(grid_cells)}: {values}: {found[0]['texts']:,} texts")
        lines += [{**chosen, **line} for line in found]
    return pa.table({name: _column([line[name] for line in lines]) for name in lines[0]})


def _column(values: Sequence[Any]) -> pa.Array:
    """Values as a column; as text where a grid has several kinds of them, or whole numbers beyond 64 bits."""
    kinds = {type(value) for value in values if value is not None}
    if len(kinds - {int, float}) + bool(kinds & {int, float}) > 1 or any(
        type(value) is int and not -(2**63) <= value < 2**63 for value in values
    ):
        values = [value if value is None or isinstance(value, str) else sql_literal(value) for value in values]
    return pa.array(values)


def _check(
    grid_cells: Sequence[tuple[Mapping[str, Any], Sequence[PolicyItem]]], types: Mapping[str, pa.DataType]
) -> None:
    """Raises RecipeError for a value with which a rule is no valid SQL any more, before the first cell is counted."""
    checked: set[str] = set()
    for chosen, policy in grid_cells:
        values = ", ".join(f"{name} = {value!r}" for name, value in chosen.items())
        for item in policy:
            if repr(item) not in checked:
                checked.add(repr(item))
                check_rule_sql(item, types, partial("{}: {}.{}".format, values, item.name))


def _count(
    rows: Rows, policy: Sequence[PolicyItem], searches: Mapping[str, pa.Table | Sequence[Path]], threads: int | None
) -> list[dict[str, Any]]:
    """Texts and samples that a policy keeps: all first, then by language, largest first."""
    with Decider(rows, policy, searches, threads) as decider:
        solve(decider)
        spoken = [name for name in ("language", "language_claimed") if name in decider.known]
        language = f"coalesce({', '.join(spoken)}, 'unknown')" if spoken else "'unknown'"

        def count(batch: int) -> pa.Table:
            table = decider.rows.read(batch, ["sample_uid", *spoken]).append_column("kept", decider.kept(batch))
            with decider.candidates(table) as con:
                judged = database.arrow(con, f"select sample_uid, {language} as language, kept from candidates")
            with decider.candidates(judged, "judged") as con:
                return database.arrow(con, database.query("select/sweep"))

        decider.con.register("counted", pa.concat_tables([found for _, found in decider.each(count)]))
        return database.rows(
            decider.con,
            "select language, sum(texts)::bigint as texts, sum(samples)::bigint as samples, "
            "sum(pool_texts)::bigint as pool_texts, sum(texts) / nullif(sum(pool_texts), 0) as keep_rate from counted "
            "group by language order by language is not null, pool_texts desc, language",
        )


def shown(table: pa.Table, names: Sequence[str]) -> list[dict[str, Any]]:
    """One line for each cell: what was set, texts, samples, rate, and the rates of the largest languages."""
    rows = table.to_pylist()
    spoken = list(dict.fromkeys(row["language"] for row in rows if row["language"] is not None))[:LANGUAGES_SHOWN]
    lines: list[dict[str, Any]] = []
    for row in rows:
        if row["language"] is None:
            line = {name: row[name] for name in names}
            lines.append({**line, "texts": row["texts"], "samples": row["samples"], "rate": percent(row["keep_rate"])})
            lines[-1] |= dict.fromkeys(spoken, "")
        elif row["language"] in spoken:
            lines[-1][row["language"]] = percent(row["keep_rate"])
    return lines
