"""What families of pre-training ask of what is stored: teachers, tags, embeddings, and what they take."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.augmentations import PARAMETERS, augmented
from curation.caption_parser import REVISION
from curation.media.decode import Decoder
from curation.signals.caption_tags import CaptionTags
from pipelines import database
from pipelines.store import Store
from pretrain.columns import read_column
from pretrain.version import open_version
from tests.pipelines.family_pool import NUM, VIEWS, Pool
from tests.pipelines.patch_scorer import DIM, PatchScorer
from tests.stores import last_run, rows, tamis


@pytest.mark.family("F06")
def test_a_stored_teacher_is_the_teacher(family_pool: Pool) -> None:
    """F06 (b): scored, packed in half precision, read back; the views repeated from their stored parameters."""
    version = open_version(Store.open(family_pool.store).version_path())
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
def test_a_part_whose_pictures_are_all_damaged_is_coded_and_skipped(family_pool: Pool) -> None:
    """F06 (e)."""
    found = rows(
        family_pool.store,
        "select m.status, m.reason, a.clip_augmented_embeddings as embeddings from media m "
        "join clip_augmented_embeddings a using (media_uid) where m.url like '%/damaged/%'",
    )
    assert len(found) == family_pool.damaged
    assert {row["status"] for row in found} == {"failed"}
    assert {row["reason"] for row in found} <= {"img.truncated", "img.corrupt", "img.not_image"}
    assert {row["embeddings"] for row in found} == {None}
    part = Store.open(family_pool.store).files(
        Store.open(family_pool.store).state(), "signal_clip_augmented_embeddings"
    )[-1]
    alone = pq.read_table(part)
    assert alone.num_rows == alone.column("clip_augmented_embeddings").null_count == family_pool.damaged
    assert last_run(family_pool.store)["outcome"] == "complete"
    (kept,) = rows(
        family_pool.store, "select count(*) filter (where kept) as n from ledger where url like '%/damaged/%'"
    )
    assert kept["n"] == 0


@pytest.mark.family("F06")
def test_bytes_a_row_of_every_stored_column_are_reported(family_pool: Pool) -> None:
    """F06 (g)."""
    report = rows(family_pool.store, database.query("report/column_sizes"))
    by_name = {(row["place"], row["name"], row["column_name"]): row for row in report}
    store = Store.open(family_pool.store)
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
    done = tamis("sql", family_pool.store, "column_sizes")
    assert done.returncode == 0
    assert "clip_augmented_embeddings" in done.stdout


@pytest.mark.family("F07")
def test_tags_are_reported_for_each_language_and_none_is_silent(family_pool: Pool) -> None:
    """F07 (b), and (e): no picture was looked at for them."""
    report = {row["language"]: row for row in rows(family_pool.store, database.query("report/tags"))}
    spoken = rows(
        family_pool.store, "select language_claimed as l, count(*) as n from texts where text is not null group by l"
    )
    assert {name: row["texts"] for name, row in report.items()} == {row["l"] or "unknown": row["n"] for row in spoken}
    assert {name for name, row in report.items() if row["note"] == "NO TAGS"} == {"ach"}
    assert report["ach"]["tagged_share"] == 0
    assert (report["ach"]["tags_by"], report["en"]["tags_by"], report["ja"]["tags_by"]) == ("none", "parser", "entries")
    tagged = rows(
        family_pool.store,
        "select count(*) filter (where len(tags) > 0) as n from text_tags join texts using (text_uid) "
        "where language_claimed = 'en'",
    )
    assert report["en"]["tagged"] == tagged[0]["n"] > NUM
    assert report["en"]["tagged_share"] == pytest.approx(tagged[0]["n"] / report["en"]["texts"], abs=1e-4)
    assert CaptionTags().key_extras()["parser"] == REVISION
    assert CaptionTags().reads() == ("text_clean", "language_claimed")


@pytest.mark.family("F07")
def test_packed_tags_are_targets(family_pool: Pool) -> None:
    """What `pretrain/configs/tags.yaml` reads: the places stand for the fit's tags."""
    version = open_version(Store.open(family_pool.store).version_path())
    targets = read_column(version, "texts.tag_targets")
    assert targets.width == 8
    (fit,) = Store.open(family_pool.store).files(Store.open(family_pool.store).state(), "fit_tag_targets")
    names = pq.read_table(fit).column("tag").to_pylist()
    texts = version.read(["texts"]).column("texts").combine_chunks().flatten()
    for row, tags in enumerate(texts.field("tags").to_pylist()):
        assert targets.present[row] == (tags is not None)
        assert {names[place] for place in np.flatnonzero(targets.values[row])} == set(tags or ()) & set(names)
    assert {"ball", "box"} <= set(names)


@pytest.mark.family("F23")
def test_embeddings_are_reported_beside_perceptual_hashes(family_pool: Pool) -> None:
    """F23 (e): of the pairs that hashes find, how many the embeddings find, against a dull reading; and conversely."""
    report = {row["pairs_by"]: row for row in rows(family_pool.store, database.query("report/semantic_recall"))}
    hashes = rows(family_pool.store, "select * from duplicate_edges")
    alike = rows(family_pool.store, "select * from semantic_edges where level = 'media'")
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
    groups = {row["media_uid"]: row["duplicate_group"] for row in rows(family_pool.store, "select * from duplicates")}
    both = sum(groups[a] is not None and groups[a] == groups.get(b) for a, b in near)
    assert (report["embeddings"]["pairs"], report["embeddings"]["found"]) == (len(near), both)
    done = tamis("report", family_pool.store)
    assert done.returncode == 0, done.stderr
    page = (family_pool.store / "report" / "index.html").read_text()
    assert f"the embeddings also find {found}" in page
