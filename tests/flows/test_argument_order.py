"""Somebody who gives the arguments of a command in another command's order is told the right one."""

from pathlib import Path
from typing import Any

import pytest
import typer.main

from flows.argument_order import is_store
from flows.cli import app
from tests.stores import tamis


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "store.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        ("curve clip_score STORE", "curve [OPTIONS] {store} {value}"),
        ("why http://a.example/x.png STORE", "why [OPTIONS] {store} {what}"),
        ("sql select* STORE", "sql [OPTIONS] {store} [query]"),
        ("diff one STORE", "diff [OPTIONS] {store} {a} [b]"),
        ("diff one two STORE", "diff [OPTIONS] {store} {a} [b]"),
        ("sweep r.yaml STORE --set a.b=1", "sweep [OPTIONS] {store} {policy}"),
        ("takedown http://a.example/x.png b.example STORE", "takedown [OPTIONS] {store} [what]..."),
        ("noise latest STORE", "noise [OPTIONS] {store} [version]"),
        ("evalset add imagenet STORE --texts t.txt", "evalset add [OPTIONS] {store} {name}"),
        ("sweep r.yaml --store STORE", "sweep [OPTIONS] {store} {policy}"),
        ("select STORE r.yaml --policy p.yaml --name n", "select [OPTIONS] {recipe}"),
        ("run STORE r.yaml", "run [OPTIONS] {recipe}"),
        ("plan STORE r.yaml", "plan [OPTIONS] {recipe}"),
        ("train STORE c.yaml", "train [OPTIONS] {config}"),
        ("eval STORE c.yaml", "eval [OPTIONS] {config}"),
        ("ablate STORE", "ablate [OPTIONS] {ablation}"),
    ],
)
def test_the_right_order_is_said(store: Path, words: str, usage: str) -> None:
    given = [str(store) if word == "STORE" else word for word in words.split()]
    before = sorted(store.parent.rglob("*"))
    done = tamis(*given)
    assert done.returncode == 2
    told = done.stderr.lower()
    assert usage.lower().replace("{", "").replace("}", "") in told.replace("{", "").replace("}", "")
    assert "--store" in words or " comes first" in " ".join(told.replace("│", " ").split())
    assert sorted(store.parent.rglob("*")) == before


def commands(group: Any) -> list[Any]:
    found = []
    for each in group.commands.values():
        found += commands(each) if hasattr(each, "commands") else [each]
    return found


def test_no_command_is_forgotten() -> None:
    """A store among the arguments is the first one, and those behind it look whether it was given in their place."""
    seen = 0
    for command in commands(typer.main.get_command(app)):
        names = [each.name for each in command.params if each.param_type_name == "argument"]
        if "store" in names:
            assert names[0] == "store", command.name
            behind = [each for each in command.params if each.name in names[1:]]
            assert all(each.callback is not None for each in behind), command.name
            seen += len(behind)
    assert seen >= 9


@pytest.mark.parametrize("text", ["select 1", "x" * 10_000, "a\0b", "", "\udcff"])
def test_any_text_may_stand_there(text: str) -> None:
    assert not is_store(text)
