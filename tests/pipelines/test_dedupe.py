"""Dedupe: groups are what is equal or near, named after the smallest member; found again only when hashes change."""

from pathlib import Path

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
