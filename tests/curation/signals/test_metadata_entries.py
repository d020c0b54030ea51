"""The signal that matches each text with the entries of its language."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.signals.metadata_entries import MetadataEntries
from tests.curation.dull_entries import matches_dully

LISTS = {"en": ["dog", "cat", "hot dog"], "zh": ["狗", "東京"], "nb": ["hund", "katt"], "de": ["hund", "katze"]}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMIS_CACHE", str(tmp_path / "cache"))


def rows(texts: list[str | None], languages: list[str | None], column: str = "language_claimed") -> pa.Table:
    return pa.table({"text_clean": pa.array(texts, pa.string()), column: pa.array(languages, pa.string())})


def computed(signal: MetadataEntries, table: pa.Table) -> list[tuple[list[int] | None, str | None]]:
    found = signal.compute(table)
    assert found.schema == signal.writes()
    return list(zip(found.column("entry_ids").to_pylist(), found.column("entry_language").to_pylist(), strict=True))


def test_each_text_is_matched_with_its_languages_entries(tmp_path: Path) -> None:
    path = tmp_path / "lists.json"
    path.write_text(json.dumps(LISTS))
    signal = MetadataEntries(entries=str(path))
    texts = ["A hot dog", "ein Hund", "en hund", "hund", "我的狗", "廣東的狗", None, "dog", "dog", "nothing"]
    tags = ["en-US", "de", "no", "en", "zh-TW", "yue", "en", None, "fr", "en_GB"]
    assert computed(signal, rows(texts, tags)) == [
        ([0, 2], "en"), ([7], "de"), ([5], "nb"), ([], "en"), ([3], "zh"), ([3], "zh"),
        (None, None), (None, None), (None, None), ([], "en"),
    ]  # fmt: skip
    resolved = signal.changed(language="language")
    assert computed(resolved, rows(["dog"], ["en"], "language")) == [([0], "en")]
    assert resolved.key() != signal.key()


def test_a_list_without_languages_is_for_all_texts(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("dog\ncat\n")
    signal = MetadataEntries(entries=str(tmp_path / "list.txt"))
    assert computed(signal, rows(["dog", "cat", None], ["en", None, "de"])) == [
        ([0], "und"),
        ([1], "und"),
        (None, None),
    ]


def test_und_is_for_languages_without_a_list(tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text(json.dumps({"en": ["dog"], "und": ["2024", "dog"]}))
    signal = MetadataEntries(entries=str(tmp_path / "lists.json"))
    assert computed(signal, rows(["dog 2024"] * 3, ["en", "xx", None])) == [
        ([0], "en"),
        ([1, 2], "und"),
        ([1, 2], "und"),
    ]


def test_the_key_is_the_lists_content_not_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, text in (("a/de.txt", "hund\n"), ("b.txt", "dog\n"), ("c.txt", "dog\n"), ("d.txt", "cat\n")):
        (tmp_path / name).write_text(text)
    keys = [MetadataEntries(entries=str(tmp_path / name)).key() for name in ("b.txt", "c.txt", "d.txt", "a")]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    (tmp_path / "a/en.txt").write_text("dog\n")
    assert MetadataEntries(entries=str(tmp_path / "a")).key() != keys[3]


def test_the_legend_names_the_ids(tmp_path: Path) -> None:
    (tmp_path / "lists.json").write_text(json.dumps(LISTS))
    legend = MetadataEntries(entries=str(tmp_path / "lists.json")).legend().to_pylist()
    assert [row["entry_id"] for row in legend] == list(range(9))
    assert (legend[7]["language"], legend[7]["entry"]) == ("de", "hund")


TAGS = st.sampled_from(["en", "de-AT", "zh", "xx", None])
TEXTS = st.none() | st.text(alphabet="dogcat hunzeD狗東京,", max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(TEXTS, TAGS), max_size=12))
def test_it_is_the_dull_definition_language_by_language(
    tmp_path_factory: pytest.TempPathFactory, given_rows: list[tuple[str | None, str | None]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "lists.json"
    path.write_text(json.dumps(LISTS))
    found = computed(
        MetadataEntries(entries=str(path)), rows([text for text, _ in given_rows], [tag for _, tag in given_rows])
    )
    first = {"en": 0, "zh": 3, "nb": 5, "de": 7}
    for (text, tag), (ids, language) in zip(given_rows, found, strict=True):
        listed = (tag or "xx")[:2]
        if text is None or listed not in first:
            assert (ids, language) == (None, None)
        else:
            (dull,) = matches_dully([text], LISTS[listed], "fixed")
            assert (ids, language) == ([first[listed] + each for each in dull or []], listed)
