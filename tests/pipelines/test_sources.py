"""Link tables: every kind is read to the last row; what cannot be read whole is refused, with the place."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.recipe import Columns
from pipelines.sources import SourceError, find_files, read_links

COLUMNS = Columns(text=["text"])
ROWS: list[dict[str, str | None]] = [
    {"url": "http://a.example/1.png", "text": 'a "quoted", picture\nof two lines'},
    {"url": "http://a.example/2.png", "text": None},
    {"url": None, "text": "ein Bild, ein Satz"},
    {"url": "http://a.example/ü.png", "text": "2012-01-01"},
    {"url": "http://a.example/3.png", "text": "007"},
]


def read(path: Path, columns: Columns = COLUMNS) -> list[dict[str, Any]]:
    return [row for batch in read_links(path, columns) for row in batch.to_pylist()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """`rows` in the format of the path's ending."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(
            pa.Table.from_pylist(rows, schema=pa.schema([("url", pa.string()), ("text", pa.string())])), path
        )
        return path
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "wt", newline="", encoding="utf-8") as file:
        if name.endswith((".csv", ".tsv")):
            writer = csv.DictWriter(file, ["url", "text"], delimiter="\t" if name.endswith(".tsv") else ",")
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize(
    "name",
    ["l.parquet", "l.csv", "l.tsv", "l.jsonl", "l.json", "l.ndjson", "l.csv.gz", "l.tsv.gz", "l.jsonl.gz", "L.CSV"],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert read(write(tmp_path / name, ROWS)) == ROWS


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8))
def test_no_text_is_changed(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("texts")
    table = [{"url": url, "text": text} for url, text in rows]
    for name in ("l.csv", "l.tsv", "l.jsonl", "l.parquet"):
        assert read(write(folder / name, table)) == table


def test_other_types_become_texts(tmp_path: Path) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(
        '{"url": "u1", "text": 5}\n{"url": "u2", "text": "five"}\n{"url": "u3", "text": 5.5}\n{"url": "u4"}\n'
    )
    assert [row["text"] for row in read(path)] == ["5", "five", "5.5", None]
    table = pa.table({"url": pa.array(["u"]).dictionary_encode(), "text": pa.array([5], pa.int32())})
    pq.write_table(table, tmp_path / "l.parquet")
    assert read(tmp_path / "l.parquet") == [{"url": "u", "text": "5"}]


def test_what_pandas_writes_for_a_missing_text_is_none(tmp_path: Path) -> None:
    for kind in (pa.float16(), pa.float32(), pa.float64()):
        values = pa.array([float("nan"), 1.5, None]).cast(kind) if kind != pa.float64() else [float("nan"), 1.5, None]
        pq.write_table(pa.table({"url": ["u1", "u2", "u3"], "text": pa.array(values, kind)}), tmp_path / "l.parquet")
        assert [row["text"] for row in read(tmp_path / "l.parquet")] == [None, "1.5", None]
    (tmp_path / "l.jsonl").write_text('{"url": "u1", "text": NaN}\n{"url": "u2", "text": 1.5}\n')
    assert [row["text"] for row in read(tmp_path / "l.jsonl")] == [None, "1.5"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"\xef\xbb\xbfurl,text\nu,t\n")
    assert read(tmp_path / "l.csv") == [{"url": "u", "text": "t"}]


def test_a_very_long_caption(tmp_path: Path) -> None:
    long = [{"url": "u", "text": "x" * 3_000_000}]
    for name in ("l.csv", "l.jsonl"):
        assert read(write(tmp_path / name, long)) == long


def test_more_rows_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.sources

    monkeypatch.setattr(pipelines.sources, "BATCH_ROWS", 3)
    rows = [{"url": f"u{i}", "text": f"t{i}"} for i in range(10)]
    for name in ("l.csv", "l.jsonl", "l.parquet"):
        batches = list(read_links(write(tmp_path / name, rows), COLUMNS))
        assert [batch.num_rows for batch in batches] == [3, 3, 3, 1]
        assert [row for batch in batches for row in batch.to_pylist()] == rows


def problem(path: Path, columns: Columns = COLUMNS) -> str:
    with pytest.raises(SourceError) as caught:
        read(path, columns)
    assert str(caught.value).startswith(str(path))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.csv", b"", "is empty"),
        ("l.csv", b"\n\n", "is empty"),
        ("l.csv", b"url,text\n", "has no rows"),
        ("l.csv", b"url,text\nu\n", ":2: 1 fields, the header has 2"),
        ("l.csv", b"url,text\nu,a,b\n", ":2: 3 fields, the header has 2"),
        ("l.csv", b'url,text\nu1,"never closed\nu2,b\nu3,c\n', "unexpected end of data"),
        ("l.tsv", b'url\ttext\nu1\t"open\nu2\tb\nu3\t"again\n', "after '\"'"),
        ("l.csv", b"url,text\nu,\xff\xfe\n", "is not UTF-8: invalid start byte (byte 0xff, after 'url,text\\nu,')"),
        ("l.csv", "url,text\nu,a\n".encode("utf-16"), "`iconv -f utf-16 -t utf-8`"),
        ("l.csv", b"url,text,text\nu,a,b\n", "2 columns called 'text'"),
        ("l.csv", b"url,txt\nu,a\n", "did you mean 'txt'"),
        ("l.tsv", b"url,text\nu,a\n", "no column 'url'"),
        ("l.csv", b"url;text\nu;a\n", "its fields are separated by ';'"),
        ("l.csv", b"url\ttext\nu\ta\n", "its fields are separated by '\\t'"),
        ("l.csv.gz", gzip.compress(b"url,text\n" + b"u,t\n" * 5000, mtime=0)[:-10], "cannot be read as csv"),
        ("l.csv.gz", b"not gzip at all", "cannot be read as csv"),
        ("l.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("l.jsonl", b"", "is empty"),
        ("l.jsonl", b"\n \n", "is empty"),
        ("l.jsonl", b'{"url": "u", "text": "t"}\n{"url": "u", "te', ":2: is not JSON"),
        ("l.jsonl", b'["u", "t"]\n', ":1: holds list"),
        ("l.jsonl", b'{"url": "u", "text": ["a", "b"]}\n', ":1: 'text' is a list"),
        ("l.jsonl", b'{"url": "u", "text": "\\ud800"}\n', "half a surrogate pair"),
        ("l.jsonl", b'{"url": "u", "caption": "t"}\n', "has no column 'text'"),
        ("l.jsonl", b"[" * 100_000, ":1: is not JSON"),
        ("l.parquet", b"", "cannot be read as parquet"),
        ("l.parquet", b"PAR1 and no more", "cannot be read as parquet"),
    ],
)
def test_what_cannot_be_read_whole_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in problem(tmp_path / name)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = write(tmp_path / "l.parquet", ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as parquet" in problem(path)
    pq.write_table(pa.table({"url": pa.array([], pa.string()), "text": pa.array([], pa.string())}), path)
    assert "has no rows" in problem(path)
    pq.write_table(pa.table({"url": ["u"], "text": [["a", "b"]]}), path)
    assert "is of lists" in problem(path)
    pq.write_table(pa.table({"url": ["u"], "text": [{"a": "b"}]}), path)
    assert "of type struct<a: string>; a text, a number or a list of texts is read" in problem(path)
    assert "no column 'caption'" in problem(path, Columns(text=["caption"]))
    latin = pa.array([b"ok", b"h\xe9llo"], pa.binary())
    pq.write_table(pa.table({"url": ["u", "v"], "text": pa.Array.from_buffers(pa.string(), 2, latin.buffers())}), path)
    assert "column 'text' is not UTF-8" in problem(path)
    pq.write_table(pa.table({"url": [b"u"], "text": pa.array([b"h\xe9"], pa.binary())}), path)
    assert "column 'text' is not UTF-8" in problem(path)


def test_folders_and_names(tmp_path: Path) -> None:
    deep = tmp_path / "links" / "deep"
    deep.mkdir(parents=True)
    one, two = write(deep / "b.csv", ROWS), write(tmp_path / "links" / "a.parquet", ROWS)
    (deep / "README.txt").write_text("not a link table")
    assert find_files([tmp_path / "links"]) == sorted([one, two])
    assert find_files([one, two]) == [one, two]
    for wrong in (tmp_path / "nowhere.csv", deep / "README.txt", tmp_path / "empty", tmp_path / "l.parquet.gz"):
        if wrong.name == "empty":
            wrong.mkdir()
        if wrong.name == "l.parquet.gz":
            wrong.write_bytes(b"")
        with pytest.raises(SourceError, match=wrong.name):
            find_files([wrong])
    with pytest.raises(SourceError, match="--links"):
        find_files([])
