"""What families of pre-training ask of curation, on one store of drawn pictures: teachers, tags, translations, subsets.

The pool: 26 drawings (some of them copied, shrunk or turned into JPEG), captions in six languages, translations by a
machine, rows with nothing, and a part all of whose pictures are damaged.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from curation.augmentations import PARAMETERS, augmented
from curation.caption_parser import REVISION
from curation.media.decode import Decoder
from curation.signals.caption_tags import CaptionTags
from pipelines import database
from pipelines.store import Store
from pretrain.columns import read_column
from pretrain.version import open_version
from tests.curation.signal_rows import drawing
from tests.pipelines.loopback import Request, Server
from tests.pipelines.patch_scorer import DIM, PatchScorer
from tests.stores import SIGNALS, last_run, recipe, rows, run, tamis

NUM, VIEWS = 26, 3
TEACHER = {"model": "m", "scorer": f"{PatchScorer.__module__}.{PatchScorer.__qualname__}"}
LANGUAGES = ("en", "de", "fr", "ja", "ach", "sw")
CAPTIONS = {
    "en": "A red ball behind a green box", "de": "Ein Hund und eine Katze", "fr": "Un chat", "ja": "犬と猫",
    "ach": "Atoro", "sw": "Mbwa na paka",
}  # fmt: skip
POLICY = [{"rule": "some_text", "keep": "text_clean is not null"}]
ORIGINALS = {"rule": "originals", "keep": "text_source <> 'mt'"}
SETTINGS: dict[str, Any] = {
    "name": "families",
    "samples_per_part": 40,
    "source": {"columns": {"url": "url", "text": ["caption", "mt"], "language": "language", "extra": ["split"]}},
    "signals": [
        *({"use": f"curation.signals.{name}"} for name in SIGNALS),
        {"use": "curation.signals.keyed_draw.KeyedSampleDraw"},
        {"use": "curation.signals.caption_tags.CaptionTags"},
        {"use": "curation.signals.tag_targets.TagTargets", "num_tags": 8},
        {"use": "curation.signals.perceptual_hash.PerceptualHash"},
        {"use": "curation.signals.image_embedding.ImageEmbedding", **TEACHER},
        {"use": "curation.signals.text_embedding.TextEmbedding", **TEACHER},
        {"use": "curation.signals.augmented_image_embedding.AugmentedImageEmbedding", "views": VIEWS, **TEACHER},
    ],
    "duplicates": {
        "exact": ["sha256"],
        "perceptual": True,
        "semantic": {"embedding": "clip_image_embedding", "similarity": 0.98, "clusters": 1},
    },
    "pack": {
        "samples_per_shard": 12,
        "columns": ["split", "clip_augmented_embeddings", "clip_augmentations"],
        "text_columns": ["text_source", "clip_text_embedding", "tag_targets", "caption_negatives", "tags"],
    },
}


def file_of(pixels: np.ndarray, kind: str = "PNG", **how: Any) -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, kind, **how)
        return file.getvalue()


def answer(request: Request, data: bytes) -> None:
    request.reply(data)


@dataclass(frozen=True)
class Pool:
    """links: with translations; plain: the same without them; damaged: pictures that do not decode."""

    store: Path
    links: Path
    plain: Path
    recipe: Path
    damaged: int


def link_table(path: Path, entries: list[dict[str, Any]], with_mt: bool = True) -> Path:
    columns = ["url", "caption", *(["mt"] if with_mt else []), "language", "split"]
    kept = [each for each in entries if with_mt or each["caption"] is not None or each["mt"] is None]
    pq.write_table(pa.table({name: pa.array([each[name] for each in kept], pa.string()) for name in columns}), path)
    return path


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    root = tmp_path_factory.mktemp("families")
    whole = [file_of(drawing(number, 300, 220)) for number in range(NUM - 4)]
    whole.append(file_of(drawing(0, 300, 220), "JPEG", quality=85))
    whole.append(file_of(np.asarray(Image.fromarray(drawing(1, 300, 220)).resize((200, 147))), "JPEG", quality=90))
    whole.append(file_of(drawing(2, 300, 220), "PNG", compress_level=1))
    whole.append(whole[3])
    damaged = [whole[number][: 200 + number] for number in range(5)]
    with Server() as server:
        address = f"http://127.0.0.1:{server.port}"
        for kind, files in (("whole", whole), ("damaged", damaged)):
            for number, data in enumerate(files):
                server.routes[f"/{kind}/{number}.png"] = partial(answer, data=data)
        first: list[dict[str, Any]] = []
        for number in range(NUM):
            url = f"{address}/whole/{number}.png"
            for language in LANGUAGES[: 2 + number % 5]:
                said = {"url": url, "language": language, "split": "train", "mt": None}
                first.append({**said, "caption": f"{CAPTIONS[language]} {number}"})
            mt = {"url": url, "split": "train", "caption": None}
            first.append({**mt, "language": "es", "mt": f"Una pelota roja {number}"})
            first.append({**mt, "language": "de", "mt": f"{CAPTIONS['de']} {number}"})  # as a person had it
        nothing = {"caption": None, "mt": None, "language": None, "split": None}
        first += [{**nothing, "url": None}, {**nothing, "url": "  "}, {**nothing, "url": f"{address}/gone.png"}]
        first += [{**nothing, "url": None, "caption": "a text alone", "language": "en"}]
        first += [{**nothing, "url": f"{address}/whole/0.png?without-a-text"}]
        second = [
            {
                "url": f"{address}/damaged/{number}.png",
                "caption": "A dog",
                "mt": None,
                "language": "en",
                "split": "train",
            }
            for number in range(len(damaged))
        ]
        made = Pool(
            root / "store",
            link_table(root / "links.parquet", first),
            link_table(root / "plain.parquet", first, with_mt=False),
            recipe(root / "families.yaml", POLICY, **SETTINGS),
            len(damaged),
        )
        run(made.store, made.recipe, made.links)
        run(made.store, made.recipe, link_table(root / "damaged.parquet", second))
        yield made


@pytest.mark.family("F06")
def test_a_stored_teacher_is_the_teacher(pool: Pool) -> None:
    """F06 (b): scored, packed in half precision, read back; the views repeated from their stored parameters."""
    version = open_version(Store.open(pool.store).version_path())
    stored = read_column(version, "clip_augmented_embeddings")
    parameters = read_column(version, "clip_augmentations")
    assert stored.present.all()
    assert (stored.width, parameters.width) == (VIEWS * DIM, VIEWS * len(PARAMETERS))
    vectors_NVD = stored.values.reshape(-1, VIEWS, DIM)
    assert pa.types.is_float16(version.schema().field("clip_augmented_embeddings").type.value_type)
    teacher, decoder, others = PatchScorer("m"), Decoder(), []
    for row, data in enumerate(version.images()):
        pixels = decoder.decode(data).pixels
        assert pixels is not None
        views = [augmented(pixels, each, 224) for each in parameters.values[row].reshape(VIEWS, -1)]
        again = [augmented(pixels, each, 224) for each in parameters.values[row].reshape(VIEWS, -1)]
        assert all(np.array_equal(one, two) for one, two in zip(views, again, strict=True))  # F06 (a)
        fresh_VD, _ = teacher.encode_images(views)
        unit_VD = vectors_NVD[row] / np.linalg.norm(vectors_NVD[row], axis=1, keepdims=True)
        cosine_VV = unit_VD @ fresh_VD.T
        assert np.diag(cosine_VV).min() >= 0.999
        others += cosine_VV[~np.eye(VIEWS, dtype=bool)].tolist()
    decoder.close()
    assert np.mean(np.array(others) < 0.999) > 0.8  # the figure can tell one view from another
    said = version.read(["texts"]).column("texts").combine_chunks().flatten()
    fresh, _ = teacher.encode_texts(said.field("text").to_pylist())
    of_texts = read_column(version, "texts.clip_text_embedding").values
    assert (fresh * of_texts).sum(axis=1).min() >= 0.999


@pytest.mark.family("F06")
def test_a_part_whose_pictures_are_all_damaged_is_coded_and_skipped(pool: Pool) -> None:
    """F06 (e)."""
    found = rows(
        pool.store,
        "select m.status, m.reason, a.clip_augmented_embeddings as embeddings from media m "
        "join clip_augmented_embeddings a using (media_uid) where m.url like '%/damaged/%'",
    )
    assert len(found) == pool.damaged
    assert {row["status"] for row in found} == {"failed"}
    assert {row["reason"] for row in found} <= {"img.truncated", "img.corrupt", "img.not_image"}
    assert {row["embeddings"] for row in found} == {None}
    part = Store.open(pool.store).files(Store.open(pool.store).state(), "signal_clip_augmented_embeddings")[-1]
    alone = pq.read_table(part)
    assert alone.num_rows == alone.column("clip_augmented_embeddings").null_count == pool.damaged
    assert last_run(pool.store)["outcome"] == "complete"
    (kept,) = rows(pool.store, "select count(*) filter (where kept) as n from ledger where url like '%/damaged/%'")
    assert kept["n"] == 0


@pytest.mark.family("F06")
def test_bytes_a_row_of_every_stored_column_are_reported(pool: Pool) -> None:
    """F06 (g)."""
    report = rows(pool.store, database.query("report/column_sizes"))
    by_name = {(row["place"], row["name"], row["column_name"]): row for row in report}
    store = Store.open(pool.store)
    state = store.state()
    for table in ("signal_clip_augmented_embeddings", "media", "decisions"):
        files = [pq.ParquetFile(path).metadata for path in store.files(state, table)]
        num = sum(each.num_rows for each in files)
        for place, column in enumerate(pq.read_schema(store.files(state, table)[0]).names[:3]):
            row = by_name["tables", table, column]
            assert row["rows"] == num
            if not pa.types.is_nested(pq.read_schema(store.files(state, table)[0]).field(place).type):
                chunks = [each.row_group(g).column(place) for each in files for g in range(each.num_row_groups)]
                assert all(chunk.path_in_schema == column for chunk in chunks)
                assert row["bytes"] == sum(chunk.total_compressed_size for chunk in chunks)
            assert row["bytes_a_row"] == pytest.approx(row["bytes"] / num, abs=0.01)
    version = store.version_path().name
    there = {column for place, name, column in by_name if (place, name) == ("versions", version)}
    assert {"image", "texts.text", "texts.clip_text_embedding", "clip_augmented_embeddings"} <= there
    embeddings = by_name["versions", version, "clip_augmented_embeddings"]
    assert 0.5 * VIEWS * DIM * 2 < embeddings["bytes_a_row"] < 3 * VIEWS * DIM * 2  # half precision, and a few pages
    done = tamis("sql", pool.store, "column_sizes")
    assert done.returncode == 0
    assert "clip_augmented_embeddings" in done.stdout


@pytest.mark.family("F07")
def test_tags_are_reported_for_each_language_and_none_is_silent(pool: Pool) -> None:
    """F07 (b), and (e): no picture was looked at for them."""
    report = {row["language"]: row for row in rows(pool.store, database.query("report/tags"))}
    spoken = rows(
        pool.store, "select language_claimed as l, count(*) as n from texts where text is not null group by l"
    )
    assert {name: row["texts"] for name, row in report.items()} == {row["l"] or "unknown": row["n"] for row in spoken}
    assert {name for name, row in report.items() if row["note"] == "NO TAGS"} == {"ach"}
    assert report["ach"]["tagged_share"] == 0
    assert (report["ach"]["tags_by"], report["en"]["tags_by"], report["ja"]["tags_by"]) == ("none", "parser", "entries")
    tagged = rows(
        pool.store,
        "select count(*) filter (where len(tags) > 0) as n from text_tags join texts using (text_uid) "
        "where language_claimed = 'en'",
    )
    assert report["en"]["tagged"] == tagged[0]["n"] > NUM
    assert report["en"]["tagged_share"] == pytest.approx(tagged[0]["n"] / report["en"]["texts"], abs=1e-4)
    assert CaptionTags().key_extras()["parser"] == REVISION
    assert CaptionTags().reads() == ("text_clean", "language_claimed")


@pytest.mark.family("F07")
def test_packed_tags_are_targets(pool: Pool) -> None:
    """What `pretrain/configs/tags.yaml` reads: the places stand for the fit's tags."""
    version = open_version(Store.open(pool.store).version_path())
    targets = read_column(version, "texts.tag_targets")
    assert targets.width == 8
    (fit,) = Store.open(pool.store).files(Store.open(pool.store).state(), "fit_tag_targets")
    names = pq.read_table(fit).column("tag").to_pylist()
    texts = version.read(["texts"]).column("texts").combine_chunks().flatten()
    for row, tags in enumerate(texts.field("tags").to_pylist()):
        assert targets.present[row] == (tags is not None)
        assert {names[place] for place in np.flatnonzero(targets.values[row])} == set(tags or ()) & set(names)
    assert {"ball", "box"} <= set(names)


