"""Evaluation sets in a store: registered once, found in every guise, told by version, ledger, audit and `why`."""

import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curation.table import read_part
from flows.main_job import load
from pipelines import database
from pipelines.evaluation_sets import open_set
from pipelines.plan import plan
from pipelines.run import audit_store
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.verify import verify_store
from pipelines.views import open_store
from pipelines.why import story
from pipelines.workers import SerialWorkers
from tests.curation.signal_rows import TinyScorer
from tests.stores import LOOSE, SIGNALS, Served, last_run, links_file, options, recipe, rows, run, tamis

MODEL = {"model": "m", "scorer": f"{TinyScorer.__module__}.{TinyScorer.__qualname__}"}
HASHED = [{"use": f"curation.signals.{name}"} for name in [*SIGNALS, "perceptual_hash.PerceptualHash"]]
EMBEDDED = [*HASHED, {"use": "curation.signals.image_embedding.ImageEmbedding", **MODEL}]
CLEAN = [*LOOSE, {"decontaminate": "benchmarks", "against": ["bench"]}]
CAPTION = "two brown dogs run along the beach in the morning sun"


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    """A store of all pictures without a defect, with a folder `bench` of two of them in other guises beside it."""
    root = tmp_path_factory.mktemp("crawled")
    texts = [f"{CAPTION}!" if k == 5 else "a dog" if k == 6 else f"picture {k}" for k in range(len(served.pictures))]
    links_file(root / "l.parquet", list(zip(served.pictures, texts, strict=True)))
    run(root / "store", recipe(root / "plain.yaml", signals=HASHED), root / "l.parquet")
    media = rows(root / "store", "select url, bytes from media where status = 'ok' order by url")
    (root / "bench" / "deep").mkdir(parents=True)
    (root / "bench" / "same.png").write_bytes(media[0]["bytes"])
    jpeg = io.BytesIO()
    picture = Image.open(io.BytesIO(media[1]["bytes"])).convert("RGB")
    picture.resize((picture.width * 9 // 10, picture.height * 9 // 10)).save(jpeg, "JPEG", quality=70)
    (root / "bench" / "deep" / "again.JPG").write_bytes(jpeg.getvalue())
    (root / "bench" / "broken.png").write_bytes(media[0]["bytes"][:60])
    (root / "bench" / "notes.md").write_text("no picture")
    (root / "texts.txt").write_text(f"{CAPTION}\n\nA dog\n{CAPTION.upper()}\n")
    return root


def bench(root: Path, store: Path, *more: str) -> Any:
    images, texts = ("--images", root / "bench"), ("--texts", root / "texts.txt")
    return tamis("evalset", "add", store, "bench", *images, *texts, *more)


def copied(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "store", tmp_path / "store")
    return tmp_path / "store"


def test_what_a_set_holds(crawled: Path, tmp_path: Path) -> None:
    done = bench(crawled, tmp_path / "store")
    assert done.returncode == 0, done.stderr
    assert "evaluation set bench: 2 pictures, 2 texts, digest" in done.stdout
    assert "could not be read, so nothing is checked against them: 1 img." in done.stdout
    one = open_set(Store.open(tmp_path / "store"), "bench")
    assert one.pictures().column("item").to_pylist() == ["deep/again.JPG", "same.png"]
    assert one.texts().select(["item", "text"]).to_pylist() == [
        {"item": "texts.txt:3", "text": "A dog"},
        {"item": "texts.txt:1", "text": CAPTION},
    ]
    assert list(one.manifest["failed_items"]) == ["broken.png"]
    assert not any(pa.types.is_binary(f.type) and f.name == "bytes" for f in one.pictures().schema)
    assert bench(crawled, tmp_path / "store").returncode == 0  # the same again
    other = tamis("evalset", "add", tmp_path / "store", "bench", "--texts", crawled / "texts.txt")
    assert other.returncode == 2
    assert "is registered with other content" in other.stderr
    replaced = tamis("evalset", "add", tmp_path / "store", "bench", "--texts", crawled / "texts.txt", "--replace")
    assert replaced.returncode == 0
    assert open_set(Store.open(tmp_path / "store"), "bench").manifest["num_pictures"] == 0
    listed = tamis("evalset", "list", tmp_path / "store")
    assert "bench" in listed.stdout
    assert open_set(Store.open(tmp_path / "store"), "bench").digest[:12] in listed.stdout


def test_what_falls_and_who_says_so(crawled: Path, tmp_path: Path) -> None:
    store, links = copied(crawled, tmp_path), crawled / "l.parquet"
    assert bench(crawled, store).returncode == 0
    run(store, recipe(tmp_path / "r.yaml", CLEAN, signals=HASHED), links)
    media = rows(store, "select url, media_uid from media where status = 'ok' order by url")
    fell = rows(store, "select * from decisions where evaluation_set is not null order by evaluation_match, text_uid")
    by_kind = {row["evaluation_match"]: row for row in fell}
    assert set(by_kind) == {"sha256", "text", "picture (same)"}
    assert by_kind["sha256"]["media_uid"] == media[0]["media_uid"]
    assert by_kind["sha256"]["evaluation_item"] == "same.png"
    assert by_kind["picture (same)"]["media_uid"] == media[1]["media_uid"]
    assert by_kind["picture (same)"]["evaluation_item"] == "deep/again.JPG"
    assert by_kind["picture (same)"]["evaluation_distance"] <= 8
    assert by_kind["text"]["evaluation_item"] == CAPTION
    assert by_kind["text"]["evaluation_similarity"] == 1.0
    assert all(row["rejected_by"] == ["benchmarks"] for row in fell)  # "a dog" is too short to tell
    saw = json.loads(by_kind["sha256"]["saw"][0])
    assert (saw["evaluation_set"], saw["evaluation_item"], saw["evaluation_distance"]) == ("bench", "same.png", 0)
    told = story(Store.open(store), by_kind["picture (same)"]["text_uid"])
    assert "in evaluation set bench by picture (same) at distance " in told
    assert "similarity 1.000" in story(Store.open(store), by_kind["text"]["text_uid"])
    assert audit_store(open_store(Store.open(store))) == []
    ledger = rows(store, "select evaluation_set, evaluation_item from ledger where evaluation_set is not null")
    assert len(ledger) == len(fell)
    report = rows(store, database.query("report/decontamination"))
    assert sum(row["texts"] for row in report) == len(fell)

    folder = Store.open(store).version_path()
    manifest = json.loads((folder / "manifest.json").read_text())
    found = manifest["decontamination"]
    assert found["status"] == "incomplete"  # one picture of the set could not be read
    (rule,) = found["rules"]
    (against,) = rule["against"]
    assert (against["name"], against["num_pictures"], against["num_failed"]) == ("bench", 2, 1)
    assert against["digest"] == open_set(Store.open(store), "bench").digest
    assert (rule["radius"], rule["jaccard"], rule["similarity"]) == (8, 0.8, None)
    assert found["removed"] == {"bench": {"texts": len(fell), "samples": len({r["sample_uid"] for r in fell})}}
    removed = read_part(folder / found["file"])
    assert sorted(removed.column("text_uid").to_pylist()) == sorted(row["text_uid"] for row in fell)
    held = {row["text_uid"] for row in rows(store, "select text_uid from members")}
    assert verify_store(Store.open(store), lambda _: None) == []
    assert not held & {row["text_uid"] for row in fell} or len(Store.open(store).state().versions) > 1
    (folder / found["file"]).write_bytes(b"x")
    one = open_set(Store.open(store), "bench")
    (one.folder / one.manifest["texts"]).write_bytes(b"x")
    problems = verify_store(Store.open(store), lambda _: None)
    assert any("removed texts" in line for line in problems)
    assert any("evaluation_sets/bench" in line for line in problems)


def test_only_what_changed_is_compared_again(crawled: Path, tmp_path: Path, served: Served) -> None:
    store, links = copied(crawled, tmp_path), crawled / "l.parquet"
    assert bench(crawled, store).returncode == 0
    clean = recipe(tmp_path / "r.yaml", CLEAN, signals=HASHED)
    run(store, clean, links)

    def dedupe_parts() -> tuple[int, int]:
        (stage,) = [s for s in last_run(store)["stages"] if s["stage"] == "dedupe"]
        return stage["parts_run"], stage["parts_reused"]

    parts = len(Store.open(store).pool())
    assert dedupe_parts() == (parts, 1)  # equal media were looked for before
    run(store, clean, links)
    assert dedupe_parts() == (0, parts + 1)
    opened, loaded = Store.open(store), load(options(store, clean, [links]))
    lines = {line.step: line for line in plan(Run(loaded, opened, SerialWorkers(), opened.state()))}
    assert lines["dedupe"].to_run == "0 parts"
    more = links_file(tmp_path / "2.parquet", [(f"{served.url}/nowhere", "a new link")])
    run(store, clean, links, more)
    assert dedupe_parts()[0] <= 2
    assert bench(crawled, store, "--text-column", "x", "--replace").returncode == 0  # nothing changed
    run(store, clean, links, more)
    assert dedupe_parts()[0] == 0
    run(store, recipe(tmp_path / "r.yaml", LOOSE, signals=HASHED), links, more)
    assert rows(store, "select * from evaluation_matches") == []
    manifest = json.loads((Store.open(store).version_path() / "manifest.json").read_text())
    assert manifest["decontamination"] == {"status": "missing", "rules": [], "removed": {}}


def test_a_set_of_links_and_embeddings(crawled: Path, tmp_path: Path, served: Served) -> None:
    store = copied(crawled, tmp_path)
    links = links_file(tmp_path / "set.parquet", [(served.pictures[3], CAPTION), (f"{served.url}/nowhere", "x y")])
    embedded = recipe(tmp_path / "e.yaml", CLEAN, signals=EMBEDDED)
    done = tamis(
        "evalset", "add", store, "bench", "--links", links, "--columns", "url=url,text=caption",
        "--recipe", embedded, "--allow-net", "127.0.0.0/8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1 pictures, 2 texts" in done.stdout
    assert "1 http.4xx_gone" in done.stdout
    one = open_set(Store.open(store), "bench")
    assert one.pictures().column("item").to_pylist() == [served.pictures[3]]
    assert "clip_image_embedding" in one.manifest["signals"]
    exact = {"radius": None, "jaccard": None, "similarity": 0.99999}
    policy = [*LOOSE, {"decontaminate": "benchmarks", "against": ["bench"], **exact}]
    run(store, recipe(tmp_path / "r.yaml", policy, signals=EMBEDDED), crawled / "l.parquet")
    matches = rows(store, "select m.*, media.url from evaluation_matches m join media on media.media_uid = m.uid")
    assert {"sha256", "embedding"} <= {match["kind"] for match in matches}
    assert any(match["kind"] == "embedding" and match["url"] == served.pictures[3] for match in matches)
    assert all(match["similarity"] >= 0.99999 for match in matches if match["kind"] == "embedding")
    assert audit_store(open_store(Store.open(store))) == []


def test_a_policy_that_comes_after_the_run_is_compared_too(crawled: Path, tmp_path: Path) -> None:
    """`tamis select` with a rule that no run asked for: what it says of evaluation sets has to be true."""
    store = copied(crawled, tmp_path)
    assert bench(crawled, store).returncode == 0

    def select(name: str, *items: dict[str, Any]) -> Any:
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"policy": [*LOOSE, *items]}))
        named = ("--policy", tmp_path / f"{name}.yaml", "--name", name)
        return tamis("select", crawled / "plain.yaml", "--store", store, *named)

    def said_of_sets() -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Store.open(store).version_path() / "manifest.json").read_text())
        return dict(found["decontamination"])

    done = select("clean", CLEAN[-1])
    assert done.returncode == 0, done.stderr
    fell = rows(store, "select text_uid, evaluation_match from decisions where evaluation_set is not null")
    assert {row["evaluation_match"] for row in fell} == {"sha256", "text", "picture (same)"}
    assert said_of_sets()["status"] == "incomplete"
    assert said_of_sets()["removed"]["bench"]["texts"] == len(fell)
    matches = rows(store, "select * from evaluation_matches order by all")

    sweep = ("sweep", store, tmp_path / "clean.yaml", "--set", "some_text.keep=true,false")
    assert tamis(*sweep).returncode == 0
    swept = tamis("sweep", store, tmp_path / "clean.yaml", "--set", "benchmarks.radius=1,2")
    assert swept.returncode == 2
    assert "no matches of evaluation sets for this rule" in " ".join(swept.stderr.split())

    done = select("plain")  # the rule goes, and the accounts close without it
    assert done.returncode == 0, done.stderr
    assert rows(store, "select * from evaluation_matches") == []
    assert said_of_sets() == {"status": "missing", "rules": [], "removed": {}}
    told = tamis("diff", store, "clean", "plain")
    assert re.search(r"in +rule +benchmarks +" + str(len(fell)), told.stdout), told.stdout
    assert "no matches of evaluation sets" in " ".join(tamis(*sweep).stderr.split())

    run(store, recipe(tmp_path / "r.yaml", CLEAN, signals=HASHED), crawled / "l.parquet")
    assert rows(store, "select * from evaluation_matches order by all") == matches
    stage = next(each for each in last_run(store)["stages"] if each["stage"] == "dedupe")
    assert stage["parts_run"] == 0  # they are those that the selection made

    for item, what in (
        ({"dedupe": "alike", "of": "texts"}, "policy[2]: alike is `of: texts`, but the last run on this store did not"),
        ({"dedupe": "alike", "of": "semantic"}, "`of: semantic`, but the last run"),
        ({**CLEAN[-1], "against": ["nonesuch"]}, "has no evaluation set 'nonesuch'; there are: bench"),
        ({**CLEAN[-1], "similarity": 0.9}, "policy[2].embedding: 'clip_image_embedding' is no column of embeddings"),
    ):
        done = select("wrong", item)
        assert done.returncode == 2, done.stdout
        assert what in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("rule", "signals", "what"),
    [
        ({"against": ["nonesuch"]}, HASHED, "has no evaluation set 'nonesuch'; there are: bench"),
        ({"against": ["bench"], "similarity": 0.9}, EMBEDDED, r"registered without it \(clip_image_embedding\)"),
        ({"against": ["bench"], "similarity": 0.9}, HASHED, "'clip_image_embedding' is no column of embeddings"),
        ({"against": ["bench"]}, HASHED[:-1], "compares pictures, which needs the signal"),
        ({"against": []}, HASHED, "against"),
        ({"against": ["bench"], "radius": 99}, HASHED, "radius"),
    ],
)
def test_mistakes_are_found_before_anything_runs(
    crawled: Path, tmp_path: Path, rule: dict[str, Any], signals: list[dict[str, Any]], what: str
) -> None:
    store = tmp_path / "store"
    assert bench(crawled, store).returncode == 0
    path = recipe(tmp_path / "r.yaml", [*LOOSE, {"decontaminate": "benchmarks", **rule}], signals=signals)
    done = tamis("run", path, "--store", store, "--links", crawled / "l.parquet", "--address", "serial")
    assert done.returncode == 2
    assert re.search(what, done.stderr), done.stderr
    assert not (store / "pool").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("bench",), "nothing to register"),
        (("Bad Name", "--texts", "{root}/texts.txt"), "is no name of an evaluation set"),
        (("bench", "--images", "{root}/none"), "there is no such folder"),
        (("bench", "--images", "{root}/store/pool"), "holds no picture"),
        (("bench", "--texts", "{root}/none.txt"), "cannot be read as UTF-8"),
        (("bench", "--texts", "{root}/l.parquet"), "has no column 'text'"),
        (("bench", "--texts", "{root}/bench"), "is a folder"),
        (("bench", "--texts", "{root}/empty.txt"), "not one item could be read"),
    ],
)
def test_mistakes_in_what_is_registered(crawled: Path, tmp_path: Path, arguments: tuple[str, ...], what: str) -> None:
    (crawled / "empty.txt").write_text("!!\n")
    named = [each.replace("{root}", str(crawled)) for each in arguments]
    done = tamis("evalset", "add", tmp_path / "store", *named)
    assert done.returncode == 2
    assert what in done.stderr


