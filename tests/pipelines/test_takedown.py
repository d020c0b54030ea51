"""Take-downs: nothing of the picture stays anywhere, everything else does, and no later run brings it back."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curation.schema import MEDIA, SEGMENTS
from curation.table import open_part, read_part, write_part
from pipelines import takedown
from pipelines.store import Store
from pipelines.takedown import copies_of, still_there, take_down
from pipelines.takedowns import Takedowns, parsed
from pipelines.verify import verify_store
from tests.pipelines.av_store import Finished, write_recipe
from tests.stores import HASTE, Served, digests, rows, run, tamis


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished store, and the recipe that made it."""
    shutil.copytree(finished, tmp_path / "store")
    shutil.copy(finished.parent / "full.yaml", tmp_path / "full.yaml")
    return tmp_path


def packed(store: Path) -> dict[str, dict[str, Any]]:
    """media_uid -> row, of all shards of the one version there is."""
    (manifest,) = (store / "versions").glob("*/manifest.json")
    shards = [manifest.parent / each["name"] for each in json.loads(manifest.read_text())["shards"]]
    return {row["media_uid"]: row for path in shards for row in pq.read_table(path).to_pylist()}


def holding(store: Path, *contents: bytes) -> list[Path]:
    """Files in which one of these stands, as it is or as a value of a column."""
    found = []
    for path in store.rglob("*"):
        values = [path.read_bytes()] if path.is_file() else []
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            kinds = (pa.types.is_binary, pa.types.is_fixed_size_binary)
            binary = [field.name for field in table.schema if any(is_one(field.type) for is_one in kinds)]
            values += [value for name in binary for value in table.column(name).to_pylist() if value]
        if any(each in value for each in contents for value in values):
            found.append(path)
    return found


def kept(store: Path) -> list[dict[str, Any]]:
    """Media that a version holds and no other link has, with their bytes, and what a signal made of each."""
    return rows(
        store,
        "select m.url, m.media_uid, m.sha256, m.bytes, p.thumbnail from media m "
        "join perceptual_hash p using (media_uid) where m.media_uid in (select media_uid from decisions where kept) "
        "and m.sha256 in (select sha256 from media group by sha256 having count(*) = 1) order by m.media_uid",
    )


def test_a_picture_leaves_everything_and_the_others_stay(root: Path, served: Served) -> None:
    store, recipe = root / "store", root / "full.yaml"
    tamis("report", store)
    picture, other = kept(store)[:2]
    before, tables = packed(store), digests(store / "tables" / "media")
    assert len(holding(store, picture["bytes"])) == 2
    assert holding(store, picture["thumbnail"])
    done = tamis("takedown", store, picture["url"])
    assert done.returncode == 0, done.stderr
    assert "1 media taken down" in done.stdout
    assert "sealed anew as full-" in done.stdout
    # nothing of it is there, neither in files that a table names nor in others
    assert holding(store, picture["bytes"], picture["thumbnail"]) == []
    assert not (store / "report").exists()
    assert packed(store) == {uid: row for uid, row in before.items() if uid != picture["media_uid"]}
    assert verify_store(Store.open(store), lambda _: None) == []
    (row,) = rows(store, f"select * from media where url = '{picture['url']}'")
    assert (row["status"], row["reason"], row["bytes"], row["sha256"]) == ("refused", "policy.takedown", None, None)
    assert holding(store, other["bytes"])
    # parts of media that never held it are the same files
    same = {name for name, digest in digests(store / "tables" / "media").items() if tables.get(name) == digest}
    assert len(same) == len(tables) - 1

    run(store, recipe, served.links)
    assert holding(store, picture["bytes"], picture["thumbnail"]) == []
    assert verify_store(Store.open(store), lambda _: None) == []
    assert rows(store, "select count(*) as n from media where reason = 'policy.takedown'") == [{"n": 1}]
    ledger = rows(
        store, f"select distinct status, kept, rejected_by[1] as rule from ledger where url = '{picture['url']}'"
    )
    assert ledger == [{"status": "refused", "kept": False, "rule": "downloaded"}]
    assert "policy.takedown" in tamis("why", store, picture["url"]).stdout

    everything = digests(store)
    done = tamis("takedown", store, picture["url"])
    assert "0 media taken down" in done.stdout
    assert digests(store) == everything


def test_another_recipe_does_not_bring_it_back(root: Path, served: Served) -> None:
    store = root / "store"
    picture = kept(store)[0]
    take_down(Store.open(store), [picture["url"]], [])
    changed = yaml.safe_load((root / "full.yaml").read_text())
    changed["download"] = {"fetch": {**HASTE, "max_bytes": 10_000_000}}
    (root / "other.yaml").write_text(yaml.safe_dump(changed))
    run(store, root / "other.yaml", served.links)
    assert holding(store, picture["bytes"]) == []
    (row,) = rows(store, f"select status, reason, http_status from media where url = '{picture['url']}'")
    assert row == {"status": "refused", "reason": "policy.takedown", "http_status": None}


