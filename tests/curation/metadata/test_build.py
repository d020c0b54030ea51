"""Building lists of entries: each kind of source on small files in its format, and the merging rules."""

import gzip
import lzma
import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.metadata import sources
from curation.metadata.build import BuildOptions, build, is_entry
from curation.metadata.ngrams import Ngrams
from curation.metadata.sources import MetadataError
from curation.metadata_lists import PACKAGED, load_metadata, save

LMF = """<?xml version="1.0" encoding="UTF-8"?>
<LexicalResource xmlns:dc="https://globalwordnet.github.io/schemas/dc/">
  <Lexicon id="odenet" label="Odenet" language="de" license="CC BY-SA 4.0" version="1.4">
    <LexicalEntry id="w1"><Lemma writtenForm="Hund" partOfSpeech="n"/><Sense id="s1" synset="y1"/></LexicalEntry>
    <LexicalEntry id="w2"><Lemma writtenForm="heißer_Draht" partOfSpeech="n"/></LexicalEntry>
    <Synset id="y1" partOfSpeech="n"/>
  </Lexicon>
</LexicalResource>
"""
SYNSETS = """  1 This software and database is being provided to you, the LICENSEE
00001740 03 n 02 Entity 0 thing 0 003 ~ 00001930 n 0000 | that which is perceived
00001930 03 n 01 hot_dog 0 001 @ 00001740 n 0000 | a frankfurter
"""


def wordnet_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "data.noun").write_text(SYNSETS)
    (folder / "data.verb").write_text("00001 29 v 01 bark 0 000 01 + 02 00 | make barking sounds\n")
    (folder / "data.adj").write_text("00002 00 a 01 galore(ip) 0 000 | in great numbers\n")
    (folder / "data.adv").write_text("00003 02 r 02 hot_dog 0 a_cappella 1 000 | without accompaniment\n")
    return folder


def test_wordnets(tmp_path: Path) -> None:
    (found,) = sources.wordnet(wordnet_folder(tmp_path / "dict"))
    assert [entry for entry, _ in found.entries] == ["entity", "hot dog", "bark", "galore"]
    assert (found.language, found.licence) == ("en", sources.WORDNET_LICENCE)
    tab = tmp_path / "wn-data-als.tab"
    tab.write_text(
        "# Albanet\tals\thttp://x\tCC BY 3.0\n00001740-n\tals:lemma\tqen_deti\n00001740-n\tals:def\t0\tkafshë\n"
    )
    (found,) = sources.wordnet(tab)
    assert (found.language, found.entries, found.licence) == ("sq", [("qen deti", None)], "CC BY 3.0")
    plain = LMF.encode()
    packed = {"de.xml": plain, "de.xml.gz": gzip.compress(plain), "de.xml.xz": lzma.compress(plain)}
    for name, content in packed.items():
        (tmp_path / name).write_bytes(content)
        (found,) = sources.wordnet(tmp_path / name)
        assert (found.language, found.licence, found.version) == ("de", "CC BY-SA 4.0", "1.4")
        assert [entry for entry, _ in found.entries] == ["hund", "heißer draht"]


def test_page_views(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(
        gzip.compress(b"en Paris 50 0\nen.m Paris 999 0\nen Talk:Paris 500 0\nde Hund 9 0\n")
    )
    (tmp_path / "b").write_text("en Paris 20 0\nen Eiffel_Tower 69 0\nzh-yue \u8c93 80 0\n")
    found = {each.language: each.entries for each in sources.page_views([tmp_path / "a.gz", tmp_path / "b"], 70, 10)}
    assert found == {"en": [("Paris", 70)], "yue": [("\u8c93", 80)]}
    (tmp_path / "c").write_text("en Paris\n")
    with pytest.raises(MetadataError, match=r"c, line 1: not `domain title views"):
        sources.page_views([tmp_path / "c"], 70, 10)


def test_words_and_pairs() -> None:
    ngrams = Ngrams()
    for text in ["The hot dog, dog's life", "hot dog stand", "a hot-dog"] * 2:
        ngrams.add(text)
    assert ngrams.unigrams(2, 1.0, 99)[:2] == [("dog", 4), ("hot", 4)]
    assert ngrams.unigrams(4, 0.5, 99) == [("dog", 4)]
    assert [pair for pair, _ in ngrams.bigrams(2, 0.0, 99)].count("hot dog") == 1
    assert "dog dog's" not in dict(ngrams.bigrams(1, -99, 99))  # a comma stands between
    japanese = Ngrams()
    japanese.add("東京タワー Tokyo Tower")
    assert set(japanese.words) == {"東", "京", "タ", "ワ", "ー", "Tokyo", "Tower"}
    assert {"東京", "京タ", "Tokyo Tower", "ー Tokyo"} <= set(dict(japanese.bigrams(1, -99, 99)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), max_size=12))
def test_pmi_is_its_definition(texts: list[str]) -> None:
    ngrams = Ngrams()
    for text in texts:
        ngrams.add(text)
    words = [word for text in texts for word in text.split()]
    pairs = Counter(f"{a} {b}" for text in texts for a, b in zip(text.split(), text.split()[1:], strict=False))
    counts = Counter(words)

    def pmi(pair: str) -> float:
        a, b = pair.split()
        return math.log2(pairs[pair] / len(words) / (counts[a] / len(words) * counts[b] / len(words)))

    found = ngrams.bigrams(1, 0.5, 99)
    assert dict(found) == {pair: n for pair, n in pairs.items() if pmi(pair) >= 0.5 - 1e-12}
    assert [pmi(pair) for pair, _ in found] == pytest.approx(sorted((pmi(pair) for pair, _ in found), reverse=True))


