"""Diff: every row that changed sides is named once, with the cause that was made to move it."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.table import open_part, read_part, write_part
from pipelines.diff import diff
from pipelines.selections import find_selection, selections
from pipelines.store import Store, StoreError
from pipelines.summary import ask
from tests.stores import LOOSE, SIGNALS, Served, digests, links_file, recipe, rows, run, tamis

USED = [{"use": f"curation.signals.{name}"} for name in [*SIGNALS, "metadata_entries.MetadataEntries"]]
WIDE = {"rule": "words", "keep": "num_words >= $least", "at": {"least": 2}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """A store with a pool of ten links, and a recipe whose policy keeps all."""
    root = tmp_path_factory.mktemp("diff")
    recipe(root / "r.yaml", LOOSE, signals=USED)
    links_file(
        root / "l.parquet", [(url, " ".join(["cat"] * (i % 4 + 1))) for i, url in enumerate(served.pictures[:10])]
    )
    run(root / "store", root / "r.yaml", root / "l.parquet")
    return root


def policy(path: Path, *items: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"policy": [*LOOSE, *items]}))
    return path


def select(folder: Path, name: str, *items: dict[str, Any]) -> None:
    file = policy(folder / f"{name}.json", *items)
    done = tamis("select", folder / "r.yaml", "--store", folder / "store", "--policy", file, "--name", name)
    assert done.returncode == 0, done.stderr


def causes(folder: Path, a: str, b: str) -> dict[tuple[str, str, str | None], int]:
    found = diff(Store.open(folder / "store"), a, b)
    decided = {side: kept(folder, name) for side, name in (("a", a), ("b", b))}
    moved = {row["text_uid"]: row["direction"] for row in found.rows.to_pylist()}
    assert moved == dict.fromkeys(decided["b"] - decided["a"], "in") | dict.fromkeys(decided["a"] - decided["b"], "out")
    assert sum(row["texts"] for row in found.summary) == len(moved) == found.rows.num_rows
    return {(row["direction"], row["cause"], row["rule"]): row["texts"] for row in found.summary}


def kept(folder: Path, name: str) -> set[str]:
    store = Store.open(folder / "store")
    files = find_selection(store, name).files(store, "decisions")
    return {row["text_uid"] for path in files for row in read_part(path).to_pylist() if row["kept"]}


def test_select_decides_anew_and_leaves_the_rest_as_it_was(folder: Path) -> None:
    before = digests(folder / "store")
    select(folder, "worded", WIDE)
    after = digests(folder / "store")
    changed = {name for name in after if before.get(name) != after[name]}
    assert not [name for name in before if name not in after]
    folders = {"tables", "versions", "selections", "runs", "cache", "state.json"}
    assert {name.split("/")[0] for name in changed} <= folders
    assert {name.split("/")[1] for name in changed if name.startswith("tables/")} == {"decisions"}
    assert {name for name in changed if name in before} <= {"state.json"}
    made = find_selection(Store.open(folder / "store"), "worded")
    assert made.version is not None
    assert made.version.startswith("worded-")
    assert len(kept(folder, "worded")) == 7
    again = tamis("select", folder / "r.yaml", "--store", folder / "store", "--policy", folder / "worded.json",
                  "--name", "worded")  # fmt: skip
    assert again.returncode == 0
    assert digests(folder / "store" / "tables") == {
        name.removeprefix("tables/"): digest for name, digest in after.items() if name.startswith("tables/")
    }
    assert [each.label for each in selections(Store.open(folder / "store"))] == ["small", "worded"]


def test_a_changed_rule(folder: Path) -> None:
    select(folder, "worded", WIDE)
    select(folder, "wordy", {**WIDE, "at": {"least": 4}})
    assert causes(folder, "small", "worded") == {("out", "rule", "words"): 3}
    assert causes(folder, "worded", "wordy") == {("out", "rule", "words"): 5}
    assert causes(folder, "wordy", "small") == {("in", "rule", "words"): 8}
    assert causes(folder, "wordy", "wordy") == {}


def test_an_older_selection_is_asked_by_its_name(folder: Path, tmp_path: Path) -> None:
    select(folder, "worded", WIDE)
    select(folder, "wordy", {**WIDE, "at": {"least": 4}})
    store, sql = Store.open(folder / "store"), "select text_uid from ledger where kept"
    version = find_selection(store, "worded").version
    assert version is not None
    for name, label in (("worded", "worded"), (version, "worded"), ("latest", "wordy"), (None, "wordy")):
        assert set(ask(store, sql, name).column(0).to_pylist()) == kept(folder, label)
    listed = ask(store, "select label, is_shown, version from selections order by number").to_pylist()
    assert [(row["label"], row["is_shown"]) for row in listed] == [("small", False), ("worded", False), ("wordy", True)]
    assert listed[1]["version"] == version
    done = tamis("sql", store.root, "funnel", "--selection", "worded")
    assert (done.returncode, done.stdout.split()[-2]) == (0, "7"), done.stdout
    done = tamis("sql", store.root, "funnel", "--selection", "wordless")
    assert done.returncode == 2
    assert "has no selection or version 'wordless'; there are: small-" in done.stderr
    shutil.copytree(store.root, tmp_path / "store")
    for path in (tmp_path / "store" / "tables" / "signal_caption_statistics").iterdir():
        path.unlink()  # as a take-down does
    with pytest.raises(StoreError, match="are no longer there, such as tables/signal_caption_statistics/"):
        ask(Store.open(tmp_path / "store"), sql, "worded")


def test_a_cut_among_rows_that_another_rule_let_through(folder: Path) -> None:
    best = {"top": "best", "by": "width_px * 1000 + num_words", "fraction": 0.5}
    select(folder, "best", best)
    select(folder, "best_worded", WIDE, best)
    found = causes(folder, "best", "best_worded")
    assert all(cause == "rule" for _, cause, _ in found)
    assert {rule for direction, _, rule in found if direction == "in"} <= {"best"}


def test_balance(folder: Path) -> None:
    select(folder, "thin", {"balance": "metaclip", "t": 1, "no_match": "keep"})
    select(folder, "thick", {"balance": "metaclip", "t": 100, "no_match": "keep"})
    found = causes(folder, "thin", "thick")
    assert found
    assert set(found) == {("in", "balance", "metaclip")}


def test_only_the_dedupe_differs(folder: Path, served: Served, tmp_path: Path) -> None:
    """Other survivors of the same groups: each row is told with the rule, and who survives is among those kept."""
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    root = tmp_path / "copy"
    copies = [(f"{url}?again", f"{'cat ' * 5}{i}") for i, url in enumerate(served.pictures[:4])]
    links_file(root / "more.parquet", copies)
    run(root / "store", root / "r.yaml", root / "l.parquet", root / "more.parquet")
    (root / "none.json").write_text(json.dumps({"policy": LOOSE[:1]}))
    for name, prefer in (("first", "url"), ("last", "url desc")):
        (root / f"{name}.json").write_text(json.dumps({"policy": [LOOSE[0], {**LOOSE[1], "prefer": prefer}]}))
    for name in ("none", "first", "last"):
        done = tamis(
            "select", root / "r.yaml", "--store", root / "store", "--policy", root / f"{name}.json", "--name", name
        )
        assert done.returncode == 0, done.stderr
    assert causes(root, "none", "first") == {("out", "rule", "near_duplicate"): 4}
    assert causes(root, "first", "none") == {("in", "rule", "near_duplicate"): 4}
    assert causes(root, "first", "last") == {("in", "rule", "near_duplicate"): 4, ("out", "rule", "near_duplicate"): 4}
    moved = diff(Store.open(root / "store"), "first", "last").rows.to_pylist()
    survivors = {json.loads(row["saw"][0])["duplicate_of"] for row in moved if row["direction"] == "out"}
    assert survivors == {row["sample_uid"] for row in moved if row["direction"] == "in"}


def test_new_links_media_that_changed_and_a_signal_computed_anew(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    root = tmp_path / "copy"
    select(root, "before", WIDE)
    store = Store.open(root / "store")
    state = store.state()

    def rewrite(table: str, edit: Any) -> None:
        """Give the first part of a table other rows, under another key, as a new run would."""
        path = store.files(state, table)[0]
        part, old = open_part(path), read_part(path)
        plain = ["bytes"] if table == "media" else []
        new = write_part(path.parent, part.index, "f" * 64, edit(old), stats=part.stats, plain=plain)
        state.tables[table][0] = store.relative(new.path)
        store.save_state(state)

    def one_word(table: Any) -> Any:
        values = pa.array([1] * table.num_rows, pa.int32())
        return table.set_column(table.column_names.index("num_words"), table.schema.field("num_words"), values)

    rewrite("signal_caption_statistics", one_word)
    select(root, "scored_anew", WIDE)
    found = causes(root, "before", "scored_anew")
    assert list(found) == [("out", "signal", "words")]

    def taken_down(table: Any) -> Any:
        rows = table.to_pylist()
        for row in rows[:2]:
            row.update(status="refused", reason="policy.takedown", bytes=None)
        rows[2].update(status="failed", reason="http.4xx_gone", bytes=None)
        return type(table).from_pylist(rows, schema=table.schema)

    store = Store.open(root / "store")
    state = store.state()
    select(root, "all_before")
    rewrite("media", taken_down)
    select(root, "all_after")
    assert causes(root, "all_before", "all_after") == {
        ("out", "takedown", "downloaded"): 2,
        ("out", "data", "downloaded"): 1,
    }


def test_new_links(folder: Path, served: Served, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    root = tmp_path / "copy"
    before = find_selection(Store.open(root / "store"), "small").name
    links_file(root / "more.parquet", [(url, "a new cat") for url in served.pictures[10:13]])
    run(root / "store", root / "r.yaml", root / "l.parquet", root / "more.parquet")
    assert causes(root, before, "latest") == {("in", "data", None): 3}


def test_the_command_line(folder: Path, tmp_path: Path) -> None:
    select(folder, "worded", WIDE)
    store = Store.open(folder / "store")
    version = find_selection(store, "worded").version
    first = find_selection(store, "small").version
    assert version is not None
    assert first is not None
    done = tamis("diff", folder / "store", first, version, "-o", tmp_path / "d.parquet")
    assert done.returncode == 0, done.stderr
    assert f"b: {find_selection(store, version).name}, version {version}" in done.stdout
    assert "words" in done.stdout
    written = pq.read_table(tmp_path / "d.parquet").to_pylist()
    assert len(written) == 3
    assert {row["cause"] for row in written} == {"rule"}
    assert json.loads(written[0]["saw"][0]) == {"num_words": 1, "$least": 2}
    known = {row["text_uid"]: row["sample_uid"] for row in rows(folder / "store", "select * from texts")}
    assert all(known[row["text_uid"]] == row["sample_uid"] for row in written)
    done = tamis("diff", folder / "store", "nonesuch")
    assert done.returncode == 2
    assert "has no selection or version 'nonesuch'; there are: small-" in done.stderr
    with pytest.raises(StoreError, match="nonesuch"):
        diff(store, "small", "nonesuch")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"policy": [{"rule": "a", "keep": "widht_px > 3"}]}', ":1: policy[0].keep: "),
        ('{"policy": [{"rule": "a", "keep": "clip_score > 3"}]}', "clip_score"),
        ('{"polcy": []}', "did you mean 'policy'"),
        ("[]", "a file of fields"),
    ],
)
def test_a_policy_that_the_store_cannot_decide(folder: Path, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "p.yaml").write_text(content)
    before = digests(folder)
    for command in (
        ["select", folder / "r.yaml", "--store", folder / "store", "--policy", tmp_path / "p.yaml", "--name", "x"],
        ["sweep", folder / "store", tmp_path / "p.yaml", "--set", "a.keep=true"],
    ):
        done = tamis(*command)
        assert done.returncode == 2, done.stdout
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    assert digests(folder) == before


def test_curve_and_sweep_on_a_store(folder: Path, tmp_path: Path) -> None:
    before = digests(folder)
    done = tamis("curve", folder / "store", "num_words", "--at", "1,2,3,4", "-o", tmp_path / "c.csv")
    assert done.returncode == 0, done.stderr
    assert [re.findall(r"[\d.]+%", line)[0] for line in done.stdout.splitlines()[1:5]] == [
        "100.0%",
        "70.0%",
        "40.0%",
        "20.0%",
    ]
    assert tamis("curve", folder / "store", "num_words", "-o", tmp_path / "c.html").returncode == 0
    assert "<svg" in (tmp_path / "c.html").read_text()
    done = tamis("curve", folder / "store", "num_words", "--at", "one")
    assert (done.returncode, done.stdout) == (2, "")
    file = policy(tmp_path / "p.yaml", WIDE)
    done = tamis("sweep", folder / "store", file, "--set", "words.least=1,2,3,4", "-o", tmp_path / "s.parquet")
    assert done.returncode == 0, done.stderr
    found = [row for row in pq.read_table(tmp_path / "s.parquet").to_pylist() if row["language"] is None]
    assert [(row["words.least"], row["texts"]) for row in found] == [(1, 10), (2, 7), (3, 4), (4, 2)]
    assert tamis("sweep", folder / "store", folder / "r.yaml", "--set", "words.least=1").returncode == 2
    assert digests(folder) == before
