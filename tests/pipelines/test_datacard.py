"""The datacard: entry counts as JSON, and the command that writes it."""

import json
from pathlib import Path

import pytest

from pipelines import database
from pipelines.datacard import entry_counts
from pipelines.store import Store, StoreError
from tests.stores import rows, tamis


def test_the_card_holds_the_counts(finished: Path, tmp_path: Path) -> None:
    counts = rows(finished, database.query("report/entry_counts"))
    for which in ("texts", "passed", "kept"):
        output = tmp_path / f"{which}.json"
        done = tamis("export", "entry-counts", finished, "-o", output, "--of", which)
        assert done.returncode == 0, done.stderr
        card = json.loads(output.read_text())
        assert card == {"en": {row["entry"]: row[which] for row in counts if row[which] > 0}}
        assert list(card["en"].values()) == sorted(card["en"].values(), reverse=True)
    assert sum(card["en"].values()) > 20
    flat = tmp_path / "en.json"
    assert tamis("export", "entry-counts", finished, "-o", flat, "--language", "en").returncode == 0
    assert json.loads(flat.read_text()) == entry_counts(Store.open(finished), "passed")["en"]


def test_what_is_missing_is_told(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="MetadataEntries"):
        entry_counts(Store.create(tmp_path / "new"))
    done = tamis("export", "entry-counts", finished, "-o", tmp_path / "x.json", "--language", "xx")
    assert (done.returncode, done.stderr.strip()) == (2, "no text of the language 'xx' holds an entry; there are: en")
    done = tamis("export", "entry-counts", finished, "-o", tmp_path / "x.json", "--of", "all")
    assert done.returncode == 2
    assert "none of texts, passed, kept" in done.stderr
