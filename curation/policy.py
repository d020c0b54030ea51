"""Policies: ordered lists of rules over signals. Every rule is asked about every row; nothing is deleted.

A rule is told apart by its first key, whose value is its name, the name under which `rejected_by` lists it:

    - rule: large_enough            keep the rows for which a SQL predicate over the columns is true
      keep: short_side_px >= 64
    - top: best_matching            keep the best fraction of the rows that passed the rules above
      by: clip_score
      fraction: 0.3
    - dedupe: near_duplicate        keep one sample of each duplicate group
    - balance: metaclip             MetaCLIP's balanced sampling over matched metadata entries
      t: 20000
    - balance: clusters             at most so many of each group
      by: cluster_id
      most: 35
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from curation.step import Step

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Sql = Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True)]


class Rule(Step):
    """Keeps a row if the predicate is true; a row for which it is null (a signal is missing) is rejected."""

    rule: Name
    keep: Sql
    """SQL predicate over the columns of `media`, `texts` and the signals."""

    @property
    def name(self) -> str:
        return self.rule


class Top(Step):
    """Keeps exactly ceil(fraction x n) of the n rows that passed the rules above, those with the highest `by`.

    Ties are broken by text_uid, so the result is exact and does not depend on the order of rows. Rows where `by` is
    null are rejected and not counted in n. (DataComp's `clip_score` filter keeps floor(n x fraction) + 1 rows
    and all ties.)
    """

    top: Name
    by: Sql
    fraction: float = Field(gt=0, le=1)

    @property
    def name(self) -> str:
        return self.top


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


PolicyItem = Annotated[
    Annotated[Rule, Tag("rule")]
    | Annotated[Top, Tag("top")]
    | Annotated[Dedupe, Tag("dedupe")]
    | Annotated[Balance, Tag("balance")],
    Discriminator(
        lambda value: next(
            (
                kind
                for kind in ("rule", "top", "dedupe", "balance")
                if (kind in value if isinstance(value, dict) else hasattr(value, kind))
            ),
            None,
        ),
        custom_error_type="unknown_rule",
        custom_error_message="a rule begins with one of the keys rule, top, dedupe, balance",
    ),
]
Policy = list[PolicyItem]
