"""A classifier from a store: two selections by SQL, a model, what is known of it, and the signal that uses it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.stores import SIGNALS, Served, links_file, recipe, rows, run, tamis

COLOURS = ["red", "green", "blue", "white", "black", "grey", "brown", "golden"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """Two captions a picture in turn: one that describes, one that sells."""
    root = tmp_path_factory.mktemp("classifier")
    pictures = served.pictures[:12]
    links = [
        (url, text)
        for i, url in enumerate(pictures)
        for k, colour in enumerate(COLOURS)
        for text in (f"a {colour} dog number {i} in the garden", f"buy {colour} shoes, model {i * 8 + k}, best price!")
    ]
    split = ["train" if number % 5 else "val" for number in range(len(links))]
    run(root / "store", recipe(root / "r.yaml"), links_file(root / "l.parquet", links, split=split))
    return root / "store"


POSITIVE = "text_clean like '%dog%' and split = 'train'"
NEGATIVE = "select text_clean as text, position from candidates where text_clean like '%shoes%' and split = 'train'"


def train(store: Path, output: Path, positive: str = POSITIVE, negative: str = NEGATIVE) -> str:
    done = tamis("classifier", "train", store, "--positive", positive, "--negative", negative, "-o", output)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_selections_make_a_model_that_a_recipe_scores_with(store: Path, tmp_path: Path) -> None:
    said = train(store, tmp_path / "m" / "quality.bin")
    assert "held-out accuracy 1.0, AUC 1.0 (1.0 to 1.0)" in said
    card = json.loads((tmp_path / "m" / "quality.bin.json").read_text())
    assert card["sha256"] == hashlib.sha256((tmp_path / "m" / "quality.bin").read_bytes()).hexdigest()
    assert (card["positive"], card["negative"]) == (POSITIVE, NEGATIVE)
    assert card["held_out_auc"] == 1.0
    (wanted,) = rows(store, f"select count(distinct text_clean) as n from candidates where {POSITIVE}")
    assert sum(card["texts"][kind]["positive"] for kind in card["texts"]) == wanted["n"]
    train(store, tmp_path / "again.bin")
    assert (tmp_path / "again.bin").read_bytes() == (tmp_path / "m" / "quality.bin").read_bytes()

    quality = {"use": "curation.signals.text_quality.TextQuality", "model": str(tmp_path / "again.bin")}
    recipe_file = recipe(
        tmp_path / "r.yaml",
        [{"rule": "well_written", "keep": "quality_probability >= 0.5"}],
        signals=[*({"use": f"curation.signals.{name}"} for name in SIGNALS), quality],
    )
    run(store, recipe_file, store.parent / "l.parquet")
    (found,) = rows(
        store,
        "select count(*) as n, count(*) filter (where kept) as kept, "
        "count(*) filter (where kept = (text like '%dog%')) as right from ledger where status = 'ok'",
    )
    assert found["n"] > 150
    assert found["right"] == found["n"]


@pytest.mark.parametrize(
    ("positive", "message"),
    [
        (
            "text_cleen is not null",
            "the positive selection: text_cleen is not null: there is no column 'text_cleen'; did you mean",
        ),
        ("select text_cleen from candidates", "there is no column 'text_cleen'; did you mean 'text_clean'?"),
        ("text_clean", "the positive selection: text_clean: Conversion Error: Could not convert string"),
        ("text_clean::int > 3", "Conversion Error"),
        ("sum(position) > 3", "WHERE clause cannot contain aggregates"),
        ("position > ", "Parser Error: syntax error"),
        ("select * from nowhere", "Table with name nowhere does not exist"),
        ("select text_clean as a, text as b from candidates", "gives the columns a, b, and none is called text"),
        ("", "the positive selection"),
        ("'nan'::double > 0.3", "the positive selection has 0 texts of its own (0 are in both)"),
        ("select text_uid, sample_uid from candidates", "none is called text"),
        ("select position from texts", "gives int32, not texts"),
        ("false", "the positive selection has 0 texts of its own (0 are in both)"),
        ("text_clean like '%shoes%' and split = 'train'", "are in both): too few"),
        ("from texts; drop table texts", "only one SELECT"),
    ],
)
def test_selections_that_give_nothing(store: Path, tmp_path: Path, positive: str, message: str) -> None:
    done = tamis("classifier", "train", store, "--positive", positive, "--negative", NEGATIVE, "-o", tmp_path / "m.bin")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert message in said
    assert "SQL:" not in said
    assert "LINE 1" not in said
    assert not list(tmp_path.iterdir())


def test_what_else_cannot_be_trained(store: Path, tmp_path: Path) -> None:
    def said(negative: str, *more: str | Path) -> str:
        ways = ("--positive", POSITIVE, "--negative", negative)
        done = tamis("classifier", "train", store, *ways, *more)
        assert done.returncode == 2
        return " ".join(done.stderr.split())

    assert "the negative selection: nothing_such: there is no column" in said("nothing_such", "-o", tmp_path / "m.bin")
    assert f"{tmp_path} is a folder" in said(NEGATIVE, "-o", tmp_path)
    # one kind only: what both selections hold is left out, and nothing is left
    assert "are in both): too few" in said(POSITIVE, "-o", tmp_path / "m.bin")
    assert "epochs" in said(NEGATIVE, "-o", tmp_path / "m.bin", "--epochs", "0")
    assert "seed" in said(NEGATIVE, "-o", tmp_path / "m.bin", "--seed", "-1")
    assert not list(tmp_path.iterdir())


def test_a_recipe_without_its_model_is_refused_at_its_line(tmp_path: Path) -> None:
    quality = {"use": "curation.signals.text_quality.TextQuality", "model": str(tmp_path / "nowhere.bin")}
    recipe_file = recipe(tmp_path / "r.yaml", signals=[{"use": "curation.signals.text_hygiene.TextHygiene"}, quality])
    done = tamis("plan", recipe_file, "--store", tmp_path / "store")
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert "r.yaml:" in said
    assert "signals[1]" in said or "signals.1" in said
    assert "no classifier" in said