@pytest.mark.family("F09")
def test_machine_translations_are_removed_by_one_query(pool: Pool, tmp_path: Path) -> None:
    """F09 (f): what is left is, bit for bit, what there was without them, in the pool and in a version."""
    fields = ["text_uid", "text", "language", "text_source", "clip_text_embedding"]
    embedding = {"use": "curation.signals.text_embedding.TextEmbedding", **TEACHER}
    settings = {
        **SETTINGS,
        "name": "plain",
        "source": {"columns": {**SETTINGS["source"]["columns"], "text": ["caption"]}},
        "signals": [*({"use": f"curation.signals.{name}"} for name in SIGNALS), embedding],
        "duplicates": {"exact": ["sha256"], "perceptual": False},
        "pack": {"samples_per_shard": 12, "columns": ["split"], "text_columns": fields[3:]},
    }
    plain = recipe(tmp_path / "plain.yaml", POLICY, **settings)
    run(tmp_path / "plain", plain, pool.plain)
    policy = tmp_path / "originals.yaml"
    policy.write_text(yaml.safe_dump({"policy": [*POLICY, ORIGINALS]}))
    done = tamis("select", pool.recipe, "--store", pool.store, "--policy", policy, "--name", "originals")
    assert done.returncode == 0, done.stderr
    (
        original,
        left,
    ) = (  # but for what came in with the second table, and links without a link, named by all their columns
        _arrow(
            store,
            "select * from texts where text_source <> 'mt' and sample_uid in "
            "(select sample_uid from media where url like '%/whole/%') order by text_uid",
        )
        for store in (tmp_path / "plain", pool.store)
    )
    assert left.equals(original)
    assert original.num_rows > 3 * NUM
    (translated,) = rows(pool.store, "select count(*) as n from texts where text_source = 'mt'")
    assert translated["n"] == NUM  # one of the two of each picture: the other is what a person wrote
    versions = [open_version(Store.open(each).version_path(name)) for each, name in
                ((tmp_path / "plain", "plain"), (pool.store, "originals"))]  # fmt: skip
    columns = [name for name in versions[0].columns() if name != "texts"]
    without, packed = (each.read(columns) for each in versions)
    assert packed.equals(without)
    ours, theirs = (_texts(each, fields) for each in versions)
    assert ours.equals(theirs)


