"""Loading and saving lists of metadata entries."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation import metadata_lists
from curation.metadata_lists import ENTRIES, Metadata, load_metadata, merged, metadata_digest, save


def test_plain_lists(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("dog\n\nhot dog\n")
    (tmp_path / "b.json").write_text(json.dumps(["dog", "hot dog"]))
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b'["dog", "hot dog"]'))
    (tmp_path / "d.txt.gz").write_bytes(gzip.compress(b"dog\nhot dog"))
    for name in ("a.txt", "b.json", "c.json.gz", "d.txt.gz"):
        found = load_metadata(str(tmp_path / name))
        assert found.entries() == ["dog", "hot dog"]
        assert found.languages == {"und": range(2)}
    assert metadata_digest(str(tmp_path / "a.txt")) != metadata_digest(str(tmp_path / "b.json"))
    (tmp_path / "empty.txt").write_text("")
    assert load_metadata(str(tmp_path / "empty.txt")).languages == {}


def test_what_is_no_list_says_so(tmp_path: Path) -> None:
    bad = {
        "e.json": b'{"a": 1}', "f.json": b"[", "g.txt.gz": b"no gzip", "h.txt": b"\xff", "i.json": b'["a", 1]',
        "j.parquet": b"PAR1", "k.json": b'{"en": ["a"], "de": [1]}',
    }  # fmt: skip
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            load_metadata(str(tmp_path / name))
    pq.write_table(pa.table({"entry": ["dog"]}), tmp_path / "l.parquet")
    with pytest.raises(ValueError, match="no column 'language'"):
        load_metadata(str(tmp_path / "l.parquet"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="holds no lists"):
        load_metadata(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="entries_en"):
        load_metadata("entries_xx")


def test_several_languages(tmp_path: Path) -> None:
    lists = {"de": ["hund"], "en": ["dog", "hot dog"]}
    (tmp_path / "all.json").write_text(json.dumps(lists))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "en.txt").write_text("dog\nhot dog\n")
    (tmp_path / "folder" / "de.json").write_text('["hund"]')
    (tmp_path / "folder" / "README.md").write_text("no list")
    for name in ("all.json", "folder"):
        found = load_metadata(str(tmp_path / name))
        assert found.languages == {"de": range(1), "en": range(1, 3)}
        assert found.entries("en") == ["dog", "hot dog"]
    (tmp_path / "folder" / "fr.json").write_text('{"fr": ["chien"]}')
    with pytest.raises(ValueError, match="one list, that of the language 'fr'"):
        load_metadata(str(tmp_path / "folder"))


def test_saving_and_loading_again(tmp_path: Path) -> None:
    lists = [("en", "wordnet", [("dog", 3), ("cat", None)]), ("en", "titles", [("cat", 9), ("Paris", 1)])]
    table = merged(["de", "en"], [*lists, ("de", "titles", [("Hund", 2)])])
    assert table.to_pylist() == [
        {"language": "de", "entry": "Hund", "source": "titles", "count": 2},
        {"language": "en", "entry": "dog", "source": "wordnet", "count": 3},
        {"language": "en", "entry": "cat", "source": "wordnet", "count": None},
        {"language": "en", "entry": "Paris", "source": "titles", "count": 1},
    ]
    about = {"sources": [{"name": "wordnet", "licence": "WordNet-3.0"}]}
    save(Metadata(table, about), tmp_path / "m.parquet")
    found = load_metadata(str(tmp_path / "m.parquet"))
    assert found.table.equals(table)
    assert found.table.schema.equals(ENTRIES)
    assert found.about == about
    before = (tmp_path / "m.parquet").read_bytes()
    save(Metadata(table, about), tmp_path / "m.parquet")
    assert (tmp_path / "m.parquet").read_bytes() == before


def test_languages_must_stand_together() -> None:
    table = pa.table(
        {
            "language": ["de", "en", "de"],
            "entry": ["a", "b", "c"],
            "source": pa.nulls(3, pa.string()),
            "count": pa.nulls(3, pa.int64()),
        }
    )
    with pytest.raises(ValueError, match="'de' do not stand together"):
        _ = Metadata(table.cast(ENTRIES), {}).languages


def test_the_packaged_english_list() -> None:
    packaged = load_metadata("entries_en").entries()
    assert len(packaged) == len(set(packaged)) > 20_000
    assert packaged[:100] == [str(number) for number in range(100)]
    assert {"dog", "baseball game", "penguin", "butterfly", "lighthouse", "red", "swim"} <= set(packaged)
    assert all(entry == entry.strip() and "_" not in entry for entry in packaged)
    assert "Princeton University" in (metadata_lists.PACKAGED / "LICENSE.wordnet.txt").read_text()
