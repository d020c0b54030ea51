"""Questions in SQL: one SELECT, read only, nothing outside of the store; results as files that run nothing."""

import csv
import os
import re
import signal
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.database import SqlError
from pipelines.sources import SourceError
from pipelines.store import Store
from pipelines.summary import ask, listing, status_tables, write_result
from tests.stores import digests, tamis_alone


@pytest.fixture
def store(finished: Path) -> Store:
    return Store.open(finished)


def test_sql_and_stored_queries(store: Store) -> None:
    assert ask(store, "select count(*) as n from ledger").to_pylist()[0]["n"] > 100
    assert ask(store, "with a as (select 1 as x) select x from a;").to_pylist() == [{"x": 1}]
    assert ask(store, "from ledger limit 1").num_rows == 1
    assert ask(store, "funnel").to_pylist() == ask(store, "report/funnel").to_pylist()
    assert ask(store, "audit/survivors").num_rows == 0
    for wrong in ("funnle", "report/funnle", "reports"):
        with pytest.raises(SourceError, match="report/funnel"):
            ask(store, wrong)
    with pytest.raises(SqlError):
        ask(store, "select nonesuch from ledger")


@pytest.mark.parametrize(
    "statement",
    [
        "",
        "-- nothing",
        "select 1; select 2",
        "drop view ledger",
        "create table x as select 1",
        "insert into decisions values (1)",
        "delete from decisions",
        "update decisions set kept = true",
        "copy (select 1) to '{store}/x.csv'",
        "attach '{store}/x.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "pragma enable_profiling",
        "export database '{store}/x'",
        "call pragma_version(); select 1",
        "vacuum;",
        "explain analyze copy (select 1) to '{store}/state.json'",
        "explain (analyze, format json) copy (select 1) to '{store}/x.csv'",
        "explain/**/analyze copy (select 1) to '{store}/x.csv'",
        "-- c\nexplain analyze -- select\n copy (select 1) to '{store}/x.csv'",
        "copy (pivot (select 1 as a) on a using count(*)) to '{store}/x.csv'",
        "explain analyze copy (pivot (select 1 as a) on a using count(*)) to '{store}/x.csv'",
        "pivot (select 1 as a) on a using count(*); copy (select 1) to '{store}/x.csv'",
    ],
)
def test_anything_but_one_select_is_refused(store: Store, statement: str) -> None:
    before = digests(store.root)
    with pytest.raises(SourceError, match="only one SELECT is answered"):
        ask(store, statement.replace("{store}", str(store.root)))
    assert digests(store.root) == before


@pytest.mark.parametrize(
    "query",
    [
        "select * from '{outside}/secret.csv'",
        "select * from read_csv('{outside}/secret.csv')",
        "select * from read_text('{outside}/secret.csv')",
        "select * from read_blob('{outside}/*')",
        "select * from read_text('{store}/../secret.csv')",
        "select * from glob('{outside}/*')",
        "select * from read_parquet('http://127.0.0.1:9/x.parquet')",
        "select * from sqlite_scan('{outside}/x.db', 't')",
        "select * from read_csv('/etc/passwd')",
    ],
)
def test_nothing_outside_of_the_store_is_read(store: Store, tmp_path: Path, query: str) -> None:
    outside = store.root.parent
    (outside / "secret.csv").write_text("word\nsesame\n")
    try:
        with pytest.raises(SqlError):
            ask(store, query.replace("{outside}", str(outside)).replace("{store}", str(store.root)))
    finally:
        (outside / "secret.csv").unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "question",
    [
        "-- how many\nselect count(*) as n from ledger -- all",
        "/* ; */ with a as (select 1) select * from a;",
        "from ledger select count(*)",
        "describe ledger",
        "explain select * from ledger",
        "explain analyze select count(*) from ledger",
        "explain (format json) select 1",
        "explain analyze pivot ledger on kept using count(*)",
        "pivot (select language, kept from ledger) on kept using count(*) group by language",
        "with p as (pivot ledger on kept using count(*)) select * from p",
        "unpivot (select 1 as a, 2 as b) on a, b into name n value v",
    ],
)
def test_what_is_unusual_and_only_reads(store: Store, question: str) -> None:
    before = digests(store.root)
    assert ask(store, question).num_rows > 0
    assert digests(store.root) == before


ONLY_IN_SQL = {
    "interval '1 month'": "1 month",
    "[interval '1 day']": "[1 day]",
    "union_value(k := 2)": "2",
    "'101'::bit": "101",
    "'123456789012345678901234567890'::bignum": "123456789012345678901234567890",
    "timetz '10:00:00+02'": "10:00:00+02",
    "timestamp_ns '2020-01-01 00:00:00.123456789'": "2020-01-01 00:00:00.123456789",
}