def _arrow(store: Path, sql: str) -> pa.Table:
    from pipelines.views import open_store

    con = open_store(Store.open(store))
    found = database.arrow(con, sql)
    con.close()
    return found


def _texts(version: Any, fields: list[str]) -> pa.Table:
    texts = version.read(["texts"]).column("texts").combine_chunks().flatten()
    return pa.table({name: texts.field(name) for name in fields})


@pytest.mark.family("F23")
def test_embeddings_are_reported_beside_perceptual_hashes(pool: Pool) -> None:
    """F23 (e): of the pairs that hashes find, how many the embeddings find, against a dull reading; and conversely."""
    report = {row["pairs_by"]: row for row in rows(pool.store, database.query("report/semantic_recall"))}
    hashes = rows(pool.store, "select * from duplicate_edges")
    alike = rows(pool.store, "select * from semantic_edges where level = 'media'")
    same: dict[str, str] = {row["other_uid"]: row["uid"] for row in alike if row["kind"] == "embedding (same)"}
    near = {(row["uid"], row["other_uid"]) for row in alike}
    found = 0
    for row in hashes:
        one, two = (same.get(row[name], row[name]) for name in ("media_uid", "other_uid"))
        found += one == two or (min(one, two), max(one, two)) in near
    assert report["hashes"]["pairs"] == len(hashes) >= 5
    assert report["hashes"]["found"] == found > 0
    assert report["hashes"]["recall"] == pytest.approx(found / len(hashes), abs=1e-4)
    kinds = {row["kind"] for row in hashes}
    assert kinds <= set(report)
    assert sum(report[kind]["found"] for kind in kinds) == found
    groups = {row["media_uid"]: row["duplicate_group"] for row in rows(pool.store, "select * from duplicates")}
    both = sum(groups[a] is not None and groups[a] == groups.get(b) for a, b in near)
    assert (report["embeddings"]["pairs"], report["embeddings"]["found"]) == (len(near), both)
    done = tamis("report", pool.store)
    assert done.returncode == 0, done.stderr
    page = (pool.store / "report" / "index.html").read_text()
    assert f"the embeddings also find {found}" in page


