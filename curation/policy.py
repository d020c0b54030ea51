"""Policies: ordered lists of rules over signals. Every rule is asked about every row; nothing is deleted.

A rule is told apart by its first key, whose value is its name, the name under which `rejected_by` lists it:

    - rule: large_enough            keep the rows for which a SQL predicate over the columns is true
      keep: short_side_px >= 64
    - top: best_matching            keep the best fraction of the rows that passed the rules above
      by: clip_score
      fraction: 0.3
    - dedupe: near_duplicate        keep one sample of each duplicate group
    - dedupe: same_text             keep one text of each group of near-duplicate texts (recipe: duplicates.texts)
      of: texts
    - dedupe: same_meaning          keep a sample unless one that stays is too like it (recipe: duplicates.semantic)
      of: semantic
    - balance: metaclip             MetaCLIP's balanced sampling over matched metadata entries
      t: 20000
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from curation.step import Step

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Sql = Annotated[str, StringConstraints(min_length=1, max_length=10_000, strip_whitespace=True)]


_LARGEST = "width_px * height_px desc, size_bytes desc"
PREFER = {"media": _LARGEST, "texts": "length(text) desc", "semantic": _LARGEST}
"""Which of a group stays where a `dedupe` does not say: the largest picture, the longest text."""


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
