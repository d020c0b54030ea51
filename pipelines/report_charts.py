"""The report's charts: SVG without scripts, styled by the page's classes only, so that they follow its theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

WIDTH, HEIGHT = 520, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 42
"""Margins of the plot for tick labels and the axes' names, in units of the view box."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """One axis: range (lo < hi), whether logarithmic, and its name."""

    lo: float
    hi: float
    name: str
    is_log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between both ends, 0-1."""
        scale: Callable[[float], float] = math.log10 if self.is_log else float
        return (scale(value) - scale(self.lo)) / (scale(self.hi) - scale(self.lo))

    def ticks(self) -> list[float]:
        """About five round values in the range; powers of ten on a logarithmic axis."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.lo) - 1e-9), math.floor(math.log10(self.hi) + 1e-9)
            return [10.0**power for power in range(first, last + 1, max(1, (last - first) // 5))]
        step = round_step((self.hi - self.lo) / 5)
        first = math.ceil(self.lo / step - 1e-9)
        return [step * number for number in range(first, math.floor(self.hi / step + 1e-9) + 1)]


def histogram(bins: Sequence[tuple[float, float, int, int]], name: str, cut: float | None = None) -> Markup:
    """Columns of texts by a value, kept below and rejected above; bins: (lo, hi, kept, rejected), adjoining."""
    highest = max(kept + rejected for _, _, kept, rejected in bins)
    x_axis, y_axis = Axis(bins[0][0], bins[-1][1], name), Axis(0, highest * 1.05 or 1, "texts")
    parts = []
    for lo, hi, kept, rejected in bins:
        (left, base), (right, top) = _at(x_axis, y_axis, lo, 0), _at(x_axis, y_axis, hi, kept)
        _, over = _at(x_axis, y_axis, hi, kept + rejected)
        parts += [_rectangle("kept", left, top, right, base), _rectangle("lost", left, over, right, top)]
    if cut is not None and x_axis.lo <= cut <= x_axis.hi:
        x, top = _at(x_axis, y_axis, cut, y_axis.hi)
        parts.append(Markup('<line class="cut" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(x, top, HEIGHT - BOTTOM))
        before = x > WIDTH / 2
        parts.append(_label(x + (-6 if before else 6), top + 10, f"cut {cut:.4g}", "end" if before else "start"))
    return _drawing(x_axis, y_axis, parts, f"Histogram of {name}")


def ranks(before: Sequence[int], after: Sequence[int], limit: int | None = None) -> Markup:
    """Texts of each metadata entry against the entry's rank, both logarithmic, before and after balancing.

    before, after: counts above zero, each in falling order. limit: the policy's t, drawn as a line.
    """
    highest = max(before[0], after[0] if after else 1, limit if limit and limit <= 2 * before[0] else 1)
    x_axis = Axis(1, max(10, len(before)), "rank of the entry", is_log=True)
    y_axis = Axis(1, max(10, highest * 1.15), "texts", is_log=True)
    parts = [_line(x_axis, y_axis, _thinned(before), "before"), _line(x_axis, y_axis, _thinned(after), "after")]
    if limit is not None and limit <= y_axis.hi:
        left, y = _at(x_axis, y_axis, x_axis.lo, limit)
        parts.append(Markup('<line class="cut" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(left, WIDTH - RIGHT, y=y))
        parts.append(_label(WIDTH - RIGHT, y - 6, f"t = {limit:,}", "end"))
    return _drawing(x_axis, y_axis, parts, "Texts of each metadata entry by rank, before and after balancing")


def head_shares(before: Sequence[int], after: Sequence[int]) -> Markup:
    """The share of all matches that the most frequent entries have, by their number, before and after balancing.

    before, after: counts above zero, each in falling order. The lower the curve, the flatter the distribution.
    """
    x_axis = Axis(1, max(10, len(before)), "most frequent entries", is_log=True)
    y_axis = Axis(0, 1.12, "share of matches")  # room for the name above the last tick
    parts = []
    for counts, name in ((before, "before"), (after, "after")):
        total, sums = sum(counts) or 1, list(accumulate(counts))
        parts.append(_line(x_axis, y_axis, [(rank, n / total) for rank, n in _thinned(sums)], name))
    return _drawing(
        x_axis, y_axis, parts, "Share of all matches of the most frequent entries, before and after balancing"
    )


def losses(points: Sequence[Point]) -> Markup:
    """Training loss against the step, and its running mean over a twentieth of the steps."""
    reach = len(points) // 40
    around = [points[max(0, i - reach) : i + reach + 1] for i in range(len(points))]
    means = [(step, sum(loss for _, loss in near) / len(near)) for (step, _), near in zip(points, around, strict=True)]
    lowest, highest = min(loss for _, loss in points), max(loss for _, loss in points)
    room = (highest - lowest) * 0.06 or 1.0
    x_axis = Axis(min(0, points[0][0]), max(points[-1][0], points[0][0] + 1), "step")
    y_axis = Axis(min(lowest, max(0.0, lowest - room)), highest + room, "loss")
    parts = [_line(x_axis, y_axis, _sparse(points), "faint"), _line(x_axis, y_axis, _sparse(means), "after")]
    return _drawing(x_axis, y_axis, parts, "Training loss")


def curves(lines: Mapping[str, Sequence[Point]], name: str) -> Markup:
    """Shares of texts kept against a threshold, a line for each name; line number n has the class c<n>."""
    points = [point for line in lines.values() for point in line]
    lowest, highest = min(x for x, _ in points), max(x for x, _ in points)
    x_axis = Axis(lowest, highest if highest > lowest else lowest + 1, name)
    y_axis = Axis(0, 1, "kept")
    parts = []
    for number, (label, line) in enumerate(lines.items()):
        parts.append(_line(x_axis, y_axis, line, f"c{number}"))
        y = TOP + 12 * (number + 1)
        parts.append(Markup('<line class="c{}" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(
            number, WIDTH - RIGHT - 24, WIDTH - RIGHT, y=y - 4))  # fmt: skip
        parts.append(_label(WIDTH - RIGHT - 30, y, label[:40], "end"))
    return _drawing(x_axis, y_axis, parts, f"Share of texts kept against {name}")


@dataclass(frozen=True)
class Measured:
    """A named value with its interval, at a place x."""

    name: str
    x: float
    value: float
    lo: float
    hi: float


def intervals(points: Sequence[Measured], x_name: str, y_name: str, chance: float | None = None) -> Markup:
    """Values with their intervals as bars; point number n has the class c<n>. chance: drawn as a line."""
    x_axis = _padded([each.x for each in points], x_name)
    heights = [*(each.lo for each in points), *(each.hi for each in points), *([] if chance is None else [chance])]
    y_axis = _padded(heights, y_name)
    parts = []
    if chance is not None:
        left, y = _at(x_axis, y_axis, x_axis.lo, chance)
        parts.append(Markup('<line class="cut" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(left, WIDTH - RIGHT, y=y))
        parts.append(_label(WIDTH - RIGHT, y - 5, "chance", "end"))
    for number, each in enumerate(points):
        x, y = _at(x_axis, y_axis, each.x, each.value)
        (_, low), (_, high) = _at(x_axis, y_axis, each.x, each.lo), _at(x_axis, y_axis, each.x, each.hi)
        name = f"c{number}"
        for left, right, top, bottom in ((x, x, high, low), (x - 5, x + 5, high, high), (x - 5, x + 5, low, low)):
            parts.append(Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                name, round(left, 1), round(right, 1), top, bottom))  # fmt: skip
        parts.append(Markup('<circle class="{}" cx="{}" cy="{}" r="4"/>').format(name, x, y))
        before = x > WIDTH / 2
        parts.append(_label(x + (-9 if before else 9), y + 4, each.name[:40], "end" if before else "start"))
    return _drawing(x_axis, y_axis, parts, f"{y_name} against {x_name}")


def _padded(values: Sequence[float], name: str) -> Axis:
    """An axis with room beyond both ends; not below zero where no value is."""
    lo, hi = min(values), max(values)
    room = (hi - lo) * 0.15 or abs(hi) * 0.1 or 1.0
    return Axis(lo - room if lo < 0 else max(0.0, lo - room), hi + 1.5 * room, name)  # the name stands above the plot


def _thinned(counts: Sequence[int]) -> list[Point]:
    """Rank and count at about 40 ranks a decade."""
    chosen = sorted({min(len(counts), round(10 ** (i / 40))) for i in range(40 * 8)} if counts else ())
    return [(float(rank), float(counts[rank - 1])) for rank in chosen]


def _sparse(points: Sequence[Point]) -> list[Point]:
    """About 400 of them, the last one among them."""
    step = max(1, len(points) // 400)
    return [*points[::step], points[-1]]


def round_step(step: float) -> float:
    """The next of 1, 2, 5, 10, 20 ... above `step`."""
    magnitude = 10.0 ** math.floor(math.log10(step))
    return next(magnitude * factor for factor in (1, 2, 5, 10) if magnitude * factor >= step * 0.999)


def _at(x_axis: Axis, y_axis: Axis, x: float, y: float) -> Point:
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return round(LEFT + x_axis.share(x) * plot_width, 1), round(HEIGHT - BOTTOM - y_axis.share(y) * plot_height, 1)


def _rectangle(name: str, left: float, top: float, right: float, bottom: float) -> Markup:
    width, height = max(0.5, right - left - 1), bottom - top
    if height <= 0:
        return Markup("")
    return Markup('<rect class="{}" x="{}" y="{}" width="{:.1f}" height="{:.1f}"/>').format(
        name, left, top, width, height
    )


def _line(x_axis: Axis, y_axis: Axis, points: Iterable[Point], name: str) -> Markup:
    places = " ".join(f"{x},{y}" for x, y in (_at(x_axis, y_axis, *point) for point in points))
    return Markup('<polyline class="{}" points="{}"/>').format(name, places) if places else Markup("")


def _label(x: float, y: float, text: str, anchor: str = "middle") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(round(x, 1), round(y, 1), anchor, text)


def _drawing(x_axis: Axis, y_axis: Axis, parts: Iterable[Markup], title: str) -> Markup:
    lines = []
    for tick in y_axis.ticks():
        left, y = _at(x_axis, y_axis, x_axis.lo, tick)
        lines.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{y}" y2="{y}"/>').format(left, WIDTH - RIGHT, y=y))
        lines.append(_label(left - 7, y + 4, _short(tick), "end"))
    for tick in x_axis.ticks():
        x, y = _at(x_axis, y_axis, tick, y_axis.lo)
        lines.append(_label(x, y + 17, _short(tick)))
    lines.append(_label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_axis.name))
    lines.append(Markup('<text class="name" x="4" y="{}">{}</text>').format(TOP - 3, y_axis.name))
    body = Markup("").join([*lines, *parts])
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, body
    )


def _short(value: float) -> str:
    """A tick's label: 12, 0.25, 20k, 3M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= 10 * size or (abs(value) >= size and value % size == 0):
            return f"{value / size:g}{unit}"
    return f"{value:.6g}"