@pytest.mark.family("F29")
def test_rows_with_nothing_are_refused_and_counted(pool: Pool) -> None:
    """F29 (b): a link without a link and without a text has one code, is in the ledger, and in no version."""
    nothing = rows(pool.store, "select * from ledger where url is null or trim(url) = '' order by text")
    assert [row["text"] for row in nothing] == ["a text alone", None]
    assert {(row["status"], row["reason"], row["kept"]) for row in nothing} == {("refused", "in.missing_url", False)}
    gone = rows(pool.store, "select * from ledger where url like '%/gone.png'")
    assert [(row["status"], row["reason"], row["kept"]) for row in gone] == [("failed", "http.4xx_gone", False)]
    (silent,) = rows(pool.store, "select * from ledger where url like '%without-a-text'")
    assert (silent["status"], silent["rejected_by"]) == ("ok", ["some_text"])  # by the policy, not by a loss
    version = open_version(Store.open(pool.store).version_path("families"))
    table = version.read(["image", "texts"])
    assert table.column("image").null_count == 0
    assert pc.min(pc.list_value_length(table.column("texts").combine_chunks())).as_py() >= 1
    assert version.num_samples == NUM


@pytest.mark.family("F29")
def test_a_ladder_of_subsets_is_nested(pool: Pool, tmp_path: Path) -> None:
    """F29 (c): named versions of 35%, 70% and all samples, each within the next, whole samples; 1% within 5% within 25%
    by the same draw."""
    whole_version = open_version(Store.open(pool.store).version_path("families"))
    held = {1.0: set(whole_version.read(["sample_uid"]).column(0).to_pylist())}
    for share in (0.35, 0.7):
        policy, name = tmp_path / f"{share}.yaml", f"share{round(100 * share):03d}"
        rule = {"rule": "ladder", "keep": "sample_draw < $share", "at": {"share": share}}
        policy.write_text(yaml.safe_dump({"policy": [*POLICY, rule]}))
        done = tamis("select", pool.recipe, "--store", pool.store, "--policy", policy, "--name", name)
        assert done.returncode == 0, done.stderr
        version = open_version(Store.open(pool.store).version_path(name))
        table = version.read(["sample_uid", "texts"])
        held[share] = set(table.column("sample_uid").to_pylist())
        members = f"members where version = '{version.folder.name}'"
        texts = rows(pool.store, f"select count(*) as n from {members}")
        whole = rows(
            pool.store,
            "select count(*) as n from ledger l where l.text is not null and l.status = 'ok' "
            f"and l.sample_uid in (select sample_uid from {members})",
        )
        assert texts == whole
    assert set() < held[0.35] < held[0.7] < held[1.0]
    assert len(held[1.0]) == NUM
    ladder = "select count(distinct sample_uid) filter (where sample_draw < {}) as n from candidates"
    counts = [rows(pool.store, ladder.format(share))[0]["n"] for share in (0.01, 0.05, 0.25, 1.0)]
    assert counts == sorted(counts)
    (draws,) = rows(pool.store, "select max(n) as n from (select count(distinct sample_draw) as n from candidates "
                                "group by sample_uid)")  # fmt: skip
    assert draws["n"] == 1  # so what is below 0.05 is below 0.25, with all of its texts
