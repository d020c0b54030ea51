"""Drafts of parts of `media`: in any order the same part as from a table, and nothing left of one that is given up."""

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.schema import MEDIA, OUTCOME
from curation.step import digest
from curation.table import find_part, open_part, read_groups, read_part, write_part
from pipelines.draft import Draft


def rows_of(bodies: list[bytes | None]) -> list[dict[str, Any]]:
    return [
        dict.fromkeys(MEDIA.names)
        | {"media_uid": f"m{i}", "status": "ok" if body is not None else "failed", "bytes": body}
        | {"reason": None if body is not None else "http.5xx", "width_px": i}
        for i, body in enumerate(bodies)
    ]


def drafted(folder: Path, rows: list[dict[str, Any]], order: list[int]) -> Draft:
    draft = Draft(folder, len(rows))
    for i in order:
        draft.put(i, rows[i])
    return draft


@settings(max_examples=25, deadline=None)
@given(bodies=st.lists(st.none() | st.binary(max_size=40), min_size=1, max_size=20), seed=st.integers(0, 9))
def test_any_order_gives_the_part_that_a_table_gives(
    bodies: list[bytes | None], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, rows = tmp_path_factory.mktemp("t"), rows_of(bodies)
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    part = drafted(folder / "a", rows, order).publish(3, "ab" * 32)
    table = pa.Table.from_pylist(rows, schema=MEDIA)
    plain = write_part(
        folder / "b",
        3,
        "ab" * 32,
        table,
        identity=digest("outcome", table.select(OUTCOME).to_pylist()),
        stats=part.stats,
        plain=["bytes"],
    )
    assert part.path.read_bytes() == plain.path.read_bytes()
    counts = [sum(body is not None for body in bodies), sum(body is None for body in bodies)]
    assert [part.stats["status"].get(name, 0) for name in ("ok", "failed")] == counts
    assert part.stats["reasons"] == ({"http.5xx": counts[1]} if counts[1] else {})


def test_more_rows_than_a_row_group(tmp_path: Path) -> None:
    rows = rows_of([None if i % 7 == 0 else str(i).encode() * (i % 5) for i in range(2_345)])
    part = drafted(tmp_path, rows, list(range(len(rows)))[::-1]).publish(0, "cd" * 32)
    assert [group.num_rows for group in read_groups(part.path)] == [1000, 1000, 345]
    assert read_part(part.path).to_pylist() == rows


def test_a_draft_has_no_name_and_leaves_nothing(tmp_path: Path) -> None:
    draft = drafted(tmp_path, rows_of([b"x" * 100_000]), [0])
    assert list(tmp_path.iterdir()) == []
    draft.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_that_were_not_put_come_from_the_part_before(tmp_path: Path) -> None:
    before = rows_of([b"a", None, b"c", None])
    part = drafted(tmp_path, before, [0, 1, 2, 3]).publish(0, "01" * 32)
    draft = Draft(tmp_path, 4)
    healed = {**before[1], "status": "ok", "reason": None, "bytes": b"B"}
    draft.put(1, healed)
    draft.put_others_of(part.path)
    after = draft.publish(0, "02" * 32)
    assert read_part(after.path).to_pylist() == [before[0], healed, *before[2:]]
    assert find_part(tmp_path, 0, "01" * 32) == open_part(part.path) == part
