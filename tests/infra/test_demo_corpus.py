"""The demo's crawl: the same bytes each time, every kind of dirt, and nothing told by a URL."""

import io
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import corpus
import dirt
import numpy as np
import pyarrow.parquet as pq
import pytest
from crawl import SEED
from keyed import unit
from picture import Groups
from pictures import RGB, draw_pictures, subjects
from PIL import Image
from words import CAPTION_OF, COLOURS, SHAPES, Subject, captions


def rows_of(path: Path) -> list[dict[str, str | None]]:
    rows: list[dict[str, str | None]] = pq.read_table(path).to_pylist()
    return rows


def routes_of(crawl: Path) -> dict[str, dict[str, object]]:
    routes: dict[str, dict[str, object]] = json.loads((crawl / "routes.json").read_text())["routes"]
    return routes


def route_of(crawl: Path, url: str | None) -> dict[str, object]:
    return routes_of(crawl)[str(url).removeprefix(corpus.BASE_URL)]


def body_of(crawl: Path, url: str | None) -> bytes:
    return (crawl / str(route_of(crawl, url)["file"])).read_bytes()


def labelled(crawl: Path, label: str) -> list[dict[str, str | None]]:
    return [entry for entry in rows_of(crawl / "truth.parquet") if entry["label"] == label]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_arguments_give_the_same_bytes(small_crawl: Path, tmp_path: Path) -> None:
    corpus.build(tmp_path, synthetic=48, limit_languages=4)
    assert contents(tmp_path) == contents(small_crawl)


def test_the_port_is_only_in_the_links(small_crawl: Path, tmp_path: Path) -> None:
    corpus.build(tmp_path, synthetic=48, limit_languages=4, base_url="http://127.0.0.1:9/")
    mine, other = contents(small_crawl), contents(tmp_path)
    differing = {name for name in mine.keys() | other.keys() if mine.get(name) != other.get(name)}
    assert differing == {"links.parquet", "truth.parquet", "truth_captions.parquet", "corpus.json"}
    moved = [str(row["url"]).replace("127.0.0.1:9", "127.0.0.1:8071") for row in rows_of(tmp_path / "links.parquet")]
    assert moved == [row["url"] for row in rows_of(small_crawl / "links.parquet")]


def test_built_again_only_for_other_arguments(tmp_path: Path) -> None:
    assert not corpus.build(tmp_path, synthetic=6)["reused"]
    written = (tmp_path / "links.parquet").stat().st_mtime_ns
    again = corpus.build(tmp_path, synthetic=6)
    assert again["reused"]
    assert (tmp_path / "links.parquet").stat().st_mtime_ns == written
    assert not corpus.build(tmp_path, synthetic=7)["reused"]
    (tmp_path / "corpus.json").unlink()  # as if the build had been killed
    assert not corpus.build(tmp_path, synthetic=7)["reused"]


