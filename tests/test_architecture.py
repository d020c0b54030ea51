"""The walls of the house: who may import whom, and what a file may hold."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("curation", "pipelines", "flows", "pretrain")
MAY_IMPORT = {
    "curation": {"curation"},
    "pipelines": {"pipelines", "curation"},
    "pretrain": {"pretrain", "curation"},
    "flows": set(PACKAGES),
}
ONLY_IN = {
    "ray": {"pipelines/workers.py", "pretrain/launch.py", "flows/jobs.py"},
    "duckdb": {"pipelines/database.py"},
}
ONLY_BELOW = {"prefect": "flows/"}
MAX_LINES = 350


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_keep_to_the_walls(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    for module in imports(path):
        top = module.split(".")[0]
        if top in PACKAGES:
            assert top in MAY_IMPORT[package], f"{name} imports {module}"
        assert top not in ("tests", "infra"), f"{name} imports {module}"
        if top in ONLY_IN:
            assert name in ONLY_IN[top], f"{name} imports {module}; it belongs into {sorted(ONLY_IN[top])}"
        if top in ONLY_BELOW:
            assert name.startswith(ONLY_BELOW[top]), f"{name} imports {module}"


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_stay_one_thing(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(path.read_text())) or path.read_text().strip() == ""


def test_no_sql_is_made_from_values() -> None:
    """Values reach DuckDB as parameters; only names from a fixed set go through `quoted`."""
    for path in (ROOT / "pipelines").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "execute":
                text = ast.get_source_segment(path.read_text(), node.args[0]) or ""
                assert "%" not in text, f"{path.name}: {text}"
                assert ".format(" not in text, f"{path.name}: {text}"


def test_every_stored_query_says_what_goes_in_and_out() -> None:
    files = sorted((ROOT / "sql").rglob("*.sql"))
    assert files
    for path in files:
        head = path.read_text().splitlines()
        assert head[0].startswith("-- "), path
        assert any(line.startswith("-- in:") for line in head[:6]), path


def test_top_level_holds_only_what_the_owner_fixed() -> None:
    allowed = {"pipelines", "flows", "curation", "pretrain", "sql", "tests", "infra"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    assert folders - allowed <= {"tamis.egg-info", "build", "demo"}
