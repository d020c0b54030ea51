"""Why: one sample's story, by any of its names, with the reasons that the ledger only names."""

import json
from pathlib import Path

import pytest

from pipelines.sources import SourceError
from pipelines.store import Store
from pipelines.why import story
from tests.stores import Served, links_file, recipe, rows, run


def test_every_name_of_a_sample_tells_the_same_story(finished: Path) -> None:
    store = Store.open(finished)
    (row,) = rows(finished, "select l.*, m.media_uid from ledger l join media m using (sample_uid) where kept limit 1")
    told = story(store, row["sample_uid"])
    for name in (row["url"], row["media_uid"], row["url"].replace("http://", "HTTP://") + "#part"):
        assert story(store, name) == told
    assert story(store, row["text_uid"]).splitlines()[0] == told.splitlines()[0] == f"sample {row['sample_uid']}"
    for each in (
        "link and fetch",
        "status: ok",
        "signal probe",
        "signal perceptual_hash",
        "decision: kept",
        "num_words:",
    ):
        assert each in told
    (version,) = rows(finished, "select version from versions")
    assert f"versions that hold it: {version['version']}" in told


def test_every_rejection_tells_what_the_rule_saw(finished: Path) -> None:
    store = Store.open(finished)
    for row in rows(finished, "select * from decisions where not kept order by text_uid limit 12"):
        told = story(store, row["text_uid"])
        for rule, saw in zip(row["rejected_by"], row["saw"], strict=True):
            values = json.loads(saw)
            line = next(line for line in told.splitlines() if f"rejected by {rule}:" in line)
            assert all(f"{name} = " in line for name in values)
        if row["duplicate_of"] is not None:
            assert f"duplicate of sample {row['duplicate_of']}" in told


def test_duplicates_and_draws(finished: Path) -> None:
    store = Store.open(finished)
    (row,) = rows(finished, "select * from ledger where duplicate_of is not null order by text_uid limit 1")
    told = story(store, row["text_uid"])
    assert f"group {row['duplicate_group']}" in told
    assert "  the same sha256 as http" in told or "  near-duplicate of http" in told
    (row,) = rows(finished, "select * from ledger where keep_probability between 0.01 and 0.99 limit 1")
    assert f"keep probability {row['keep_probability']:.4f}, draw " in story(store, row["text_uid"])


def test_a_link_that_failed(finished: Path) -> None:
    (row,) = rows(finished, "select url, reason from media where reason like 'http.%' limit 1")
    told = story(Store.open(finished), row["url"])
    assert f"reason: {row['reason']}" in told
    assert "rejected by downloaded: status = failed" in told


@pytest.mark.parametrize("what", ["", "nonesuch", "http://nowhere.example/", "' or 1=1 --", "0" * 32])
def test_what_is_not_there(finished: Path, what: str) -> None:
    with pytest.raises(SourceError, match="the pool has no sample"):
        story(Store.open(finished), what)


def test_hostile_texts_do_not_steer_the_terminal(tmp_path: Path, served: Served) -> None:
    texts = ["\x1b[2Jgone", "a\nrejected by nobody", "\u202egnp.exe", "x" * 5000]
    links = links_file(
        tmp_path / "l.parquet", [(served.pictures[0], text) for text in texts] + [("http://[bad", "bad")]
    )
    run(tmp_path / "store", recipe(tmp_path / "r.yaml"), links)
    store = Store.open(tmp_path / "store")
    told = story(store, served.pictures[0])
    assert all(ch.isprintable() for line in told.split("\n") for ch in line)
    assert max(map(len, told.split("\n"))) < 400
    assert "rejected by nobody" not in [line.strip() for line in told.split("\n")]
    assert "reason: url.unparsable" in story(store, "http://[bad")
    (row,) = rows(tmp_path / "store", "select sample_uid from media where url = 'http://[bad'")
    assert story(store, row["sample_uid"]) == story(store, "http://[bad")


def test_a_story_in_the_middle_of_a_run(tmp_path: Path, served: Served) -> None:
    from flows.main_job import load, running, steps
    from tests.stores import options

    store, small = tmp_path / "store", recipe(tmp_path / "r.yaml")
    first = links_file(tmp_path / "1.parquet", [(served.pictures[0], "one")])
    second = links_file(tmp_path / "2.parquet", [(served.pictures[1], "two")])
    run(store, small, first)
    asked = options(store, small, [first, second])
    load(asked)
    with running(asked, lambda _: None) as opened:
        for step, expected in zip(
            steps(opened, "serial"), ("not downloaded yet", "not computed yet", "decision", None), strict=False
        ):
            step.work()
            if expected == "decision":
                break
            if expected is not None:
                assert expected in story(Store.open(store), served.pictures[1])
    assert "signal probe" in story(Store.open(store), served.pictures[1])
