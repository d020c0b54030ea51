"""A policy as its documentation reads, row by row in plain Python: what the engine's decisions are compared with.

SQL is not interpreted: every expression that a policy here may hold stands in `MEANS` with a function of a row that
says the same, where None is null.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from curation.policy import Balance, Decontaminate, Dedupe, Gate, PolicyItem, Quota, Rule, Top, Weight

Row = dict[str, Any]
Value = Callable[[Row], Any]


def _single(value: Any) -> Any:
    return None if value is None else np.float32(value)


def _strict(function: Callable[..., Any], *names: str) -> Value:
    """A function that is null where one of these columns is."""

    def of(row: Row) -> Any:
        given = [_single(row[name]) if name == "clip_score" else row[name] for name in names]
        return None if any(each is None for each in given) else function(*given)

    return of


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _or(*values: bool | None) -> bool | None:
    return True if True in values else None if None in values else False


def _and(*values: bool | None) -> bool | None:
    return False if False in values else None if None in values else True


def _said(text: str | None) -> float | None:
    """The number that a text says; NaN is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _above(text: str, least: float) -> bool | None:
    value = _said(text)
    return None if value is None else value > least


THIRD = np.float32(0.3)
MEANS: dict[str, Value] = {
    # predicates
    "true": lambda _: True,
    "clip_score >= 0.3": _strict(lambda c: bool(c >= THIRD), "clip_score"),
    "clip_score = 0.3": _strict(lambda c: bool(c == THIRD), "clip_score"),
    "not (clip_score > 0.3)": _strict(lambda c: not c > THIRD, "clip_score"),
    "clip_score between -0.5 and 0.5": _strict(lambda c: bool(-0.5 <= c <= 0.5), "clip_score"),
    "quality > 0.3": _strict(lambda q: q > 0.3, "quality"),
    "quality is null or quality < 0.5": lambda r: r["quality"] is None or r["quality"] < 0.5,
    "width_px / (height_px - 64) > 0.5": _strict(
        lambda w, h: None if h == 64 else w / (h - 64) > 0.5, "width_px", "height_px"
    ),
    "language = 'en' or quality > 0.3": lambda r: _or(
        None if r["language"] is None else r["language"] == "en", None if r["quality"] is None else r["quality"] > 0.3
    ),
    "language in ('en', '日本語', 'e''n') and width_px > 32": lambda r: _and(
        None if r["language"] is None else r["language"] in ("en", "日本語", "e'n"),
        None if r["width_px"] is None else r["width_px"] > 32,
    ),
    "language <> 'en'": _strict(lambda name: name != "en", "language"),
    "not (language = 'en' and quality > 0.3)": lambda r: _not(
        _and(
            None if r["language"] is None else r["language"] == "en",
            None if r["quality"] is None else r["quality"] > 0.3,
        )
    ),
    "len(entry_ids) >= 1 -- at least one": _strict(lambda ids: len(ids) >= 1, "entry_ids"),
    "width_px > 32": _strict(lambda w: w > 32, "width_px"),
    "language is not null": lambda r: r["language"] is not None,
    "try_cast(heard as double) > 0.3": _strict(lambda text: _above(text, 0.3), "heard"),
    "heard is not null and not try_cast(heard as float) <= 0.3": lambda r: _and(
        r["heard"] is not None, None if r["heard"] is None else _above(r["heard"], 0.3)
    ),
    # numbers
    "clip_score": lambda r: _single(r["clip_score"]),
    "quality": lambda r: r["quality"],
    "width_px": lambda r: r["width_px"],
    "quality - quality": _strict(lambda q: q - q, "quality"),
    "1 / quality": _strict(lambda q: _ratio(1.0, q), "quality"),
    "-clip_score": _strict(lambda c: -c, "clip_score"),
    "least(1.0, quality)": lambda r: 1.0 if r["quality"] is None else min(1.0, r["quality"]),
    "0": lambda _: 0,
    "1": lambda _: 1,
    "draw": lambda r: r["draw"],
    # groups
    "language": lambda r: r["language"],
    "quality > 0.3 and language = 'en'": lambda r: _and(
        None if r["quality"] is None else r["quality"] > 0.3, None if r["language"] is None else r["language"] == "en"
    ),
    "lower(language)": _strict(str.lower, "language"),
    "clip_score > 0.3": _strict(lambda c: bool(c > THIRD), "clip_score"),
}
PREDICATES = list(MEANS)[: list(MEANS).index("clip_score")]
NUMBERS = list(MEANS)[list(MEANS).index("clip_score") : list(MEANS).index("language")]
GROUPS = ["language", "quality > 0.3 and language = 'en'", "lower(language)", "width_px", "clip_score", "quality", "1"]


