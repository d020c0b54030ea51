"""Media of groups in numbers, against a dull reading of the table, whatever its order and its groups' names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.table import write_part
from pipelines import group_table
from pipelines.decide import Decider
from pipelines.group_table import GroupTable
from pipelines.views import DUPLICATES
from tests.pipelines.policies import COLUMNS
from tests.pipelines.table_rows import TableRows

Row = tuple[str, str | None]
UIDS = [f"{7 * n * 2**120 % 2**128:032x}" for n in range(9)] + ["m1", "m2", "é"]


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    members = draw(st.lists(st.sampled_from(UIDS), unique=True, max_size=len(UIDS)))
    names = draw(st.sampled_from([members or ["g"], ["g1", "g2", "g3"], [*members, "g"], [UIDS[0], "ü"]]))
    rows = [(uid, draw(st.none() | st.sampled_from(names))) for uid in members]
    return sorted(rows) if draw(st.booleans()) else rows


def numbers(rows: list[Row]) -> tuple[list[str], list[int], list[str]]:
    """Members, the number of each one's group, and the name of each group by rising number."""
    members = sorted((uid, name) for uid, name in rows if name is not None)
    names = [name for _, name in members]
    first = {name: names.index(name) for name in names}
    return [uid for uid, _ in members], [first[name] for name in names], sorted(first, key=lambda name: first[name])


def check(given_rows: pa.Table | list[Path], rows: list[Row]) -> None:
    with Decider(TableRows(COLUMNS.empty_table()), [], {"duplicates": given_rows}, threads=2) as decider:
        found = GroupTable(decider)
        uids, group, names = numbers(rows)
        assert found.group.tolist() == group
        asked = [*uids, "m1", "nobody", None, "0" * 32]
        place = {uid: n for n, uid in enumerate(uids)}
        assert found.index.find(pa.array(asked, pa.string())).tolist() == [place.get(str(uid), -1) for uid in asked]
        asked_names = pa.array(sorted(set(group)), pa.int32()).to_numpy()
        pieces = [piece.to_pylist() for piece in found.names(asked_names)]
        assert [name for piece in pieces for name in piece] == names


def arrow(rows: list[Row]) -> pa.Table:
    columns = [pa.array([row[n] for row in rows], pa.string()) for n in range(2)]
    return pa.table(columns, schema=DUPLICATES)


@settings(max_examples=40, deadline=None)
@given(tables())
def test_members_and_groups_are_those_of_a_dull_reading(rows: list[Row]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group_table, "_PIECE_ROWS", 3)
        check(arrow(rows), rows)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize("cut", [0, 5, 12])
def test_of_files(tmp_path: Path, in_order: bool, cut: int) -> None:
    rows: list[Row] = [(uid, sorted(UIDS)[n // 3 * 3] if n % 4 else None) for n, uid in enumerate(sorted(UIDS))]
    rows = rows if in_order else rows[::-1]
    pieces = [rows[:cut], rows[cut:]]
    paths = [
        write_part(tmp_path, index, "a" * 64, arrow(piece), row_group_rows=2).path for index, piece in enumerate(pieces)
    ]
    check(paths, rows)


def test_a_medium_in_two_groups_is_no_table_of_groups() -> None:
    with pytest.raises(ValueError, match="media_uid twice"):
        check(arrow([("m1", "a"), ("m1", "b")]), [])
