"""Getting, checking and reading the Debian package, on small packages made here."""

import dataclasses
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import package
import pytest
import stamps
from package import PackageError
from pictures import draw_pictures
from PIL import Image, ImageOps
from server import DemoServer

Compression = Literal["w:xz", "w:gz"]
STAMPS = f"./{package.STAMPS}/"
CAPTIONS = "A red cat.\nfr.utf8=Un chat rouge.\nca@valencia.utf8=Un gat roig.\nsr@latin.utf8=Crvena mačka.\nde.utf8=\n"


def png(n: int) -> bytes:
    return draw_pictures(n + 1)[n].data


FILES = {
    f"{STAMPS}animals/cat.png": png(0),
    f"{STAMPS}animals/cat.txt": CAPTIONS.encode(),
    f"{STAMPS}animals/cat_desc.ogg": b"OggS english",
    f"{STAMPS}animals/cat_desc_pt_BR.wav": b"RIFF portuguese",
    f"{STAMPS}animals/cat.ogg": b"OggS meow",
    f"{STAMPS}animals/dog.png": png(1),
    f"{STAMPS}animals/dog.txt": b"A dog.",
    f"{STAMPS}animals/mute.png": png(2),
    f"{STAMPS}animals/vector.svg": b"<svg/>",
    f"{STAMPS}other/cat-sleeping.png": png(3),
    f"{STAMPS}other/cat-sleeping.txt": b"A cat, asleep.",
    f"{STAMPS}other/hound.png": png(1),
    f"{STAMPS}other/hound.txt": b"A hound.",
    "./etc/passwd.png": b"not wanted",
    f"{STAMPS}../../../../../escape.png": b"not wanted",
    f"./{package.COPYRIGHT}": b"GPL-2",
}


def member(name: bytes, data: bytes) -> bytes:
    header = b"%-16s%-12d%-6d%-6d%-8o%-10d`\n" % (name, 0, 0, 0, 0o100644, len(data))
    return header + data + b"\n" * (len(data) % 2)


def make_deb(path: Path, compression: Compression = "w:xz") -> Path:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=compression) as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo(f"{STAMPS}animals/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    members = [(b"debian-binary", b"2.0\n"), (b"control.tar.xz", b"odd"), (b"data.tar.xz", data.getvalue())]
    path.write_bytes(b"!<arch>\n" + b"".join(member(*each) for each in members))
    return path


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    package.unpack(make_deb(tmp_path / "small.deb"), tmp_path / "tree")
    return tmp_path / "tree"


@pytest.mark.parametrize("compression", ["w:xz", "w:gz"])
def test_unpack_takes_what_is_wanted_and_nothing_outside(tmp_path: Path, compression: Compression) -> None:
    tree = tmp_path / "deep" / "tree"
    assert package.unpack(make_deb(tmp_path / "small.deb", compression), tree) == 13
    names = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()}
    stamp_names = {name.removeprefix("./") for name in FILES if name.startswith(STAMPS) and ".." not in name}
    assert names == stamp_names - {f"{package.STAMPS}/animals/vector.svg"} | {str(package.COPYRIGHT)}
    assert (tree / package.STAMPS / "animals/cat.png").read_bytes() == png(0)
    assert not list(tmp_path.rglob("escape.png"))


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="dpkg-deb is Debian's")
def test_unpack_agrees_with_dpkg_deb(tmp_path: Path) -> None:
    source, content = tmp_path / "source", tmp_path / "source" / package.STAMPS / "animals"
    content.mkdir(parents=True)
    (content / "cat.png").write_bytes(png(0))
    (content / "cat.txt").write_text(CAPTIONS, encoding="utf-8")
    (source / "DEBIAN").mkdir()
    (source / "DEBIAN" / "control").write_text(
        "Package: small\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: small\n"
    )
    deb = tmp_path / "small.deb"
    subprocess.run(["dpkg-deb", "-Zxz", "-b", str(source), str(deb)], check=True, capture_output=True, timeout=60)
    subprocess.run(["dpkg-deb", "-x", str(deb), str(tmp_path / "theirs")], check=True, timeout=60)
    assert package.unpack(deb, tmp_path / "mine") == 2
    for path in (tmp_path / "mine").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "theirs" / path.relative_to(tmp_path / "mine")).read_bytes()