@pytest.mark.parametrize("by", ["sha256", "prefix", "domain"])
def test_by_digest_and_by_place(root: Path, served: Served, by: str) -> None:
    store = root / "store"
    picture = kept(store)[0]
    entry = {"sha256": picture["sha256"], "prefix": f"{served.url}/*", "domain": "127.0.0.1"}[by]
    done = tamis("takedown", store, entry)
    assert done.returncode == 0, done.stderr
    assert holding(store, picture["bytes"], picture["thumbnail"]) == []
    left = rows(store, "select count(*) as n from media where status = 'ok'")[0]["n"]
    assert (left == 0) == (by != "sha256")
    assert list((store / "versions").iterdir()) == [] if left == 0 else packed(store)
    if by == "sha256":  # the bytes come back under their URL, and are not kept
        run(store, root / "full.yaml", served.links)
        assert holding(store, picture["bytes"]) == []


def test_copies_go_with_it(root: Path) -> None:
    store = root / "store"
    group = rows(
        store,
        "select d.duplicate_group, list(m.url order by m.url) as urls, list(m.sha256) as hashes from duplicates d "
        "join media m using (media_uid) where duplicate_group is not null group by all "
        "having count(distinct sha256) > 1 order by all limit 1",
    )[0]
    meant, others = copies_of(Store.open(store), [group["urls"][0]], [])
    assert len(meant) == 1
    assert {*meant.values(), *others.values()} == set(group["hashes"])
    assert tamis("takedown", store, group["urls"][0], "--copies").returncode == 0
    status = rows(store, "select url, status from media where reason = 'policy.takedown'")
    assert {row["url"] for row in status} >= set(group["urls"])


def test_copies_that_stay_are_told(root: Path) -> None:
    store = root / "store"
    twice = "select sha256, min(url) as url, count(*) as n from media where sha256 is not null group by all"
    same = rows(store, f"from ({twice}) where n > 1 order by all limit 1")[0]
    done = tamis("takedown", store, same["url"])
    listed = store / "takedown" / "000001-copies.txt"
    assert "with the same bytes or near-duplicates stay: to take them out, too: tamis" in done.stdout
    assert str(listed) in done.stdout
    assert same["sha256"] in listed.read_text().splitlines()
    left = f"select count(*) as n from media where sha256 = '{same['sha256']}'"
    assert rows(store, left) == [{"n": same["n"] - 1}]
    assert "stay" not in tamis("takedown", store, "--list", listed).stdout
    assert rows(store, left) == [{"n": 0}]
    assert verify_store(Store.open(store), lambda _: None) == []


def test_segments_that_are_copies_go_with_a_film(av_finished: Finished, tmp_path: Path) -> None:
    """Those of another film that the search found, and no more of it; cutting it anew does not bring them back."""
    store = tmp_path / "store"
    shutil.copytree(av_finished.store, store)
    of = "select status, reason, bytes from media where url like '%{}%' order by start_s"
    before = rows(store, of.format("copy.avi"))
    shared = rows(
        store,
        "select distinct other.media_uid, other.bytes from duplicates a join duplicates b using (duplicate_group) "
        "join media mine on mine.media_uid = a.media_uid join media other on other.media_uid = b.media_uid "
        "where mine.url like '%one.mp4' and other.url like '%copy.avi%'",
    )
    assert shared
    url = rows(store, "select url from sources where url like '%one.mp4'")[0]["url"]
    done = tamis("takedown", store, url, "--copies")
    assert done.returncode == 0, done.stderr
    assert holding(store, *(row["bytes"] for row in shared)) == []
    for stricter in ({}, {"samples_per_part": 3}):  # the parts as they are; and all of them cut anew
        recipe_file = write_recipe(tmp_path / "again.yaml", **stricter)
        run(store, recipe_file, *av_finished.sources)
        after = rows(store, of.format("copy.avi"))
        assert len(after) == len(before)
        assert sum(row["reason"] == "policy.takedown" for row in after) == len(shared)
        assert holding(store, *(row["bytes"] for row in shared)) == []
        assert verify_store(Store.open(store), lambda _: None) == []
    assert "0 media taken down" in tamis("takedown", store, url).stdout


