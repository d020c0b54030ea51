"""Policies: ordered lists of rules over signals. Every rule is asked about every row; nothing is deleted.

A rule is told apart by its first key, whose value is its name, the name under which `rejected_by` lists it:

    - rule: large_enough            keep the rows for which a SQL predicate over the columns is true
      keep: short_side_px >= $least
      at: {least: 64}
    - top: best_matching            keep the best fraction of the rows that passed the rules above, or of all
      by: clip_score
      fraction: 0.3
    - quota: same_text              keep at most so many samples (or texts) for each value
      per: text_clean
      at_most: 10
    - dedupe: near_duplicate        keep one sample of each duplicate group
    - balance: metaclip             MetaCLIP's balanced sampling over matched metadata entries
      t: 20000
    - weight: by_quality            how often a kept row is drawn in training; travels with it into the version
      value: least(1.0, clip_score / 0.3)

Predicates, orders and values look at one row: sums and windows over many rows are what `top`, `quota`, `dedupe` and
`balance` are for. A row for which one of them is null (a signal is missing) is rejected.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from curation.step import Step

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Sql = Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True)]
Threshold = bool | int | float | str
_PIECES = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$([a-z_][a-z0-9_]*)", re.DOTALL | re.IGNORECASE
)
"""What may hold a `$` (strings, quoted names, comments), and a named threshold."""


class Rule(Step):
    """Keeps a row if the predicate is true; a row for which it is null (a signal is missing) is rejected."""

    rule: Name
    keep: Sql
    """SQL predicate over the columns of `media`, `texts` and the signals."""
    at: dict[Name, Threshold] = {}
    """Thresholds by name: `keep: clip_score >= $least` with `at: {least: 0.28}`. A sweep can set them, and `tamis why`
    shows them beside the row's values."""

    @model_validator(mode="after")
    def _every_threshold_is_used(self) -> Self:
        used = {found[1] for found in _PIECES.finditer(self.keep) if found[1]}
        if used != self.at.keys():
            missing, idle = sorted(used - self.at.keys()), sorted(self.at.keys() - used)
            what = [f"`at` has no {name!r}" for name in missing] + [f"`keep` does not use ${name}" for name in idle]
            raise ValueError(f"{'; '.join(what)} (keep: {self.keep!r})")
        return self

    @property
    def name(self) -> str:
        return self.rule

    def predicate(self) -> str:
        """`keep` with the thresholds in their places."""
        return _PIECES.sub(lambda found: sql_literal(self.at[found[1]]) if found[1] else found[0], self.keep)


def sql_literal(value: Threshold) -> str:
    """A threshold as SQL spells it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value).lower()


class Top(Step):
    """Keeps those rows with the highest `by`; a row where it is null or not finite is rejected and not counted.

    With `ties: break` exactly ceil(fraction x n) of n rows stay, equal values in the order of text_uid, so the result
    does not depend on the order of rows. With `ties: keep` every row stays whose value is at least that at place
    floor(fraction x n) from 0: floor(fraction x n) + 1 rows and all ties, which is DataComp's `clip_score` filter
    (github.com/mlfoundations/datacomp, baselines/apply_filter.py; it fails for fraction 1, here all rows stay).
    """

    top: Name
    by: Sql
    fraction: float = Field(gt=0, le=1)
    among: Literal["passed", "all"] = "passed"
    """Which rows are counted and set the cut: those that passed the rules above, or the whole pool."""
    ties: Literal["break", "keep"] = "break"

    @property
    def name(self) -> str:
        return self.top


class Quota(Step):
    """Keeps at most `at_most` samples (or texts) for each value of `per`, or drops all rows of a value with more.

    Which of them stay is decided by `prefer`, then by a keyed hash of the uid: a function of the rows alone, never of
    their order. A row that a rule above rejects takes no place (but see `among`).
    """

    quota: Name
    per: Sql
    """SQL expression: rows with the same value share a quota. A row where it is null is rejected."""
    at_most: int = Field(ge=1)
    unit: Literal["samples", "texts"] = "samples"
    """What is counted. A sample with several texts of one value takes one place, and all of them stay."""
    more: Literal["thin", "drop"] = "thin"
    """Of a value with more: `thin` keeps `at_most`, `drop` keeps nothing (ALIGN: a text of more than 10 images)."""
    prefer: Sql | None = None
    """SQL ordering, such as `clip_score desc`, by which the places are given."""
    among: Literal["passed", "all"] = "passed"
    """Which rows are counted: those that passed the rules above, or the whole pool."""
    seed: int = 0

    @property
    def name(self) -> str:
        return self.quota


class Weight(Step):
    """Gives every row a sampling weight, which travels into the version; a row without a weight above 0 is rejected.

    The weights of several such rules multiply. The column `sampling_weight` of decisions and of a version's texts.
    """

    weight: Name
    value: Sql
    """SQL expression, 0 or more: how often the row is drawn in training, relative to others."""

    @property
    def name(self) -> str:
        return self.weight


class Dedupe(Step):
    """Keeps one sample of each duplicate group: the best by `prefer` among those with a text that passed so far.

    The rows of the others are rejected and name it in `duplicate_of`. Where no member passed, the best of all is named.
    """

    dedupe: Name
    prefer: Sql = "width_px * height_px desc, size_bytes desc"
    """SQL ordering over media columns; ties fall to the smallest media_uid."""

    @property
    def name(self) -> str:
        return self.dedupe


class Balance(Step):
    """MetaCLIP balancing: keep a text with probability 1 - prod over its entries e of (1 - t / max(count_e, t)).

    `count_e` counts the texts in `where` that passed the rules above and match entry e. The draw is the column `draw`,
    a keyed hash of the text's uid, so the decision depends on uid, seed and counts alone; a larger t keeps a superset.
    Source: MetaCLIP, arXiv 2309.16671, Algorithm 1 (one draw a text instead of one an entry; the same probability).
    """

    balance: Name
    t: int = Field(ge=1)
    """Texts an entry may have before it is thinned out: 20,000 for MetaCLIP-400M, 170,000 for 2.5B."""
    where: Sql = "true"
    """SQL predicate: the texts that the metadata speaks about (its language); all others pass untouched."""
    no_match: Literal["drop", "keep"] = "drop"
    """What becomes of a text in `where` that matches no entry. MetaCLIP drops it."""
    entries: str = "entry_ids"
    """Column with the ids of the entries matched."""

    @property
    def name(self) -> str:
        return self.balance


KINDS = ("rule", "top", "quota", "dedupe", "balance", "weight")
PolicyItem = Annotated[
    Annotated[Rule, Tag("rule")]
    | Annotated[Top, Tag("top")]
    | Annotated[Quota, Tag("quota")]
    | Annotated[Dedupe, Tag("dedupe")]
    | Annotated[Balance, Tag("balance")]
    | Annotated[Weight, Tag("weight")],
    Discriminator(
        lambda value: next(
            (kind for kind in KINDS if (kind in value if isinstance(value, dict) else hasattr(value, kind))), None
        ),
        custom_error_type="unknown_rule",
        custom_error_message=f"a rule begins with one of the keys {', '.join(KINDS)}",
    ),
]
Policy = list[PolicyItem]
