"""What each suite of an evaluation measures, in a line, for those who read its figures."""

from __future__ import annotations

BASES = {
    "held_out_pictures": "pictures that training was not shown, with texts in languages that it was",
    "held_out_languages": "texts in languages that training was not shown",
    "trained": "rows that training was shown: what it has learned by heart",
    "held_out_segments": "segments that training was not shown, each two of a model's streams",
    "all_segments": "all segments (the version has no split), each two of a model's streams",
}
"""Name -> what is asked; what stands behind a colon is in `PARTS`."""
PARTS = {
    "edits": "which of two captions is right, of which one has a thing, attribute, relation or the order exchanged",
    "tokens": "the same by single tokens (late interaction), on a part of it",
}
TEXTS_IN = "texts_in_"
LABELS = "labels"


def measures(suite: str) -> str:
    """What the suite of this name asks; empty for a name that none of ours has."""
    base, _, part = suite.partition(":")
    if base == LABELS:
        return f"classes of held-out pictures, by the column {part}"
    asked = BASES.get(base, "")
    if part.startswith(TEXTS_IN):
        language = part.removeprefix(TEXTS_IN)
        return f"texts in other languages look for those in {language!r} about the same picture, which is not looked at"
    return PARTS.get(part, "") if part else asked