def test_rare_pairs_are_dropped_when_there_are_too_many() -> None:
    ngrams = Ngrams(max_pairs=50)
    for number in range(300):
        ngrams.add(f"blue sky x{number} y{number}")
    assert len(ngrams.pairs) <= 50
    assert 300 - ngrams.dropped_below <= dict(ngrams.bigrams(10, -99, 99))["blue sky"] <= 300


def test_a_list_of_everything(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Hot_dog\nhot dog\n!!\nParis\n" + "x" * 300 + "\n")
    (tmp_path / "corpus.txt").write_text("Paris in spring\n" * 3)
    table = pa.table({"caption": ["ein Hund", None, "ein Hund", "le chien"], "lang": ["de-AT", "de", "de", None]})
    pq.write_table(table, tmp_path / "links.parquet")
    (tmp_path / "views").write_text("fr Paris 90 0\n")
    said: list[str] = []
    options = BuildOptions(
        wordnets=[(None, wordnet_folder(tmp_path / "dict"))],
        lists=[("en", tmp_path / "names.txt")],
        corpora=[("en", tmp_path / "corpus.txt"), (None, tmp_path / "links.parquet")],
        text_column="caption",
        language_column="lang",
        page_views=[tmp_path / "views"],
        min_count=2,
        min_pair_count=2,
        min_pmi=0.0,
        licences={"names.txt": "CC0"},
    )
    metadata = build(options, said.append)
    assert list(metadata.languages) == ["de", "en", "fr"]
    assert metadata.entries("de")[100:] == ["Hund", "ein", "ein Hund"]
    assert metadata.entries("fr")[100:] == ["Paris"]
    english = metadata.entries("en")
    assert english[:100] == [str(number) for number in range(100)]
    assert english[100:108] == ["entity", "hot dog", "bark", "galore", "Hot dog", "Paris", "in", "spring"]
    assert english[108:] == ["Paris in", "in spring"]
    licences = {each["name"]: (each["licence"], each["entries"]) for each in metadata.about["sources"]}
    assert licences["names.txt"] == ("CC0", 2)
    assert licences["wordnet dict"] == (sources.WORDNET_LICENCE, 4)
    assert licences["words"] == ("not stated", 4)
    assert sum(each["entries"] for each in metadata.about["sources"]) == metadata.table.num_rows
    assert str(tmp_path) not in str(metadata.about)
    assert said == [f"{tmp_path / 'corpus.txt'}: 3 texts", f"{tmp_path / 'links.parquet'}: 2 texts"]
    save(metadata, tmp_path / "out.parquet")
    again = build(BuildOptions(base=[str(tmp_path / "out.parquet")], languages=["en"], numbers=False))
    assert again.entries() == english


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no entries: name at least one source"),
        ({"wordnets": [(None, "dict")]}, "cannot be read"),
        ({"wordnets": [(None, "empty")]}, "no WordNet database"),
        ({"wordnets": [(None, "bad.xml")]}, "no WN-LMF file"),
        ({"wordnets": [(None, "wn-data-xyz.tab")]}, "which language is 'xyz'"),
        ({"lists": [("en", "latin1.txt")]}, "line 2: is not UTF-8"),
        ({"corpora": [(None, "latin1.txt")]}, "which language is it in"),
        ({"corpora": [(None, "links.parquet")], "language_column": "lang"}, "no column 'text'; it has: caption"),
        ({"corpora": [(None, "links.parquet")], "text_column": "caption"}, "no column of languages was named"),
    ],
)
def test_what_cannot_be_used_says_why(tmp_path: Path, options: dict, message: str) -> None:  # type: ignore[type-arg]
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.xml").write_text("<a><b></a>")
    (tmp_path / "wn-data-xyz.tab").write_text("# x\n")
    (tmp_path / "latin1.txt").write_bytes(b"ok\ncaf\xe9\n")
    pq.write_table(pa.table({"caption": ["x"]}), tmp_path / "links.parquet")
    placed = {
        name: [(tag, tmp_path / path) for tag, path in value] if isinstance(value, list) else value
        for name, value in options.items()
    }
    with pytest.raises(MetadataError, match=message):
        build(BuildOptions(**placed))


def test_what_is_an_entry() -> None:
    assert [is_entry(text) for text in ("dog", "U.S.", "!?", " ", "", "☃", "24/7", "犬")] == [
        True, True, False, False, False, False, True, True,
    ]  # fmt: skip


def test_the_packaged_worldwide_list() -> None:
    metadata = load_metadata("worldwide")
    assert len(metadata.languages) >= 50
    assert all(len(ids) >= 3000 for ids in metadata.languages.values())
    expected = {
        "en": "penguin", "de": "Pinguin", "fr": "pingouin", "ja": "ペンギン", "zh": "企鹅", "th": "เพนกวิน",
        "ru": "пингвин", "ar": "بطريق", "hi": "कुत्ता", "ko": "펭귄", "km": "ឆ្កែ",
    }  # fmt: skip
    for language, word in expected.items():
        assert word in metadata.entries(language), language
    assert set(load_metadata("entries_en").entries()) <= set(metadata.entries("en"))
    names = {each["name"]: each for each in metadata.about["sources"]}
    assert names["cldr"]["licence"].startswith("Unicode-3.0")
    assert sum(each["entries"] for each in names.values()) == metadata.table.num_rows
    assert "UNICODE LICENSE V3" in (PACKAGED / "LICENSE.unicode.txt").read_text()
    assert sum(path.stat().st_size for path in PACKAGED.iterdir() if path.suffix in (".gz", ".parquet")) < 1_500_000
