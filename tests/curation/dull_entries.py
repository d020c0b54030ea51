"""The definition of each mode of matching entries, word for word: the oracle that fast matchers are held against."""

from collections.abc import Sequence

from curation.entry_forms import Mode, is_useful, normalised, padded, padded2, spaced


def matches_dully(texts: Sequence[str | None], entries: Sequence[str], mode: Mode = "strict") -> list[list[int] | None]:
    """Numbers of the entries that each text holds, rising; None for no text."""
    if mode == "fixed":
        first: dict[str, int] = {}
        for number, entry in enumerate(entries):
            first.setdefault(normalised(entry), number)
        patterns = {number: f" {form} " for form, number in first.items() if is_useful(form)}
        form_of = normalised
    else:
        pad = padded if mode == "strict" else padded2
        patterns = {number: pad(entry) for number, entry in enumerate(entries) if entry or mode == "strict"}
        form_of = spaced
    found: list[list[int] | None] = []
    for text in texts:
        form = "" if text is None else f" {form_of(text)} " if mode == "fixed" else form_of(text)
        found.append(None if text is None else [number for number, pattern in patterns.items() if pattern in form])
    return found
