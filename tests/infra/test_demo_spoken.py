"""The demo's spoken pictures and open media: what is built, and what a package's archive may bring."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.infra.test_demo_package import STAMPS, make_deb
from tests.stores import ROOT, digests, run

RECIPE = ROOT / "curation" / "recipes" / "demo_spoken.yaml"


def add(tar: tarfile.TarFile, name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type = len(content), kind
    tar.addfile(entry, io.BytesIO(content))


def test_only_films_and_sounds_are_taken_and_nothing_leaves_the_folder(demo_scripts: Path, tmp_path: Path) -> None:
    import open_media

    assert demo_scripts
    archive = tmp_path / "sample-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        add(tar, "sample-1.0/files/video/demo.mkv", b"film")
        add(tar, "sample-1.0/files/audio/demo.OGG", b"tune")
        add(tar, "sample-1.0/setup.py", b"raise SystemExit")
        add(tar, "sample-1.0/../../../escape.mp4", b"no")
        add(tar, "sample-1.0/files/video/link.mp4", b"", tarfile.SYMTYPE)
    assert open_media.unpack(archive, tmp_path / "tree") == 2
    found = {
        path.relative_to(tmp_path / "tree").as_posix() for path in (tmp_path / "tree").rglob("*") if path.is_file()
    }
    assert found == {"files/video/demo.mkv", "files/audio/demo.OGG"}
    assert not list(tmp_path.rglob("escape.mp4"))
    names = [open_media.content_of("sample", tmp_path / "tree" / each) for each in sorted(found)]
    assert names == ["sample/audio/demo", "sample/video/demo"]
    assert open_media.unpack(make_deb(tmp_path / "small.deb"), tmp_path / "deb") == 3
    assert (tmp_path / "deb" / "stamps" / "animals" / "cat.ogg").read_bytes() == b"OggS meow"
    assert STAMPS.endswith("stamps/")


def test_a_package_that_cannot_be_had_is_said_and_left_out(
    demo_scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import open_media

    assert demo_scripts

    def small(folder: Path) -> str:
        make_deb(folder / "small.deb")
        return ""

    monkeypatch.setattr(open_media, "SOURCES", {"there": small, "gone": lambda _: "no such package"})
    found = open_media.fetch(tmp_path, ("there", "gone"))
    assert {name: len(files) for name, files in found.items()} == {"there": 3}
    assert "without gone (no such package)" in capsys.readouterr().err
    monkeypatch.setattr(open_media, "SOURCES", {})
    assert open_media.fetch(tmp_path, ("there",)) == found


def test_spoken_pictures_from_links_to_rows_of_three_modalities(demo_scripts: Path, tmp_path: Path) -> None:
    """All sounds of the crawl are accounted for; what is damaged is refused for what was done to it."""
    import score_spoken
    import spoken
    import yaml
    from server import DemoServer

    assert demo_scripts
    server = DemoServer(tmp_path, port=0)
    counts = spoken.build(tmp_path, num_pictures=14, synthetic=14, base_url=server.url)
    made = digests(tmp_path)
    assert spoken.build(tmp_path, num_pictures=14, synthetic=14, base_url=server.url) == counts
    assert digests(tmp_path) == made
    truth: list[dict[str, Any]] = pq.read_table(tmp_path / "truth.parquet").to_pylist()
    assert len(truth) == counts["spoken_captions"] == 42
    content = yaml.safe_load(RECIPE.read_text()) | {"samples_per_part": 50}
    del content["train"]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with server:
        run(tmp_path / "store", tmp_path / "r.yaml", tmp_path / "links.parquet")
    found = score_spoken.accounts(tmp_path, tmp_path / "store")
    assert found["sounds"] == 42
    assert found["sounds_lost"] == 0
    expected = {
        "clean": {"kept", "copies"}, "picture_404": {"picture_is_there"}, "sound_404": {"http.4xx_gone"},
        "sound_html": {"av.container_not_allowed"}, "silent": {"sound_not_silent"},
        "sound_cut": {"kept", "av.corrupt", "av.truncated", "av.too_short"},
    }  # fmt: skip
    for label in {row["label"] for row in truth}:
        assert set(found[label]) <= expected[label], label
    of_version = score_spoken.of_version(tmp_path / "store")
    assert of_version["rows"] == of_version["with_image_audio_text"] == found["clean"]["kept"]