def test_what_is_no_package_is_said_so(tmp_path: Path) -> None:
    for content, message in (
        (b"<html>", "does not begin with an ar header"),
        (b"!<arch>\n" + b"x" * 60, "bad ar member header"),
        (b"!<arch>\n" + member(b"debian-binary", b"2.0\n"), "no data.tar member"),
    ):
        (tmp_path / "bad.deb").write_bytes(content)
        with pytest.raises(PackageError, match=message):
            package.unpack(tmp_path / "bad.deb", tmp_path / "tree")


def test_another_package_is_refused(tmp_path: Path) -> None:
    deb = make_deb(tmp_path / "small.deb")
    with pytest.raises(PackageError, match=hashlib.sha256(deb.read_bytes()).hexdigest()):
        package.fetch(tmp_path / "out", deb)
    with pytest.raises(PackageError, match="no such file"):
        package.fetch(tmp_path / "out", tmp_path / "missing.deb")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_is_there_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / package.FOLDER).mkdir()
    assert package.fetch(tmp_path, tmp_path / "missing.deb") == tmp_path / package.FOLDER


def test_the_pinned_package_is_fetched_and_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = make_deb(tmp_path / "small.deb")
    monkeypatch.setattr(package, "SHA256", package.sha256_of(deb))
    tree = package.fetch(tmp_path / "out", deb)
    assert (tree / package.COPYRIGHT).read_bytes() == b"GPL-2"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [package.FOLDER]


def test_archive_answers_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deb = make_deb(tmp_path / "small.deb")
    routes = {"/d": {"file": deb.name}, "/s": {"file": deb.name, "short": 9}}
    (tmp_path / "routes.json").write_text(json.dumps({"routes": routes}))
    into = tmp_path / "into"
    into.mkdir()
    with DemoServer(tmp_path, port=0) as server:
        path, why = package.from_archive(into, f"{server.url}/d")
        assert (path, why) == (None, f"{server.url}/d has SHA-256 {package.sha256_of(deb)}")
        assert "404" in package.from_archive(into, f"{server.url}/none")[1]
        assert package.from_archive(into, f"{server.url}/s")[0] is None
        monkeypatch.setattr(package, "SHA256", package.sha256_of(deb))
        path, why = package.from_archive(into, f"{server.url}/d")
        assert (path, why) == (into / package.FILE, "")
        monkeypatch.setattr(package, "SIZE_BYTES", 10)
        assert "longer than the 10 bytes" in package.from_archive(into, f"{server.url}/d")[1]
    assert "refused" in package.from_archive(into, f"{server.url}/d")[1]


def test_stamps(unpacked: Path) -> None:
    found = {picture.name: picture for picture in stamps.read_stamps(unpacked)}
    assert list(found) == ["animals/cat", "animals/dog", "other/cat-sleeping", "other/hound"]
    cat = found["animals/cat"]
    assert cat.captions == {
        "en": "A red cat.",
        "fr": "Un chat rouge.",
        "ca-valencia": "Un gat roig.",
        "sr-Latn": "Crvena mačka.",
    }
    assert {tag: path.name for tag, path in cat.audio.items()} == {"en": "cat_desc.ogg", "pt-BR": "cat_desc_pt_BR.wav"}
    assert (cat.category, cat.data) == ("animals", png(0))
    assert (cat.effect and cat.effect.name, found["animals/dog"].effect) == ("cat.ogg", None)
    assert found["other/cat-sleeping"].family == cat.family  # by name
    assert found["other/hound"].family == found["animals/dog"].family  # the same bytes under another name
    assert cat.family != found["animals/dog"].family


def test_no_stamps_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no stamps"):
        stamps.read_stamps(tmp_path)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("seasonal/hanukkah/dreydl-nun", "seasonal/hanukkah/dreydl-hay"),
        ("military/fireman240a", "people/fireman240a"),
        ("animals/gnu", "animals/gnu_mirror"),
        (
            "symbols/alphabets/english/filled/uppercase/S_filled",
            "symbols/alphabets/english/outlined/lowercase/s_outline",
        ),
        ("symbols/money/yen100", "symbols/money/yen500"),
    ],
)
def test_one_family_by_name(a: str, b: str) -> None:
    assert stamps.family_of(a) == stamps.family_of(b)


def test_a_mirrored_drawing_is_alike_and_another_is_not() -> None:
    first, second = draw_pictures(2)
    file = io.BytesIO()
    ImageOps.mirror(Image.open(io.BytesIO(first.data))).save(file, "PNG")
    mirrored = dataclasses.replace(first, name="mirrored", data=file.getvalue())
    assert stamps.alike_pairs([first, second, mirrored]) == [(first.name, "mirrored")]
