"""The list of signals in curation/README.md is complete and true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import curation
from tests.curation.test_signal_laws import SIGNALS, signal_classes

README = (Path(curation.__file__).parent / "README.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+\.\w+)`[^|]*\| (media|text) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
LISTED = {
    name: (level, re.findall(r"`(\w+)`", columns), source) for name, level, columns, source in ROW.findall(README)
}


def name_of(cls: type) -> str:
    return f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}"


def test_every_signal_is_listed_and_no_other() -> None:
    assert sorted(LISTED) == sorted(map(name_of, signal_classes()))


@pytest.mark.parametrize("signal", SIGNALS, ids=lambda signal: name_of(type(signal)))
def test_with_its_level_columns_and_source(signal) -> None:  # type: ignore[no-untyped-def]
    level, columns, source = LISTED[name_of(type(signal))]
    assert level == signal.level
    assert columns == signal.writes().names
    text = " ".join((type(signal).__doc__ or "").split())
    for paper in re.findall(r"arXiv [\d.]+\d", source):
        assert paper.removeprefix("arXiv ") in text