def test_link_table(small_crawl: Path) -> None:
    table = pq.read_table(small_crawl / "links.parquet")
    assert table.column_names == ["url", "caption", "language", "category", "split", "audio_url"]
    pairs = list(zip(table["url"].to_pylist(), table["language"].to_pylist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(table["language"].to_pylist()) == {"en", "de", "fr", "es"}
    per_url = Counter(url for url, _ in pairs)
    assert set(per_url.values()) == {4}
    assert set(per_url) == {row["url"] for row in rows_of(small_crawl / "truth.parquet")}
    assert set(table["category"].to_pylist()) <= {f"shapes/{shape}" for shape in SHAPES}


def test_every_url_has_a_route_and_tells_nothing(small_crawl: Path) -> None:
    routes = routes_of(small_crawl)
    paths = {str(row["url"]).removeprefix(corpus.BASE_URL) for row in rows_of(small_crawl / "links.parquet")}
    assert paths <= set(routes)
    assert all(len(path) == len("/f/00/00000000000000") and "." not in path for path in paths)
    assert all((small_crawl / str(route["file"])).is_file() for route in routes.values() if "file" in route)


def test_every_label_is_there_as_often_as_its_share_says(small_crawl: Path) -> None:
    found = Counter(entry["label"] for entry in rows_of(small_crawl / "truth.parquet"))
    shares = dirt.DAMAGE_SHARES | dirt.COPY_SHARES
    assert {label: found[label] for label in shares} == {label: max(1, round(48 * s)) for label, s in shares.items()}
    assert found["clean"] == 48 - sum(found[label] for label in dirt.DAMAGE_SHARES)
    counted = json.loads((small_crawl / "corpus.json").read_text())["urls_by_label"]
    assert counted == dict(found)


def test_caption_damage(small_crawl: Path) -> None:
    links = {(row["url"], row["language"]): row for row in rows_of(small_crawl / "links.parquet")}
    damaged = rows_of(small_crawl / "truth_captions.parquet")
    label_of = {entry["url"]: entry["label"] for entry in rows_of(small_crawl / "truth.parquet")}
    found = Counter(entry["label"] for entry in damaged)
    assert found == {label: max(1, round(share * len(links))) for label, share in dirt.CAPTION_SHARES.items()}
    for entry in damaged:
        row = links[entry["url"], entry["language"]]
        assert row["caption"] != entry["caption"]
        assert label_of[entry["url"]] == "clean"  # at most one defect a row
        if entry["label"] == "swapped":
            subject_captions = {captions(subject)[str(row["language"])] for subject in subjects()}
            assert row["caption"] in subject_captions
        if entry["label"] == "empty":
            assert row["caption"] is None or not row["caption"].strip(" \u200b")
    untouched = [row for key, row in links.items() if key not in {(e["url"], e["language"]) for e in damaged}]
    known = {text for subject in subjects() for text in captions(subject).values()}
    assert all(row["caption"] in known for row in untouched)


def test_copies_show_the_same_picture(small_crawl: Path) -> None:
    for label in dirt.COPY_SHARES:
        for entry in labelled(small_crawl, label):
            mine, theirs = body_of(small_crawl, entry["url"]), body_of(small_crawl, entry["copy_of"])
            assert (mine == theirs) == (label == "exact_copy")
            a, b = dirt.flatten(mine), dirt.flatten(theirs)
            if label == "resized_copy":
                assert a.width == round(0.7 * b.width)
                a = a.resize(b.size)
            apart = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()
            assert apart < 6.0  # of 255
    jpeg = body_of(small_crawl, labelled(small_crawl, "jpeg_copy")[0]["url"])
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"


def test_copies_have_the_captions_and_the_split_of_their_picture(small_crawl: Path) -> None:
    rows: dict[str | None, dict[str | None, tuple[str | None, ...]]] = defaultdict(dict)
    for row in rows_of(small_crawl / "links.parquet"):
        rows[row["url"]][row["language"]] = (row["caption"], row["split"], row["category"])
    damaged = {(entry["url"], entry["language"]) for entry in rows_of(small_crawl / "truth_captions.parquet")}
    copies = [entry for entry in rows_of(small_crawl / "truth.parquet") if entry["copy_of"]]
    assert copies
    for entry in copies:
        for language, said in rows[entry["url"]].items():
            original = rows[entry["copy_of"]][language]
            assert said[1:] == original[1:]
            assert said[0] == original[0] or (entry["copy_of"], language) in damaged


def test_cut_files_do_not_decode(small_crawl: Path) -> None:
    (entry,) = labelled(small_crawl, "cut_file")
    cut = route_of(small_crawl, entry["url"])["cut"]
    assert isinstance(cut, int)
    with pytest.raises(OSError, match="truncated"):
        Image.open(io.BytesIO(body_of(small_crawl, entry["url"])[:cut])).load()
    Image.open(io.BytesIO(body_of(small_crawl, entry["url"]))).load()


def test_bomb_is_small_valid_and_huge() -> None:
    data = dirt.bomb_png()
    assert len(data) < 200_000
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    little = dirt.bomb_png(50)  # the same writer at a size that can be looked at
    picture = Image.open(io.BytesIO(little))
    picture.load()
    assert (picture.size, picture.getextrema()) == ((50, 50), (0, 0))


def test_redirects(small_crawl: Path) -> None:
    routes = routes_of(small_crawl)
    (good,) = labelled(small_crawl, "redirect")
    target = str(route_of(small_crawl, good["url"])["location"]).removeprefix("{origin}")
    assert "file" in routes[target]
    (bad,) = labelled(small_crawl, "redirect_forbidden")
    target = str(route_of(small_crawl, bad["url"])["location"])
    assert dirt.FORBIDDEN_HOST in str(routes[target]["location"] if target in routes else target)


def test_families_are_not_split(tmp_path: Path) -> None:
    corpus.build(tmp_path, synthetic=120, limit_languages=1)
    family = {picture.name: picture.family for picture in draw_pictures(120, SEED)}
    name = {entry["url"]: str(entry["picture"]) for entry in rows_of(tmp_path / "truth.parquet")}
    sides = defaultdict(set)
    rows = rows_of(tmp_path / "links.parquet")
    for row in rows:
        sides[family[name[row["url"]]]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert 0.05 < sum(row["split"] == "val" for row in rows) / len(rows) < 0.2


def test_split_stays_when_families_come() -> None:
    few = corpus.split_of({f"family {i}" for i in range(50)})
    many = corpus.split_of({f"family {i}" for i in range(500)})
    assert all(many[family] == side for family, side in few.items())
    assert sorted(corpus.split_of({"a", "b"}).values()) == ["train", "val"]
    assert list(corpus.split_of({"a"}).values()) == ["train"] or unit(SEED, "split", "a") < corpus.VAL_SHARE


def test_limits(tmp_path: Path) -> None:
    counts = corpus.build(tmp_path, synthetic=30, limit_pictures=5, limit_languages=1)
    assert (counts["pictures"], counts["languages"]) == (5, 1)
    assert {row["language"] for row in rows_of(tmp_path / "links.parquet")} == {"en"}
    few = {entry["picture"] for entry in rows_of(tmp_path / "truth.parquet")}
    corpus.build(tmp_path, synthetic=30, limit_pictures=9, limit_languages=1)
    assert few < {entry["picture"] for entry in rows_of(tmp_path / "truth.parquet")}
    with pytest.raises(ValueError, match="at least one"):
        corpus.build(tmp_path, synthetic=30, limit_pictures=0)


def test_drawn_pictures_show_what_their_captions_say() -> None:
    pictures = draw_pictures(60, "some seed")
    assert draw_pictures(20, "some seed") == pictures[:20]
    assert len({picture.data for picture in pictures}) == 60
    has_alpha = set()
    for picture in pictures:
        colour, shape = picture.family.split()
        image = Image.open(io.BytesIO(picture.data))
        has_alpha.add(image.mode == "RGBA")
        pixels = np.asarray(image.convert("RGB"), dtype=float).reshape(-1, 3)
        # some pixels have the named colour (shaded by at most 0.35), a hue that the backgrounds lack or share
        near = np.abs(pixels - np.array(RGB[colour])).max(1).min()
        assert near < 90, (picture.captions["en"], near)
        assert f"{colour} {shape}" in picture.captions["en"]
        assert set(picture.captions) == set(CAPTION_OF)
    assert has_alpha == {True, False}


def test_captions_agree_in_gender_and_tell_all_subjects_apart() -> None:
    said = captions(Subject("blue", "star", "large", "white"))
    assert said == {
        "en": "a large blue star on a white background",
        "de": "ein großer blauer Stern auf weißem Hintergrund",
        "fr": "une grande étoile bleue sur fond blanc",
        "es": "una estrella azul grande sobre fondo blanco",
        "it": "una grande stella blu su sfondo bianco",
        "nl": "een grote blauwe ster op een witte achtergrond",
        "ru": "большая синяя звезда на белом фоне",
        "ja": "白い背景の大きな青い星",
        "zh": "白色背景上的大的蓝色星星",
    }
    assert captions(Subject("orange", "heart", "medium", None))["en"] == "an orange heart"
    assert captions(Subject("orange", "heart", "medium", None))["nl"] == "een oranje hart"
    assert captions(Subject("blue", "ring", "small", "blue"))["ru"] == "маленькое синее кольцо на синем фоне"
    for tag, say in CAPTION_OF.items():
        assert len({say(subject) for subject in subjects()}) == len(subjects()), tag
    assert len({subject.colour for subject in subjects()}) == len(COLOURS)


def test_groups_join_transitively() -> None:
    groups = Groups()
    groups.join("c", "d")
    groups.join("b", "c")
    groups.join("x", "y")
    assert [groups.find(name) for name in "bcdxyz"] == ["b", "b", "b", "x", "x", "z"]


def test_command_line(demo_scripts: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(demo_scripts / "corpus.py"), str(tmp_path), "--synthetic", "3"]
    first = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "27 links" in first.stdout
    again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "already there" in again.stdout
    command += ["--limit-languages", "0"]
    wrong = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 1
    assert wrong.stderr == "error: a corpus needs at least one picture and one language\n"