def test_a_segment_by_its_digest(av_finished: Finished, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(av_finished.store, store)
    one, other = rows(store, "select sha256, bytes from media where url like '%one.mp4' and status = 'ok' limit 2")
    assert "1 media taken down" in tamis("takedown", store, one["sha256"]).stdout
    assert holding(store, one["bytes"]) == []
    assert holding(store, other["bytes"])
    assert verify_store(Store.open(store), lambda _: None) == []
    assert "0 media taken down" in tamis("takedown", store, one["sha256"]).stdout


@pytest.mark.parametrize("where", ["_in_place", "_derived", "_set_state", "seal_anew", "_record"])
def test_a_take_down_that_was_ended_is_gone_on_with(root: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = root / "store"
    picture = kept(store)[0]

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(takedown, where, ended)
        with pytest.raises(KeyboardInterrupt):
            take_down(Store.open(store), [picture["url"]], [])
    if where == "_in_place":
        assert any("were taken down are there" in line for line in still_there(Store.open(store)))
    done = take_down(Store.open(store), [], [])  # the entry is on disk
    assert picture["media_uid"] in done.media
    assert holding(store, picture["bytes"], picture["thumbnail"]) == []
    assert verify_store(Store.open(store), lambda _: None) == []
    assert list(store.rglob(".tmp-*")) == []


def medium(uid: str, content: bytes, **more: Any) -> dict[str, Any]:
    """A row of media or segments."""
    found: dict[str, Any] = {
        "media_uid": uid,
        "sample_uid": f"of {uid}",
        "role": "primary",
        "modality": "video",
        "status": "ok",
    }
    found |= {"url": f"http://a.example/{uid}", "bytes": content, "sha256": hashlib.sha256(content).hexdigest()}
    return {**dict.fromkeys(SEGMENTS.names), **found, **more}


def test_segments_go_with_their_source_and_with_the_picture_beside_it(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    cue = [{"start_s": 0.0, "end_s": 1.0, "text": "said in it", "language": "en"}]
    sources = [medium("film", b"film 1"), medium("sound", b"sound 2"), medium("cover", b"cover 3", role="picture")]
    cut = [
        medium(
            "film 0", b"cut of film", source_uid="film", frame=b"still of film", subtitles=cue, start_s=0.0, end_s=1.0
        ),
        medium("sound 0", b"cut of sound", source_uid="sound", picture_uid="cover", frame=b"cover again"),
        medium("other 0", b"cut of other", source_uid="other", frame=b"another", subtitles=cue),
    ]
    stats = {"status": {"ok": 3}, "reasons": {}, "segments": 3}
    media = write_part(store.table("media"), 0, "a" * 64, table_of(sources, MEDIA), stats=stats, plain=["bytes"])
    plain = ["bytes", "frame"]
    segments = write_part(store.table("segments"), 0, "b" * 64, table_of(cut, SEGMENTS), stats=stats, plain=plain)
    state = store.state()
    state.tables = {"sources": [store.relative(media.path)], "media": [store.relative(segments.path)]}
    store.save_state(state)

    done = take_down(store, ["http://a.example/film"], [hashlib.sha256(b"cover 3").hexdigest()])
    assert set(done.media) == {"film", "cover", "film 0", "sound 0"}
    assert (
        holding(store.root, b"film 1", b"cut of film", b"still of film", b"cover 3", b"cut of sound", b"cover again")
        == []
    )
    left = read_part(segments.path)
    assert left.schema.equals(SEGMENTS, check_metadata=False)
    rows_left = left.to_pylist()
    assert rows_left[2] == cut[2]
    assert [row["subtitles"] for row in rows_left] == [None, None, cue]
    assert [(row["reason"], row["source_uid"]) for row in rows_left[:2]] == [
        ("policy.takedown", "film"),
        ("policy.takedown", "sound"),
    ]
    (newest,) = store.files(store.state(), "media")  # the sources: the next run cuts what is left
    assert newest != media.path
    assert [row["status"] for row in read_part(newest).to_pylist()] == ["refused", "ok", "refused"]
    assert open_part(newest).stats["status"] == {"refused": 2, "ok": 1}
    assert open_part(media.path).identity == media.identity != open_part(newest).identity


def table_of(rows_: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows_], schema=schema)


@pytest.mark.parametrize(
    ("word", "entry"),
    [
        ("HTTP://Example.COM:80/a b", ("http://example.com/a%20b", None)),
        ("https://example.com/x/*", ("https://example.com/x/*", None)),
        ("*.Example.com", ("example.com", None)),
        ("bücher.example", ("xn--bcher-kva.example", None)),
        ("AB" * 32, (None, "ab" * 32)),
    ],
)
def test_words(word: str, entry: tuple[str | None, str | None]) -> None:
    assert parsed(word) == entry


@pytest.mark.parametrize("word", ["", "not a domain/", "ftp://x/y", "ab" * 31])
def test_words_that_mean_nothing_change_nothing(root: Path, word: str) -> None:
    before = digests(root / "store")
    done = tamis("takedown", root / "store", word)
    assert done.returncode == 2, done.stdout
    assert repr(word) in done.stderr
    assert digests(root / "store") == before


def test_entries_are_read_back(tmp_path: Path) -> None:
    made = Takedowns.of(tmp_path).saved_with(tmp_path, ["http://a.example/x", "b.example"], ["ab" * 32])
    assert Takedowns.of(tmp_path) == made
    assert made.entry_for_link("http://www.b.example/1") == "b.example"
    assert made.entry_for_link("HTTP://a.example:80/x#y") == "http://a.example/x"
    assert made.entry_for_link("http://a.example/xy") is None
    assert not Takedowns.of(tmp_path / "nowhere")