def test_texts_of_a_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["one two three", None, "One two THREE"]}), tmp_path / "t.parquet")
    done = tamis(
        "evalset", "add", tmp_path / "store", "t", "--texts", tmp_path / "t.parquet", "--text-column", "caption"
    )
    assert done.returncode == 0, done.stderr
    found = open_set(Store.open(tmp_path / "store"), "t").texts().to_pylist()
    assert found == [{"item": "t.parquet:1", "text": "one two three", "normal": "one two three"}]


def test_the_audit_finds_what_is_kept() -> None:
    matches = pa.table({"rule": ["r", "r"], "level": ["media", "text"], "uid": ["m1", "t2"],
                        "evaluation_set": ["s", "s"], "item": ["i", "j"]})  # fmt: skip
    for kept, found in (([False, False], 0), ([True, False], 1), ([True, True], 2)):
        con = database.connect()
        con.register("decisions", pa.table({"text_uid": ["t1", "t2"], "media_uid": ["m1", "m2"], "kept": kept}))
        con.register("evaluation_matches", matches)
        assert len(database.rows(con, database.query("audit/decontaminated"))) == found


def test_noise_is_no_contamination(crawled: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    for seed in range(5):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "noise" / f"{seed}.png")
    store = copied(crawled, tmp_path)
    assert tamis("evalset", "add", store, "bench", "--images", tmp_path / "noise").returncode == 0
    run(store, recipe(tmp_path / "r.yaml", CLEAN, signals=HASHED), crawled / "l.parquet")
    assert rows(store, "select * from evaluation_matches") == []
    manifest = json.loads((Store.open(store).version_path() / "manifest.json").read_text())
    assert manifest["decontamination"]["status"] == "complete"
    assert manifest["decontamination"]["removed"] == {"bench": {"texts": 0, "samples": 0}}
    assert "file" not in manifest["decontamination"]
