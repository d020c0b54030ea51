"""Dedupe: groups are what is equal or near, named after the smallest member; found again only when hashes change."""

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pipelines.near_pairs
from pipelines.store import Store
from pipelines.why import story
from tests.curation.signal_rows import drawing
from tests.curation.test_near_duplicates import copy, plain_letter
from tests.pipelines.loopback import Server
from tests.stores import LOOSE, SIGNALS, Served, digests, last_run, links_file, recipe, rows, run

PERCEPTUAL = [{"use": f"curation.signals.{name}"} for name in [*SIGNALS, "perceptual_hash.PerceptualHash"]]


def test_copies_of_the_crawl_are_found_and_nothing_else(finished: Path, served: Served) -> None:
    import pyarrow.parquet as pq

    truth = {row["url"]: row for row in pq.read_table(served.links.parent / "truth.parquet").to_pylist()}
    found = rows(finished, "select duplicate_group, m.url, m.media_uid from duplicates join media m using (media_uid)")
    groups: dict[str, list[str]] = {}
    for row in found:
        if row["duplicate_group"] is not None:
            groups.setdefault(row["duplicate_group"], []).append(row["url"])
    names = {row["media_uid"] for row in found}
    for group, urls in groups.items():
        assert group in names
        assert group == min(row["media_uid"] for row in found if row["duplicate_group"] == group)
        assert len(urls) > 1
        assert len({truth[url]["picture"] for url in urls}) == 1  # of one picture
    copies = [url for url, row in truth.items() if row["copy_of"] is not None]
    assert copies
    for url in copies:
        (members,) = [urls for urls in groups.values() if url in urls]
        assert truth[url]["copy_of"] in members


def test_every_group_is_joined_by_pairs_that_say_how(finished: Path) -> None:
    edges = rows(finished, "select * from duplicate_edges")
    assert edges
    assert {edge["kind"] for edge in edges} >= {"sha256", "pixel_hash"}
    assert all((edge["distance"] == 0) or edge["kind"].startswith("picture") for edge in edges)
    alone = rows(
        finished,
        "select media_uid from duplicates where duplicate_group is not null and media_uid not in "
        "(select media_uid from duplicate_edges union select other_uid from duplicate_edges)",
    )
    assert alone == []
    only_ok = rows(finished, "select count(*) as n from duplicates join media using (media_uid) where status <> 'ok'")
    assert only_ok == [{"n": 0}]


def made(store: Path) -> tuple[int, int]:
    stages = {stage["stage"]: stage["parts_run"] for stage in last_run(store)["stages"]}
    return stages["dedupe"], stages["select"]


def test_groups_are_found_again_only_when_needed(tmp_path: Path, served: Served) -> None:
    links = links_file(tmp_path / "l.parquet", [(url, f"picture {i}") for i, url in enumerate(served.pictures[:6])])
    store = tmp_path / "store"
    near = {"exact": ["sha256"], "perceptual": True, "radius": 4}
    run(store, recipe(tmp_path / "r.yaml", signals=PERCEPTUAL, duplicates=near), links)
    first, pairs = digests(store / "tables" / "duplicates"), digests(store / "tables" / "near_pairs")
    run(
        store,
        recipe(
            tmp_path / "r.yaml", [*LOOSE, {"rule": "x", "keep": "width_px > 1"}], signals=PERCEPTUAL, duplicates=near
        ),
        links,
    )
    assert made(store) == (0, 1)
    captioned = links_file(tmp_path / "2.parquet", [(served.pictures[0], "a new caption")])
    run(store, recipe(tmp_path / "r.yaml", signals=PERCEPTUAL, duplicates=near), links, captioned)
    # captions may join pictures, but nothing is compared again
    assert made(store) == (1, 1)
    assert digests(store / "tables" / "near_pairs") == pairs
    assert digests(store / "tables" / "duplicates").items() >= first.items()
    run(store, recipe(tmp_path / "r.yaml", signals=PERCEPTUAL, duplicates={**near, "radius": 5}), links, captioned)
    assert made(store)[0] == 1


def test_a_pool_without_one_picture(tmp_path: Path, served: Served) -> None:
    links = links_file(tmp_path / "l.parquet", [(f"{served.url}/nowhere", "a"), (None, "b")])
    store = tmp_path / "store"
    said = run(store, recipe(tmp_path / "r.yaml", signals=PERCEPTUAL, duplicates={"perceptual": True}), links)
    assert any("keeps nothing" in line for line in said)
    assert rows(store, "select status, reason, kept, rejected_by from ledger order by text") == [
        {"status": "failed", "reason": "http.4xx_gone", "kept": False, "rejected_by": ["downloaded"]},
        {"status": "refused", "reason": "in.missing_url", "kept": False, "rejected_by": ["downloaded"]},
    ]