def number(value: Any) -> float | None:
    """As `top` and `weight` take it: null where it is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


HEARD = "try_cast(heard as double)"
ORDERED = re.compile(r"(.*?)((?: asc| desc| nulls (?:first|last))*)$")


def order_key(ordering: str | None, row: Row) -> list[Any]:
    """A key by which Python sorts as SQL does: nulls last unless it says otherwise; texts by their bytes."""
    key: list[Any] = []
    for term in (ordering or "").split(", ") if ordering else []:
        expression, how = ORDERED.findall(term)[0]
        value = _said(row["heard"]) if expression == HEARD else row[expression]
        is_first = "first" in how
        key.append((value is None) != is_first)
        if value is None:
            key.append(0)
        elif isinstance(value, str):
            spelled = [*value.encode(), -1]
            key.append([-byte for byte in spelled] if "desc" in how else spelled)
        else:
            key.append(-value if "desc" in how else value)
    return key


@dataclass
class Dull:
    """Rows in the order of the pool and what searches found of them; `decide` gives rejections by text_uid."""

    rows: Sequence[Row]
    groups: dict[str, str]
    """media_uid -> duplicate group."""
    text_groups: dict[str, str]
    similar: Sequence[Row]
    """Rows of `semantic_edges`."""
    held: Sequence[Row]
    """Rows of `evaluation_matches`."""
    rejected: dict[str, list[str]] = field(default_factory=dict)
    said: dict[str, dict[str, Any]] = field(default_factory=dict)

    def decide(self, policy: Sequence[PolicyItem]) -> None:
        self.rejected = {row["text_uid"]: [] for row in self.rows}
        self.said = {row["text_uid"]: {} for row in self.rows}
        for item in policy:
            passed = {uid for uid, rules in self.rejected.items() if not rules}
            lost = self.lost(item, passed)
            for uid, rules in self.rejected.items():
                rules += [item.name] if uid in lost else []

    def lost(self, item: PolicyItem, passed: set[str]) -> set[str]:
        match item:
            case Rule():
                return {row["text_uid"] for row in self.rows if MEANS[item.predicate()](row) is not True}
            case Weight():
                return self.weighed(item)
            case Gate():
                return set()
            case Top():
                return self.below(item, passed)
            case Quota():
                return self.over(item, passed)
            case Dedupe(of="semantic"):
                return self.too_alike(item, passed)
            case Dedupe():
                return self.copies(item, passed)
            case Decontaminate():
                held = {match["uid"] for match in self.held if match["rule"] == item.name}
                return {row["text_uid"] for row in self.rows if {row["text_uid"], row["media_uid"]} & held}
            case Balance():
                return self.unbalanced(item, passed)

    def weighed(self, item: Weight) -> set[str]:
        lost = set()
        for row in self.rows:
            weight, said = number(MEANS[item.value](row)), self.said[row["text_uid"]]
            before = said.get("sampling_weight", 1.0)
            said["sampling_weight"] = None if weight is None or before is None else weight * before
            if weight is None or weight <= 0:
                lost.add(row["text_uid"])
        return lost

    def below(self, item: Top, passed: set[str]) -> set[str]:
        values = {row["text_uid"]: number(MEANS[item.by](row)) for row in self.rows}
        pool = sorted((-value, uid) for uid, value in values.items() if value is not None)
        counted = [(value, uid) for value, uid in pool if item.among == "all" or uid in passed]
        if not counted:
            return set(values)
        num = len(pool) if item.of == "pool" else len(counted)
        if item.ties == "keep":
            cut = counted[min(int(num * item.fraction), len(counted) - 1)][0]
            return {uid for uid, value in values.items() if value is None or -value > cut}
        stay = counted[: math.ceil(Fraction(repr(item.fraction)) * num)]
        last = stay[-1]
        if not any(value == last[0] for value, _ in counted[len(stay) :]):
            last = (last[0], "\uffff")  # no tie is broken: rows that are not counted are not told apart by uid either
        return {uid for uid, value in values.items() if value is None or (-value, uid) > last}

    def over(self, item: Quota, passed: set[str]) -> set[str]:
        unit = "sample_uid" if item.unit == "samples" else "text_uid"
        lost = {row["text_uid"] for row in self.rows if MEANS[item.per](row) is None}
        for value in {MEANS[item.per](row) for row in self.rows} - {None}:
            group = [row for row in self.rows if MEANS[item.per](row) == value]
            counted = [row for row in group if item.among == "all" or row["text_uid"] in passed]

            def key(row: Row) -> tuple[list[Any], str]:
                drawn = hashlib.md5(f"{item.seed}:{row[unit]}".encode()).hexdigest()
                return order_key(item.prefer, row), drawn

            units = list(dict.fromkeys(row[unit] for row in sorted(counted, key=key)))
            if item.more == "drop":
                lost |= {row["text_uid"] for row in group if len(units) > item.at_most}
            else:
                lost |= {row["text_uid"] for row in counted if units.index(row[unit]) >= item.at_most}
        return lost

    def firsts(self, uid: str) -> dict[str, Row]:
        """Each medium (or text) with the first text that it has."""
        found: dict[str, Row] = {}
        for row in self.rows:
            if row[uid] is not None:
                found.setdefault(row[uid], row)
        return found

    def copies(self, item: Dedupe, passed: set[str]) -> set[str]:
        uid, groups = ("text_uid", self.text_groups) if item.of == "texts" else ("media_uid", self.groups)
        named, says = ("text_uid", "text_duplicate_of") if item.of == "texts" else ("sample_uid", "duplicate_of")
        known = self.firsts(uid)
        good = {row[uid] for row in self.rows if row["text_uid"] in passed}
        lost = set()
        for group in set(groups.values()):
            members = [each for each in known if groups.get(each) == group]
            members.sort(key=lambda each: (each not in good, order_key(item.prefer, known[each]), each))
            for row in self.rows:
                if row[uid] in members[1:]:
                    lost.add(row["text_uid"])
                    self.said[row["text_uid"]].setdefault(says, known[members[0]][named])
        return lost

    def too_alike(self, item: Dedupe, passed: set[str]) -> set[str]:
        uid = "text_uid" if any(edge["level"] == "text" for edge in self.similar) else "media_uid"
        known = self.firsts(uid)
        good = {row[uid] for row in self.rows if row["text_uid"] in passed}
        same = {edge["other_uid"]: edge["uid"] for edge in self.similar if edge["kind"].endswith("(same)")}
        near = {(edge["uid"], edge["other_uid"]) for edge in self.similar if not edge["kind"].endswith("(same)")}
        near |= {(b, a) for a, b in near}
        kept: list[str] = []
        lost: dict[str, str] = {}
        for each in sorted(known, key=lambda e: (e not in good, order_key(item.prefer, known[e]), e)):
            vector = same.get(each, each)
            alike = [k for k in kept if same.get(k, k) == vector or (same.get(k, k), vector) in near]
            if alike:
                lost[each] = alike[0]
            else:
                kept.append(each)
        for row in self.rows:
            if row[uid] in lost:
                other = known[lost[row[uid]]]
                name = other["text_uid"] if uid == "text_uid" else other["sample_uid"]
                self.said[row["text_uid"]].setdefault("semantic_duplicate_of", name)
        return {row["text_uid"] for row in self.rows if row[uid] in lost}

    def unbalanced(self, item: Balance, passed: set[str]) -> set[str]:
        spoken = [row for row in self.rows if MEANS[item.where](row) is True]
        counted = [row for row in spoken if row["text_uid"] in passed]
        share = self.by_group(item, counted) if item.by is not None else by_entry(item, counted)
        lost = set()
        for row in spoken:
            said = self.said[row["text_uid"]]
            keep = share(row)
            keep = (1.0 if item.no_match == "keep" else 0.0) if keep is None else keep
            draw = self.unused(row)
            if draw is None or not draw < keep:
                lost.add(row["text_uid"])
            said["keep_probability"] = said.get("keep_probability", 1.0) * keep
        return lost

    def unused(self, row: Row) -> float | None:
        """The draw, spread again over what an earlier balance left."""
        return _ratio(row["draw"], self.said[row["text_uid"]].get("keep_probability", 1.0))

    def by_group(self, item: Balance, counted: Sequence[Row]) -> Value:
        def key(row: Row) -> Any:
            return MEANS[item.by or ""](row)

        sizes = Counter(key(row) for row in counted if key(row) is not None)
        if item.t is not None:
            return lambda row: None if key(row) is None else item.t / max(item.t, sizes[key(row)])
        allowed = {name: min(item.most or 0, size) for name, size in sizes.items()}
        if item.exponent is not None:
            allowed = fair(sizes, item.exponent, item.fraction * sum(sizes.values()))
        cuts = {}
        for name, num in allowed.items():
            draws = sorted(self.unused(row) for row in counted if key(row) == name)
            cuts[name] = draws[num] if num < len(draws) else 1.0
        return lambda row: None if key(row) is None else cuts.get(key(row), 1.0)


def fair(sizes: Counter[Any], exponent: float, total: float) -> dict[Any, int]:
    """Numbers as `size ** exponent`, about `total` in all: the common scale at which they add up to it, by halving."""
    if total >= sum(sizes.values()):
        return dict(sizes)
    low, high = 0.0, float(max(sizes.values()))
    for _ in range(200):
        middle = (low + high) / 2
        if sum(min(size, middle * size**exponent) for size in sizes.values()) < total:
            low = middle
        else:
            high = middle
    return {name: min(size, math.ceil(high * size**exponent - 1e-6)) for name, size in sizes.items()}


def by_entry(item: Balance, counted: Sequence[Row]) -> Value:
    """MetaCLIP's probability; with `per_language` the threshold of each language is that of MetaCLIP 2."""
    counts = Counter(entry for row in counted for entry in row[item.entries] or ())
    language = {entry: row["entry_language"] for row in counted for entry in row[item.entries] or ()}
    t = dict.fromkeys(set(language.values()), item.t)
    if item.per_language is not None:
        own = [counts[entry] for entry in counts if language[entry] == item.per_language]
        share = sum(count for count in own if count < item.t) / sum(own)
        for name in set(t) - {item.per_language}:
            t[name] = nearest([counts[entry] for entry in counts if language[entry] == name], share)

    def of(row: Row) -> float | None:
        if not row[item.entries]:
            return None
        shares = [1 - t.get(language.get(e), 1) / max(counts[e], t.get(language.get(e), 1)) if e in counts else 0.0
                  for e in row[item.entries]]  # fmt: skip
        return 1 - math.prod(shares)

    return of


def nearest(counts: Iterable[int], share: float) -> int:
    """The count at which the cumulative share of the rising counts is nearest to `share`."""
    rising = sorted(counts)
    sums = np.cumsum(rising) / sum(rising)
    return rising[min(range(len(rising)), key=lambda place: abs(sums[place] - share))]