def test_what_only_sql_knows_is_text(store: Store, tmp_path: Path) -> None:
    """Python, Parquet or CSV have no such values. Other columns, two of one name too, and the order of rows stay."""
    fields = ", ".join(f"{value} as a" for value in ONLY_IN_SQL)
    table = ask(store, f"select {fields}, range from range(500000) order by range desc")
    texts = dict(zip(table.column_names, ONLY_IN_SQL.values(), strict=False))
    assert table.slice(0, 1).to_pylist() == [{**texts, "range": 499_999}]
    assert table.column("range").to_pylist() == list(range(499_999, -1, -1))
    for name in ("out.parquet", "out.csv"):
        write_result(table.slice(0, 1), tmp_path / name)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == table.slice(0, 1).to_pylist()


ENDLESS = "select count(*) from range(1000000000) a, range(1000000000) b where (a.range + b.range) % 7 = 9"


def test_a_query_ends_when_its_time_is_up(store: Store) -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"not done after 0\.2 s: .*--timeout"):
        ask(store, ENDLESS, timeout_s=0.2)
    assert time.monotonic() - began < 20
    for timeout_s in (60.0, 1e300, float("inf")):
        assert ask(store, "select 1 as a", timeout_s=timeout_s).to_pylist() == [{"a": 1}]


@pytest.mark.parametrize(
    ("words", "said"), [(("select nonesuch from ledger",), "nonesuch"), ((ENDLESS, "--timeout", "0.2"), "0.2 s")]
)
def test_an_error_is_all_that_is_said(store: Store, words: tuple[str, ...], said: str) -> None:
    """In a process of its own: DuckDB complains at its end about what is still open."""
    done = tamis_alone("sql", store.root, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert not [word for word in ("nanobind", "leak", "Traceback") if word in done.stderr]


def test_variables_of_the_program_are_no_tables(store: Store) -> None:
    secret = pa.table({"word": ["sesame"]})
    with pytest.raises(SqlError):
        ask(store, "select * from secret")
    assert secret.num_rows == 1


def test_results_as_files(store: Store, tmp_path: Path) -> None:
    table = ask(store, "select text_uid, kept, rejected_by, keep_probability from ledger order by text_uid")
    write_result(table, tmp_path / "deep" / "out.parquet")
    assert pq.read_table(tmp_path / "deep" / "out.parquet").to_pylist() == table.to_pylist()
    write_result(table, tmp_path / "out.csv")
    write_result(table.slice(0, 3), tmp_path / "out.csv")  # replaces
    with (tmp_path / "out.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["text_uid"] for row in found] == table.column("text_uid").to_pylist()[:3]
    assert found[0]["rejected_by"].startswith("[")
    with pytest.raises(SourceError, match=r"\.parquet or \.csv"):
        write_result(table, tmp_path / "out.txt")
    with pytest.raises(pa.ArrowException):  # Parquet has no such intervals: the file that was there stays
        write_result(pa.table({"a": pa.nulls(1, pa.month_day_nano_interval())}), tmp_path / "deep" / "out.parquet")
    assert pq.read_table(tmp_path / "deep" / "out.parquet").to_pylist() == table.to_pylist()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "out.csv", "out.parquet"]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", '=cmd|" /C calc"!A0'])
def test_no_cell_begins_like_a_formula(store: Store, tmp_path: Path, cell: str) -> None:
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        write_result(pa.table({"a": pa.array([cell, None, "plain"], kind), "n": [1, -2, 3]}), tmp_path / "out.csv")
        with (tmp_path / "out.csv").open(newline="") as file:
            assert list(csv.reader(file)) == [["a", "n"], ["'" + cell, "1"], ["", "-2"], ["plain", "3"]]
    asked = ask(store, "select '=' || 'x' as a, ['=x'] as b, '=y'::blob as c")
    write_result(asked, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(newline="") as file:
        assert not any(value.startswith("=") for row in csv.reader(file) for value in row)


def test_the_questions_of_the_readme(store: Store) -> None:
    """Each is answered, and every view that the page names is there."""
    page = (Path(__file__).parents[2] / "sql" / "README.md").read_text(encoding="utf-8")
    questions = re.findall(r'^    tamis sql STORE (?:"([^"]+)"|(\w+))', page, re.MULTILINE)
    assert len(questions) >= 6
    for quoted, name in questions:
        assert ask(store, quoted or name).num_rows > 0, quoted or name
    listed = {row["name"] for row in listing(store)}
    named = {name for cell in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 20
    assert named <= listed | {"evaluation_matches"}


def test_a_signal_ends_a_question(store: Store) -> None:
    def stop(*_: object) -> None:
        raise InterruptedError

    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(InterruptedError):  # the question alone would take years
            ask(store, "select count(*) from ledger a, ledger b, ledger c, ledger d, ledger e where a.text < e.text")
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)


def test_the_listing_and_the_status(store: Store, tmp_path: Path) -> None:
    names = {row["name"] for row in listing(store)}
    assert {"report/funnel", "audit/links_in_ledger", "ledger", "media", "decisions", "runs", "versions"} <= names
    titles = dict(status_tables(store))
    assert {row["what"]: row["rows"] for row in titles[next(iter(titles))]}["samples"] == 43
    assert titles["runs"][0]["outcome"] == "complete"
    assert len(titles["dataset versions"]) == 1
    assert status_tables(Store.create(tmp_path / "new"))[0][0] == "pool: 0 parts, 0 link tables"
