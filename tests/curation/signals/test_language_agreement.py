"""Agreement of languages against a dull reading of its definition, and of what is written in the picture with them."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.signals.language_agreement import LanguageAgreement


def agreement(rows: list[tuple[str | None, str | None, str | None, str | None]], screen: str | None = None) -> Any:
    names = ("sample_uid", "text_source", "language", "screen_language")
    columns = zip(*rows, strict=True) if rows else [()] * 4
    table = pa.table({name: pa.array(list(each), pa.string()) for name, each in zip(names, columns, strict=True)})
    found = LanguageAgreement(screen=screen).compute(table)
    return list(zip(*(found.column(k).to_pylist() for k in range(2)), strict=True))


def dull(rows: list[tuple[str | None, str | None, str | None, str | None]], has_screen: bool) -> Any:
    """Each text looks at all others, one by one."""
    found: list[tuple[float | None, int | None]] = []
    for sample, source, language, shown in rows:
        if not sample or not language:
            found.append((None, None))
            continue
        own = language.split("-")[0].lower()
        others = [other[2] for other in rows if other[0] == sample and other[1] != source and other[2]]
        others += [shown] if has_screen and shown else []
        same = sum(other.split("-")[0].lower() == own for other in others)
        found.append((same / len(others) if others else None, len(others)))
    return found


SOME = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.sampled_from(["caption", "subtitles", "transcript", None]),
    st.sampled_from(["en", "en-GB", "de", "fr", "", None]),
    st.sampled_from(["en", "de", None]),
)


@given(st.lists(SOME, max_size=12), st.booleans())
def test_it_is_the_dull_definition(rows: list[Any], has_screen: bool) -> None:
    found = agreement(rows, "screen_language" if has_screen else None)
    for (share, number), (truth, count) in zip(found, dull(rows, has_screen), strict=True):
        assert number == count
        assert share == (None if truth is None else pytest.approx(truth))


def test_a_translated_caption_and_what_the_picture_says() -> None:
    rows = [
        ("film", "caption", "en", "de"),
        ("film", "subtitles", "de", "de"),
        ("film", "transcript", "de-AT", "de"),
        ("other", "caption", "fr", None),
    ]
    assert agreement(rows) == [(0.0, 2), (0.5, 2), (0.5, 2), (None, 0)]
    with_screen = agreement(rows, "screen_language")
    assert [number for _, number in with_screen] == [3, 3, 3, 0]
    assert [share for share, _ in with_screen] == [0.0, pytest.approx(2 / 3), pytest.approx(2 / 3), None]
    assert LanguageAgreement(screen="screen_language").reads() == (
        "sample_uid",
        "text_source",
        "language",
        "screen_language",
    )
