"""Rows on a terminal and in a pipe."""

from typing import Any

import pyarrow as pa
import pytest
from rich.cells import cell_len

from flows import shown
from flows.shown import MAX_CELL_CHARS, cell, rows_of, show


def printed(rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    show(rows)
    return capsys.readouterr().out.splitlines()


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(shown.out, "_width", columns)


def test_a_row_is_one_line_in_a_pipe_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"n": None, "text": "a\nb", "url": "u"}, {"n": 1234, "text": "x" * 300_000, "url": "u"}]
    head, first, second = printed(rows, capsys)
    assert head.split() == ["n", "text", "url"]
    assert first.split() == ["a\ufffdb", "u"]
    assert second.startswith("1,234  xxx")
    assert second.endswith("296,000 more characters  u")
    assert len(first) < 2 * MAX_CELL_CHARS
    assert head.index("n") == len("1,23")  # numbers to the right, although the first row has none


def test_wide_letters_keep_columns_apart(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed([{"a": "漢字", "b": "x"}, {"a": "abc", "b": "y"}], capsys)
    assert {cell_len(line[: line.index(end)]) for line, end in zip(lines, "bxy", strict=True)} == {6}


def test_bytes_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed([{"bytes": b"\xff\xd8" * 1000}], capsys) == ["bytes", "2,000 bytes"]


def test_a_terminal_too_narrow_for_its_columns_has_a_line_for_each_value(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has 20 columns: as a table on 100 columns nothing of it could be read."""
    rows = [{f"column_{i}": f"value {i} of [bold] row {row}" for i in range(20)} for row in range(2)]
    on_a_terminal(monkeypatch, 100)
    lines = printed(rows, capsys)
    assert len(lines) == 2 * 21
    assert lines[1] == "  column_0   value 0 of [bold] row 0"
    assert lines[-1] == "  column_19  value 19 of [bold] row 1"


@pytest.mark.parametrize("rows", [[{"name": "ledger", "what": "word " * 100}], [{"a": 1, "b": 2, "c": 3}] * 3])
def test_a_terminal_shows_tables_otherwise(
    rows: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch, 80)
    lines = printed(rows, capsys)
    assert all(name in lines[0] for name in rows[0])
    assert max(map(cell_len, lines)) <= 80


@pytest.mark.parametrize("mark", ["\x1b[2J", "\u202e", "\r", "\x00", "\u2028"])
def test_nothing_steers_the_terminal(mark: str) -> None:
    assert cell(f"a{mark}b").replace("\ufffd", "").isprintable()
    assert mark not in cell(f"a{mark}b")


def test_dates_that_python_cannot_hold() -> None:
    endless = pa.array([2**31 - 1, 0, None], pa.int32()).cast(pa.date32())
    assert [cell(row["d"]) for row in rows_of(pa.table({"d": endless}))] == [
        "(date32[day] out of range)",
        "1970-01-01",
        "",
    ]
