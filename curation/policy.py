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
    - dedupe: same_text             keep one text of each group of near-duplicate texts (recipe: duplicates.texts)
      of: texts
    - dedupe: same_meaning          keep a sample unless one that stays is too like it (recipe: duplicates.semantic)
      of: semantic
    - decontaminate: benchmarks     reject what named evaluation sets hold (`tamis evalset add`)
      against: [imagenet_val, flickr30k_test]
    - balance: metaclip             MetaCLIP's balanced sampling over matched metadata entries
      t: 20000
    - balance: clusters             at most so many texts of each group, drawn
      by: cluster_id
      most: 35
    - weight: by_quality            how often a kept row is drawn in training; travels with it into the version
      value: least(1.0, clip_score / 0.3)
    - gate: fair_to_languages       reject nothing; end the run where a rule keeps far less of a language than of all
      of: best_matching

Predicates, orders and values look at one row: sums and windows over many rows are what `top`, `quota`, `dedupe` and
`balance` are for. A row for which one of them is null (a signal is missing) is rejected.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from curation.step import Step

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
SetName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=60)]
Threshold = bool | int | float | str


def _as_sql(value: object) -> object:
    """What YAML takes for a number or a truth value is SQL too: `keep: true`, `value: 1`."""
    if isinstance(value, bool | int | float):
        return sql_literal(value)
    if not isinstance(value, str):
        raise ValueError("SQL is written as text")
    if not value.strip():
        raise ValueError("there is no SQL here")
    return value


def _as_threshold(value: object) -> object:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("a threshold is a number, a text, true or false")
    return value


