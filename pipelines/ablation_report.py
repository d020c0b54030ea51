"""What an ablation found, as a Parquet table in the store, as lines for a terminal, and as one drawing (SVG)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from markupsafe import Markup

from curation.table import replace_text, replacing, write_parquet
from pipelines.ablation import Ablation, Figure
from pipelines.model_views import ABLATIONS
from pipelines.report_charts import HEIGHT, WIDTH, Measured, intervals

Rows = list[dict[str, Any]]
TABLE_FILE = "table.parquet"
PLOT_FILE = "plot.svg"
_GAP, _HEAD = 20, 26
"""Between the charts, and above each row of them, in units of the view box."""


def write(rows: Rows, ablation: Ablation, folder: Path) -> None:
    """Write both files, each whole or not at all. Written again, they are replaced."""
    path = folder / TABLE_FILE
    with replacing(path) as temporary:
        write_parquet(temporary, pa.Table.from_pylist(rows, schema=ABLATIONS), {})
    replace_text(folder / PLOT_FILE, str(plot(rows, ablation)))


def shown(rows: Rows) -> Rows:
    """A line for each figure and policy: texts and samples kept, the figure with its interval, gain, and costs."""
    return [
        {
            "figure": _of(row).title(),
            "policy": row["policy"],
            "texts": row["num_texts"],
            "samples": row["num_samples"],
            "value": _number(row["value"]),
            "95% interval": _range(row["lo"], row["hi"]),
            "seeds": _range(row["seed_lo"], row["seed_hi"]),
            "chance": _number(row["chance"]),
            "gain": _gain(row, next(each for each in rows if _of(each) == _of(row))),
            "train CPU s": _seconds(row["train_cpu_s"]),
            "select + pack CPU s": _seconds(_sum(row["select_cpu_s"], row["pack_cpu_s"])),
        }
        for row in rows
    ]


def _of(row: dict[str, Any]) -> Figure:
    return Figure(**{name: row[name] for name in ("suite", "metric", "direction", "language")})


def _gain(row: dict[str, Any], first: dict[str, Any]) -> str:
    """Over the first policy; one that shares its runs, because it keeps the same, is no measurement of a difference."""
    if row["gain"] is None:
        return ""
    if row["runs"] == first["runs"]:
        return f"keeps what {first['policy']} keeps"
    return f"{row['gain']:+.3g} {_range(row['gain_lo'], row['gain_hi'])}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"


def _range(lo: float | None, hi: float | None) -> str:
    return "" if lo is None or hi is None else f"[{_number(lo)}, {_number(hi)}]"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _sum(*values: float | None) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def plot(rows: Rows, ablation: Ablation) -> Markup:
    """Each figure against the texts kept, and against the CPU-seconds of a run and of its selection and packing."""
    charts, top = [], 0
    for figure in ablation.figures:
        some = [row for row in rows if _of(row) == figure]
        chance = next((row["chance"] for row in some if row["chance"] is not None), None)
        charts.append(
            Markup('<text class="title" x="0" y="{}">{}: {}</text>').format(top + 15, ablation.name, figure.title())
        )
        for column, (x_name, xs) in enumerate(
            (
                ("texts kept", [float(row["num_texts"]) for row in some]),
                (
                    "CPU-seconds",
                    [float(_sum(row["train_cpu_s"], row["select_cpu_s"], row["pack_cpu_s"]) or 0.0) for row in some],
                ),
            )
        ):
            points = [
                Measured(row["policy"], x, row["value"], row["lo"], row["hi"]) for row, x in zip(some, xs, strict=True)
            ]
            chart = intervals(points, x_name, figure.metric, chance)
            place = Markup('<svg x="{}" y="{}" width="{}" height="{}">{}</svg>')
            charts.append(place.format(column * (WIDTH + _GAP), top + _HEAD, WIDTH, HEIGHT, chart))
        top += HEIGHT + _HEAD + _GAP
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="Ablation {}">'
        "<style>{}</style>{}</svg>\n"
    ).format(2 * WIDTH + _GAP, top, ablation.name, Markup(STYLE), Markup("").join(charts))


STYLE = """
svg{background:#fff;font:12px system-ui,sans-serif}text{fill:#5f6875}.title{fill:#1d2129;font-size:14px;font-weight:600}
.grid{stroke:#e2e5ea}.cut{stroke:#8a5a00;stroke-dasharray:4 3}
.c0{stroke:#c8553d;fill:#c8553d}.c1{stroke:#22746b;fill:#22746b}.c2{stroke:#0072b2;fill:#0072b2}
.c3{stroke:#8a5a00;fill:#8a5a00}.c4{stroke:#cc79a7;fill:#cc79a7}.c5{stroke:#e69f00;fill:#e69f00}
[class^=c]{stroke-width:2}
@media (prefers-color-scheme:dark){svg{background:#15181d}text{fill:#98a2b1}.title{fill:#e4e7ec}.grid{stroke:#2c323b}}
"""
