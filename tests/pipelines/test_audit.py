"""Audits: no rows on a healthy store, and rows as soon as just what each guards is damaged."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from curation.table import open_part, read_part, write_parquet
from pipelines import database
from pipelines.recipe import load_recipe
from pipelines.run import audit, audit_store
from pipelines.stage import AccountingError, Run
from pipelines.store import Store
from pipelines.views import open_store
from pipelines.workers import SerialWorkers

Row = dict[str, Any]


def change(store: Store, table: str, edit: Callable[[list[Row]], None]) -> None:
    """Let `edit` loose on the rows of the table's parts, which are then written as they would have been."""
    state = store.state()
    names = [each.texts.path for each in store.pool()] if table == "texts" else store.files(state, table)
    for path in names:
        part, before = open_part(path), read_part(path)
        rows = before.to_pylist()
        edit(rows)
        schema = before.schema.remove_metadata()
        footer = {"index": part.index, "key": part.key, "identity": part.identity, "stats": part.stats}
        path.unlink()
        write_parquet(path, pa.Table.from_pylist(rows, schema=schema), footer)


def lose_a_decision(rows: list[Row]) -> None:
    del rows[0]


def decide_twice(rows: list[Row]) -> None:
    rows.append(dict(rows[0]))


def keep_with_a_rejection(rows: list[Row]) -> None:
    next(row for row in rows if not row["kept"])["kept"] = True


def reject_without_a_reason(rows: list[Row]) -> None:
    next(row for row in rows if row["kept"])["kept"] = False


def keep_what_was_not_downloaded(rows: list[Row]) -> None:
    next(row for row in rows if row["rejections"] & 1).update(kept=True, rejections=0)


def lose_a_medium(rows: list[Row]) -> None:
    del rows[0]


def double_a_medium(rows: list[Row]) -> None:
    rows.append({**rows[0], "media_uid": "f" * 32})


def succeed_without_bytes(rows: list[Row]) -> None:
    next(row for row in rows if row["status"] == "ok")["bytes"] = None


def fail_without_a_reason(rows: list[Row]) -> None:
    next(row for row in rows if row["status"] != "ok")["reason"] = None


def fail_with_bytes(rows: list[Row]) -> None:
    next(row for row in rows if row["status"] != "ok")["bytes"] = b"x"


def keep_two_of_a_group(rows: list[Row]) -> None:
    near_duplicate = 1 << 4  # the fifth rule of the policy, `downloaded` being the first
    next(row for row in rows if row["rejections"] == near_duplicate).update(kept=True, rejections=0)


def survive_elsewhere(rows: list[Row]) -> None:
    next(row for row in rows if row["duplicate_of"] is not None)["duplicate_of"] = "0" * 32


def lose_a_kept_text(rows: list[Row]) -> None:
    next(row for row in rows if row["kept"]).update(kept=False, rejections=1)


DAMAGE: list[tuple[str, str, Callable[[list[Row]], None]]] = [
    ("decisions_add_up", "decisions", lose_a_decision),
    ("decisions_add_up", "decisions", decide_twice),
    ("decisions_add_up", "decisions", keep_with_a_rejection),
    ("decisions_add_up", "decisions", reject_without_a_reason),
    ("kept_are_whole", "decisions", keep_what_was_not_downloaded),
    ("links_in_ledger", "media", double_a_medium),
    ("links_in_ledger", "decisions", decide_twice),
    ("media_of_samples", "media", lose_a_medium),
    ("media_of_samples", "media", double_a_medium),
    ("status_and_reason", "media", succeed_without_bytes),
    ("status_and_reason", "media", fail_without_a_reason),
    ("status_and_reason", "media", fail_with_bytes),
    ("survivors", "decisions", keep_two_of_a_group),
    ("survivors", "decisions", survive_elsewhere),
    ("version_members", "decisions", lose_a_kept_text),
    ("version_members", "decisions", keep_two_of_a_group),
]


def found(store: Store) -> set[str]:
    """Names of the audits that return rows."""
    con = open_store(store)
    lines = audit_store(con)
    con.close()
    return {line.split()[0].removeprefix("audit/") for line in lines}


def test_a_healthy_store_has_no_findings(finished: Path, tmp_path: Path) -> None:
    assert found(Store.open(finished)) == set()
    assert found(Store.create(tmp_path / "new")) == set()


def test_every_audit_is_tested() -> None:
    names = {name.removeprefix("audit/") for name in database.queries("audit")}
    elsewhere = {"scores_are_finite", "text_survivors", "semantic_survivors", "decontaminated"}
    elsewhere |= {"generated_texts"}  # test_enrich.py
    elsewhere |= {"sources_in_segments", "source_texts_in_segments"}  # test_video_audio.py
    assert names == {audit_name for audit_name, _, _ in DAMAGE} | elsewhere


@pytest.mark.parametrize(("name", "table", "edit"), DAMAGE, ids=lambda value: getattr(value, "__name__", str(value)))
def test_damage_is_found(
    finished: Path, tmp_path: Path, name: str, table: str, edit: Callable[[list[Row]], None]
) -> None:
    shutil.copytree(finished, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    once = [False]

    def first_part_only(rows: list[Row]) -> None:
        if not once[0]:
            try:
                edit(rows)
            except StopIteration:  # this part has no such row
                return
            once[0] = True

    change(store, table, first_part_only)
    assert once[0]
    assert name in found(store)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -1.5])
def test_a_score_out_of_range_is_found(score: float) -> None:
    con = database.connect()
    ledger = pa.table({"text_uid": ["a", "b", "c"], "clip_score": pa.array([0.3, None, score], pa.float32())})
    con.register("ledger", ledger)
    rows = database.rows(con, database.query("audit/scores_are_finite"))
    con.close()
    assert [row["text_uid"] for row in rows] == ["c"]
    assert pc.is_valid(ledger.column("clip_score")).to_pylist() == [True, False, True]


def test_the_audit_fails_the_run(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "store")
    store = Store.open(tmp_path / "store")
    said: list[str] = []
    run = Run(load_recipe(finished.parent / "full.yaml"), store, SerialWorkers(), store.state(), say=said.append)
    audit(run)
    assert "nothing lost, nothing doubled" in said[-1]
    change(store, "decisions", lose_a_decision)
    with pytest.raises(AccountingError, match=r"decisions_add_up .* 1 rows, such as"):
        audit(run)