def sql_literal(value: Threshold) -> str:
    """A threshold as SQL spells it."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value).lower()


Sql = Annotated[str, BeforeValidator(_as_sql), StringConstraints(max_length=10_000, strip_whitespace=True)]
_PIECES = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\$([a-z_][a-z0-9_]*)", re.DOTALL | re.IGNORECASE
)
"""What may hold a `$` (strings, quoted names, comments), and a named threshold."""


_LARGEST = "width_px * height_px desc, size_bytes desc"
PREFER = {"media": _LARGEST, "texts": "length(text) desc", "semantic": _LARGEST}
"""Which of a group stays where a `dedupe` does not say: the largest picture, the longest text."""


class Rule(Step):
    """Keeps a row if the predicate is true; a row for which it is null (a signal is missing) is rejected."""

    rule: Name
    keep: Sql
    """SQL predicate over the columns of `media`, `texts` and the signals."""
    at: dict[Name, Annotated[Threshold, BeforeValidator(_as_threshold)]] = {}
    """Thresholds by name: `keep: clip_score >= $least` with `at: {least: 0.28}`. A sweep can set them, and `tamis why`
    shows them beside the row's values."""

    @model_validator(mode="after")
    def _every_threshold_is_used(self) -> Self:
        endless = [name for name, value in self.at.items() if isinstance(value, float) and not math.isfinite(value)]
        if endless:
            raise ValueError(f"`at` has {self.at[endless[0]]} for {endless[0]!r}: a threshold is a finite number")
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
    of: Literal["counted", "pool"] = "counted"
    """What `fraction` is a part of: the rows that are counted, or all rows of the pool with a value. The latter with
    `among: passed` keeps the best of what passed, as many as make up that part of the pool."""
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
    With `of: texts` it is one text of each group of near-duplicate texts, and the others name it in
    `text_duplicate_of`. With `of: semantic` a sample stays unless one that stays and is preferred to it is within the
    similarity (what is removed removes nobody); the others name it in `semantic_duplicate_of`. There are no groups.
    """

    dedupe: Name
    of: Literal["media", "texts", "semantic"] = "media"
    """What is thinned: groups of media (`duplicates.exact`, `perceptual`), groups of texts (`duplicates.texts`), or
    pairs of embeddings (`duplicates.semantic`)."""
    prefer: Sql
    """SQL ordering over the columns of media (of: texts: and of texts); ties fall to the smallest uid."""

    @model_validator(mode="before")
    @classmethod
    def _usual_preference(cls, values: Any) -> Any:
        if isinstance(values, dict) and "prefer" not in values:
            return {**values, "prefer": PREFER.get(values.get("of", "media"), PREFER["media"])}
        return values

    @property
    def name(self) -> str:
        return self.dedupe


class Decontaminate(Step):
    """Rejects texts whose picture, or which themselves, evaluation sets hold (`tamis evalset add`), however little.

    Pictures fall where the bytes or the pixels are equal, or where they are near-duplicates within `radius` (pairs
    that would need a shared caption among them: here a look-alike lost costs less than a copy kept); texts where their
    shingle sets are alike; either where the embeddings are. What fell, and for which item, travels with the version.
    """

    decontaminate: Name
    against: list[SetName] = Field(min_length=1)
    """Names of evaluation sets of the store."""
    radius: int | None = Field(default=8, ge=0, le=15)
    """Hamming distance of perceptual hashes; null: pictures are compared by equality alone."""
    jaccard: float | None = Field(default=0.8, gt=0, le=1)
    """Least Jaccard similarity of shingle sets, found exactly; null: texts are not compared."""
    min_words: int = Field(default=6, ge=1)
    """Evaluation texts of fewer words (or characters of scripts without spaces) contaminate nothing: "a photo of a dog"
    is in every crawl."""
    similarity: float | None = Field(default=None, gt=0, le=1)
    """Least cosine similarity of embeddings; null: these are not compared. Sets have them by `evalset add --recipe`."""
    embedding: str = "clip_image_embedding"
    """Column of embeddings, of media or of texts."""

    @property
    def name(self) -> str:
        return self.decontaminate


class Balance(Step):
    """Keeps a text with a probability: thins out what is common. Exactly one of `t`, `most` and `exponent`.

    `t` without `by` is MetaCLIP's balancing: 1 - prod over the entries e of the text of (1 - t / max(count_e, t)),
    where `count_e` counts the texts in `where` that passed the rules above and match entry e.
    With `by` (one value a text: a semantic cluster, a host, a category) the groups of equal values are balanced: `t`
    keeps each text of a group with probability t / max(count, t), `most` keeps exactly that many of each group, and
    `exponent` with `fraction` that part of all texts, with groups as large as count ** exponent (temperature
    sampling). The draw is the column `draw`, a keyed hash of the text's uid, so the decision depends on uid, seed and
    counts alone; a larger `t`, `most` or `fraction` keeps a superset.
    Sources: MetaCLIP, arXiv 2309.16671, Algorithm 1 (one draw a text instead of one an entry; the same probability);
    MetaCLIP 2 (`per_language`); RealSyn, arXiv 2502.12513 (`most` of each image cluster: 20, 35, 180).
    """

    balance: Name
    t: int | None = Field(default=None, ge=1)
    """Texts an entry may have before it is thinned out: 20,000 for MetaCLIP-400M, 170,000 for 2.5B."""
    per_language: str | None = None
    """The language for which `t` is meant, such as "en"; the threshold of each other language is then the count at
    which its tail has the same share of the matches (needs the column `entry_language`). None: one t for all."""
    by: Sql | None = None
    """SQL expression: the group of a text. Null is no group (see `no_match`)."""
    most: int | None = Field(default=None, ge=1)
    """Texts of each group."""
    exponent: float | None = Field(default=None, ge=0, le=1)
    """0 makes the groups equal, as far as they have texts, 1 leaves their shares; usual for languages: 0.3 to 0.7."""
    fraction: float | None = Field(default=None, gt=0, le=1)
    """Part of all texts with a group that `exponent` keeps (each group's number is rounded up)."""
    where: Sql = "true"
    """SQL predicate: the texts that it speaks about (those of the metadata's languages); all others pass untouched."""
    no_match: Literal["drop", "keep"] = "drop"
    """What becomes of a text in `where` that matches no entry or is in no group. MetaCLIP drops it."""
    entries: str = "entry_ids"
    """Column with the ids of the entries matched."""

    @property
    def name(self) -> str:
        return self.balance

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [name for name in ("t", "most", "exponent") if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has none of them"
            raise ValueError(f"a balance has exactly one of `t`, `most` and `exponent`; {self.balance!r} {said}")
        if given[0] != "t" and self.by is None:
            raise ValueError(f"`{given[0]}` needs `by`: the column, or SQL expression, whose groups are balanced")
        if (self.exponent is None) != (self.fraction is None):
            raise ValueError(
                "`exponent` and `fraction` go together: groups as count ** exponent, that part of all texts"
            )
        if self.per_language is not None and self.by is not None:
            raise ValueError("`per_language` is about the thresholds of metadata entries: it does not go with `by`")
        return self


class Gate(Step):
    """Rejects no row, but ends the run before anything is packed where a rule above keeps too little of some group.

    Counted are the texts that pass all rules before the rule `of`; kept are those that pass it, too. A group of at
    least `min_texts` counted texts whose share kept is below `least` times that of all counted texts is treated badly:
    a score of an English model rejects most of what it cannot read, and nobody sees it in the sum. The counts of every
    group stand in the selection (`selections/<name>.json`) and in the manifest of the version; they add up to those of
    all. That `least` is a half is this project's choice.
    """

    gate: Name
    of: Name
    """The rule above, by its name, whose keeping is judged."""
    per: Sql = "language"
    """SQL expression: the group of a text; null is a group, too (`unknown`)."""
    least: float = Field(default=0.5, gt=0, le=1)
    """Of a group's share kept, over that of all."""
    min_texts: int = Field(default=20, ge=1)
    """Groups with fewer counted texts are counted, but not judged: of five texts one more or less is a fifth."""
    multilingual: bool = False
    """Declares that what scores the texts can read every group, so that a lower share is the texts' own doing: the
    groups are then named and nothing ends."""
    otherwise: Literal["fail", "warn"] = "fail"
    """What becomes of the run: it ends, or says so and goes on."""

    @property
    def name(self) -> str:
        return self.gate


KINDS = ("rule", "top", "quota", "dedupe", "decontaminate", "balance", "weight", "gate")
PolicyItem = Annotated[
    Annotated[Rule, Tag("rule")]
    | Annotated[Top, Tag("top")]
    | Annotated[Quota, Tag("quota")]
    | Annotated[Dedupe, Tag("dedupe")]
    | Annotated[Decontaminate, Tag("decontaminate")]
    | Annotated[Balance, Tag("balance")]
    | Annotated[Weight, Tag("weight")]
    | Annotated[Gate, Tag("gate")],
    Discriminator(
        lambda value: next(
            (kind for kind in KINDS if (kind in value if isinstance(value, dict) else hasattr(value, kind))), None
        ),
        custom_error_type="unknown_rule",
        custom_error_message=f"a rule begins with one of the keys {', '.join(KINDS)}",
    ),
]
Policy = list[PolicyItem]
