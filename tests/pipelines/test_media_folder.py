"""Folders and tars of media as sources: rows with where the bytes are, their digest and the texts beside them."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from pipelines.media_folder import beside, is_medium, media_files, rows
from pipelines.sources import SourceError


def fill(folder: Path, **files: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in files.items():
        (folder / name.replace("__", ".")).write_bytes(body)
    return folder


def test_a_medium_and_its_texts(tmp_path: Path) -> None:
    fill(tmp_path / "x y", a__mp4=b"film", a__txt=b"One", a__de__txt="Zwölf".encode(), a__zh_Hant__srt=b"", b__wav=b"")
    fill(tmp_path / "x y", ab__txt=b"of another", a__en__vtt=b"WEBVTT")
    found = media_files(tmp_path)
    assert [path.name for path in found] == ["a.mp4", "b.wav"]
    assert [path.name for path in beside(found[0])] == ["a.de.txt", "a.en.vtt", "a.txt"]
    table = rows(found[0], [tmp_path], "text", "subs", ["split"]).to_pylist()
    assert [(row["text"], row["subs"], row["language"], row["split"]) for row in table] == [
        ("Zwölf", None, "de", None),
        (None, "WEBVTT", "en", None),
        ("One", None, None, None),
    ]
    sha256 = hashlib.sha256(b"film").hexdigest()
    assert {(row["url"], row["sha256"]) for row in table} == {(f"file:///x%20y/a.mp4?sha256={sha256}", sha256)}
    place = json.loads(table[0]["held_in"])
    assert place == {"file": str(found[0]), "at": 0, "size": 4, "exact": True}
    (bare,) = rows(found[1], [tmp_path], "text", None, []).to_pylist()
    assert (bare["text"], bare["language"]) == (None, None)


def test_a_text_without_a_column_is_an_error(tmp_path: Path) -> None:
    fill(tmp_path, a__mp4=b"film", a__srt=b"1\n")
    with pytest.raises(SourceError, match=r"a\.mp4: has subtitles beside it, .*`segment: \{subtitles:"):
        rows(tmp_path / "a.mp4", [tmp_path], "text", None, [])


def test_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for name, body in (("d/0.txt", b"first"), ("d/0.mp4", b"film"), ("1.flac", b"sound"), ("2.txt", b"of nothing")):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    assert is_medium(path)
    assert media_files(path) == [path]
    table = rows(path, [tmp_path], "text", None, []).to_pylist()
    assert [(row["url"].partition("?")[0], row["text"]) for row in table] == [
        ("file:///shard.tar/d/0.mp4", "first"),
        ("file:///shard.tar/1.flac", None),
    ]
    for row, body in zip(table, (b"film", b"sound"), strict=True):
        place = json.loads(row["held_in"])
        assert path.read_bytes()[place["at"] : place["at"] + place["size"]] == body
    path.write_bytes(b"no tar" * 200)
    with pytest.raises(SourceError, match=r"shard\.tar: "):
        rows(path, [tmp_path], "text", None, [])
