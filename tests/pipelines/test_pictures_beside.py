"""Sounds with the picture that goes with each: one row of image, audio and text, from links to the packed version."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines.recipe import load_recipe
from pipelines.report import write_report
from pipelines.store import Store
from pipelines.why import story
from pipelines.yaml_place import RecipeError
from tests.curation.av import media
from tests.pipelines import loopback
from tests.pipelines.test_report import Page
from tests.stores import links_file, parts_run, recipe, rows, run

POLICY = [
    {"rule": "some_text", "keep": "text is not null"},
    {"rule": "picture_is_there", "keep": "picture_uid is not null"},
]
BARK = "<b>a dog</b> barks"


def png(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.linear_gradient("L").point(lambda value: (value + shade) % 256).convert("RGB").save(sink, "PNG")
    return sink.getvalue()


@dataclass(frozen=True)
class Finished:
    """A store, its recipe and links, and where they were served."""

    store: Path
    recipe: Path
    links: Path
    url: str
    said: list[str]

    def packed(self) -> dict[str, dict[str, Any]]:
        """Last part of the URL -> row of the version."""
        folder = Store.open(self.store).version_path()
        found: dict[str, dict[str, Any]] = {}
        for shard in folder.glob("*.parquet"):
            if "audio" in pq.read_schema(shard).names:
                found |= {row["url"].rpartition("/")[2]: row for row in pq.read_table(shard).to_pylist()}
        return found


def write_recipe(path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "name": "spoken",
        "samples_per_part": 3,
        "source": {"modality": "audio", "columns": {"url": "url", "text": "caption", "picture": "image_url"}},
        "download": {"fetch": {"retries": 0}},
        "segment": {"by": "whole", "shots": {"min_s": 0.2}, "container": "matroska"},
        "signals": [{"use": "curation.signals.picture_statistics.PictureStatistics"},
                    {"use": "curation.signals.audio_levels.AudioLevels"}],
        "duplicates": {"exact": ["sha256"], "perceptual": False},
        "pack": {"samples_per_shard": 1},
    }  # fmt: skip
    return recipe(path, POLICY, **{**content, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Five sounds: two that share a picture, one whose picture is gone, one without, and one that is gone itself."""
    root = tmp_path_factory.mktemp("beside")
    served = {"/dog.png": png(10), "/cat.png": png(90)}
    served |= {
        f"/{name}.ogg": media.small("ogg", 1.0, seed) for seed, name in enumerate(("bark", "dog", "meow", "wind"))
    }
    with loopback.Server() as server:
        for path, body in served.items():
            server.routes[path] = lambda request, body=body: request.reply(body)
        said = [("bark", BARK), ("dog", "a dog"), ("meow", "a cat"), ("wind", "the wind"), ("gone", "nothing")]
        pictures = ["/dog.png", "/dog.png", "/none.png", None, "/cat.png"]
        links = links_file(
            root / "links.parquet",
            [(server.url(f"/{name}.ogg"), text) for name, text in said],
            image_url=[None if path is None else server.url(path) for path in pictures],
        )
        file = write_recipe(root / "r.yaml")
        yield Finished(root / "store", file, links, server.url(""), run(root / "store", file, links))


def test_every_sound_has_a_row_and_its_picture_is_no_source(finished: Finished) -> None:
    assert any("nothing lost, nothing doubled" in line for line in finished.said)
    sources = rows(finished.store, "select role, status, count(*) as n from sources group by all order by all")
    assert [tuple(row.values()) for row in sources] == [
        ("picture", "failed", 1), ("picture", "ok", 3), ("primary", "failed", 1), ("primary", "ok", 4),
    ]  # fmt: skip
    cut = rows(
        finished.store,
        "select regexp_extract(url, '([a-z]+)\\.ogg', 1) as name, status, reason, picture_uid is not null as shown, "
        "luminance_entropy_bits is not null as seen, kept from candidates join decided using (text_uid) order by name",
    )
    assert [tuple(row.values()) for row in cut] == [
        ("bark", "ok", None, True, True, True),
        ("dog", "ok", None, True, True, True),
        ("gone", "failed", "http.4xx_gone", False, False, False),
        ("meow", "ok", None, False, False, False),
        ("wind", "ok", None, False, False, False),
    ]


def test_the_version_has_image_audio_and_text_in_a_row(finished: Finished) -> None:
    packed = finished.packed()
    assert packed.keys() == {"bark.ogg", "dog.ogg"}
    assert packed["bark.ogg"]["image"] == packed["dog.ogg"]["image"]
    assert Image.open(io.BytesIO(packed["bark.ogg"]["image"])).size == (256, 256)
    assert packed["bark.ogg"]["audio"][:4] == b"OggS"
    assert packed["bark.ogg"]["audio"] != packed["dog.ogg"]["audio"]
    assert packed["bark.ogg"]["video"] is None
    assert [text["text"] for text in packed["bark.ogg"]["texts"]] == [BARK]


def test_again_reuses_everything(finished: Finished) -> None:
    before = finished.packed()
    said = run(finished.store, finished.recipe, finished.links)  # its server is still there, and is not asked
    assert finished.packed() == before
    assert not any("download of part" in line for line in said)


def test_a_new_caption_of_a_known_sound_fetches_nothing_and_doubles_nothing(finished: Finished, tmp_path: Path) -> None:
    shutil.copytree(finished.store, tmp_path / "store")
    more = links_file(
        tmp_path / "more.parquet", [(finished.url + "/dog.ogg", "it barks")], image_url=[finished.url + "/cat.png"]
    )
    run(tmp_path / "store", finished.recipe, finished.links, more)
    assert rows(tmp_path / "store", "select count(*) as n from sources") == [{"n": 9}]
    said = rows(tmp_path / "store", "select text, kept from ledger where url like '%dog.ogg' order by text")
    assert said == [{"text": "a dog", "kept": True}, {"text": "it barks", "kept": True}]
    assert parts_run(tmp_path / "store")["download"] == 0


def test_why_tells_of_the_picture(finished: Finished) -> None:
    told = story(Store.open(finished.store), finished.url + "/meow.ogg")
    assert "picture beside it: url " in told
    assert "reason http.4xx_gone" in told


def test_the_report_shows_picture_and_sound(finished: Finished, tmp_path: Path) -> None:
    html = write_report(Store.open(finished.store), tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    pictures = [each["alt"] for each in page.named("img")]
    assert pictures.count("waveform and spectrogram") == 4  # two kept, two that lack a picture
    assert pictures.count("") == 2
    assert BARK in page.text
    assert page.named("b") == []
    assert "luminance_entropy_bits" in page.text
    assert "uid = no value" in page.text


def test_a_column_of_pictures_needs_sounds(tmp_path: Path) -> None:
    video = {"modality": "video", "columns": {"url": "url", "text": "caption", "picture": "image_url"}}
    with pytest.raises(RecipeError, match="picture beside each medium is for sounds"):
        load_recipe(write_recipe(tmp_path / "r.yaml", source=video))