def encoded(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def gallery() -> Iterator[Callable[..., list[tuple[str, str]]]]:
    """Serves pictures; called with names of some, gives their links with captions.

    left and right are two cuts of one picture that do not match each other, whole is that picture, which matches both;
    b and d are each other's mirror image.
    """
    whole, letter = drawing(12, 240, 200), plain_letter("b")
    pictures = {
        "left": whole[:192, :230],
        "left_again": copy(whole[:192, :230], "jpeg60", 0),
        "right": whole[8:, 10:],
        "whole": whole,
        "b": letter,
        "b_small": copy(letter, "resize70", 0),
        "b_mirror": letter[:, ::-1],
        "d": np.roll(letter[:, ::-1], 1, axis=1),
        "other": drawing(13),
    }
    captions = {name: f"The letter {name[0]}." if name[0] in "bd" else name for name in pictures}
    captions["b_small"] = " the LETTER “b”"
    with Server() as server:
        for name, picture in pictures.items():
            body = encoded(picture)
            server.routes[f"/{name}.png"] = lambda request, body=body: request.reply(body)  # type: ignore[misc]
        yield lambda *names: [(server.url(f"/{name}.png"), captions[name]) for name in names or pictures]


NEAR = {"exact": ["sha256", "pixel_hash"], "perceptual": True}
FOUND = "select media_uid, other_uid, kind, distance from duplicate_edges order by all"
GROUPS = "select media_uid, duplicate_group from duplicates order by all"


def names(store: Path) -> list[set[str]]:
    """The groups, by the names of their pictures."""
    found = rows(store, "select duplicate_group, url from duplicates join media using (media_uid) order by url")
    groups: dict[str, set[str]] = {}
    for row in found:
        if row["duplicate_group"] is not None:
            groups.setdefault(row["duplicate_group"], set()).add(Path(row["url"]).stem)
    return sorted(groups.values(), key=min)


def test_a_pool_that_grows_ends_with_what_one_go_finds(
    tmp_path: Path, gallery: Callable[..., list[tuple[str, str]]]
) -> None:
    settings = recipe(tmp_path / "r.yaml", signals=PERCEPTUAL, duplicates=NEAR, samples_per_part=2)
    first = links_file(tmp_path / "1.parquet", gallery("left", "left_again", "right", "b", "d", "other"))
    second = links_file(tmp_path / "2.parquet", gallery("whole", "b_small", "b_mirror"))
    grown, once = tmp_path / "grown", tmp_path / "once"
    run(grown, settings, first)
    assert names(grown) == [{"left", "left_again"}]
    before = digests(grown / "tables" / "near_pairs")
    scored = digests(grown / "tables" / "signal_perceptual_hash")
    run(grown, settings, first, second)
    assert digests(grown / "tables" / "near_pairs").items() > before.items()
    assert digests(grown / "tables" / "signal_perceptual_hash").items() > scored.items()
    stages = {stage["stage"]: stage["counts"] for stage in last_run(grown)["stages"]}
    assert (stages["dedupe"]["near_parts_old"], stages["dedupe"]["near_parts_new"]) == (3, 2)
    run(once, settings, first, second)
    assert names(grown) == [{"b", "b_mirror", "b_small"}, {"left", "left_again", "right", "whole"}]
    for query in (FOUND, GROUPS):
        assert rows(grown, query) == rows(once, query)
    said = story(Store.open(grown), gallery("whole")[0][0])
    assert re.search(r"  near-duplicate of http://\S+/left.png at distance \d+, by picture \(crop\)\n", said)


@pytest.mark.parametrize("max_equal", [256, 0])
def test_a_caption_is_a_witness(
    tmp_path: Path,
    gallery: Callable[..., list[tuple[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    max_equal: int,
) -> None:
    """A drawing of few colours and its mirror image are copies where somebody says the same of both; in crowds too."""
    monkeypatch.setattr(pipelines.near_pairs, "MAX_EQUAL", max_equal)
    settings = recipe(tmp_path / "r.yaml", signals=PERCEPTUAL, duplicates=NEAR)
    links = gallery("b", "d", "b_mirror")
    store = tmp_path / "store"
    run(store, settings, links_file(tmp_path / "1.parquet", links))
    assert names(store) == [{"b", "b_mirror"}]
    more = links_file(tmp_path / "2.parquet", [(links[1][0], "the letter b")])
    run(store, settings, links_file(tmp_path / "1.parquet", links), more)
    assert names(store) == [{"b", "b_mirror", "d"}]
    kinds = {row["kind"] for row in rows(store, FOUND)}
    assert kinds & {"picture (mirror)", "picture (crowd, caption)"} == (
        {"picture (mirror)"} if max_equal else {"picture (crowd, caption)"}
    )
    how = r", by picture \(crowd, caption\)" if max_equal == 0 else r" at distance 0, by picture \(mirror\)"
    assert re.search(rf"  near-duplicate of http://\S+/[bd]\S*.png{how}\n", story(Store.open(store), links[0][0]))


def test_boilerplate_is_no_witness(tmp_path: Path, gallery: Callable[..., list[tuple[str, str]]]) -> None:
    signals = [*PERCEPTUAL, {"use": "curation.signals.boilerplate.Boilerplate"}]
    settings = recipe(tmp_path / "r.yaml", signals=signals, duplicates=NEAR)
    links = [(url, "IMG_1234.jpg") for url, _ in gallery("b", "b_mirror")]
    run(tmp_path / "store", settings, links_file(tmp_path / "1.parquet", links))
    assert names(tmp_path / "store") == []
