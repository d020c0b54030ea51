"""Texts of generators: the texts of links come back as they were, and every written one says what wrote it."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from curation.media.decode import DecodeLimits
from curation.schema import TEXTS
from curation.shearing import counter
from curation.table import read_part
from flows.main_job import load
from pipelines import database
from pipelines.diff import diff
from pipelines.enrich import enrich_part
from pipelines.plan import plan
from pipelines.recipe import load_recipe
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.takedown import take_down
from pipelines.views import open_store
from pipelines.workers import PartFailed, SerialWorkers
from pipelines.yaml_place import RecipeError
from tests.pipelines.av_store import Finished
from tests.pipelines.colours import Colours
from tests.stores import LOOSE, SIGNALS, Served, digests, links_file, options, parts_run, recipe, rows, run

TEMPLATES = "curation.generators.templates.Templates"
COLOURS = f"{Colours.__module__}.{Colours.__qualname__}"
SHAPES = ["circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "arrow", "moon"]


def generators(root: Path) -> list[dict[str, Any]]:
    """Templates of tags and of entries (their list goes into `root`), and a captioner that looks, sheared two ways."""
    entries = root / "shapes.json"
    entries.write_text(json.dumps({"en": SHAPES}))
    tagged = {"en": ["a picture of {tags}", "{tags}, seen from the side"], "de": ["ein Bild von {tags}"]}
    of_entries = {"entries": {"entries": str(entries)}, "templates": {"en": ["{tags}"]}}
    return [
        {"use": TEMPLATES, "source": "tags", "columns": ["category"], "templates": tagged},
        {"use": TEMPLATES, "source": "entries", **of_entries},
        {"use": COLOURS, "source": "colours", "shear": "words"},
        {"use": COLOURS, "source": "colours_clip", "shear": "clip"},
    ]


SOURCE = {"columns": {"url": "url", "text": "caption", "language": "language", "extra": ["split", "category"]}}
LEVELS = {"use": "curation.signals.score_level.ScoreLevel", "column": "num_words", "levels": 4, "name": "length"}


def enriching(path: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {"name": "rich", "source": SOURCE, "enrich": generators(path.parent), **changes}
    return recipe(path, **fields)


@pytest.fixture(scope="module")
def store(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose second run let generators write; `plain.parquet` beside it is its table of texts before."""
    root = tmp_path_factory.mktemp("enriched")
    run(root / "store", recipe(root / "plain.yaml", source=SOURCE), served.links)
    pq.write_table(texts(root / "store"), root / "plain.parquet")
    weight = {"weight": "by_level", "value": "[0.25, 0.5, 1, 2][length_level + 1]"}
    rich = enriching(
        root / "rich.yaml",
        policy=[*LOOSE, weight],
        signals=[*({"use": f"curation.signals.{name}"} for name in SIGNALS), LEVELS],
        pack={"samples_per_shard": 6, "columns": ["split"], "text_columns": ["length_level", "generator"]},
    )
    run(root / "store", rich, served.links)
    return root / "store"


def texts(store: Path, where: str = "true", order: str = "text_uid") -> pa.Table:
    con = open_store(Store.open(store))
    found = database.arrow(con, f"select {', '.join(TEXTS.names)} from texts where {where} order by {order}")
    con.close()
    return found


@pytest.mark.family("F05")
def test_the_texts_of_links_come_back_bit_for_bit_by_a_query_on_the_source(store: Path) -> None:
    plain = pq.read_table(store.parent / "plain.parquet")
    assert plain.num_rows > 100
    for where in ("generator is null", "text_source not in ('tags', 'entries', 'colours', 'colours_clip')"):
        assert texts(store, where).equals(plain)
    assert texts(store).num_rows > plain.num_rows + 3 * 30
    # and the pool's own parts are the files that they were
    sources = rows(store, "select distinct text_source from texts where generator is null")
    assert sources == [{"text_source": "caption"}]
    own = [read_part(path).select(TEXTS.names) for path in Store.open(store).texts_files()]
    assert pa.concat_tables(own).sort_by("text_uid").equals(plain.cast(own[0].schema))


@pytest.mark.family("F05")
def test_every_written_text_says_what_wrote_it_and_beside_which_text(store: Path) -> None:
    found = rows(store, "select * from generated_texts order by text_uid")
    assert Counter(row["text_source"] for row in found).keys() == {"tags", "entries", "colours", "colours_clip"}
    sample_of = {row["text_uid"]: row for row in rows(store, "select * from texts where generator is null")}
    generators = {each.source: each for each in load_recipe(store.parent / "rich.yaml").enrich}
    hashes: dict[str, set[str]] = {}
    beside = 0
    for row in found:
        assert row["generator"] == generators[row["text_source"]].import_path()
        assert row["generator_revision"] == generators[row["text_source"]].revision()
        assert row["generated_for"]
        assert sample_of[row["parent_text_uid"]]["sample_uid"] == row["sample_uid"]
        english = {each["text_uid"] for each in sample_of.values() if each["sample_uid"] == row["sample_uid"]
                   and each["language_claimed"] == "en" and each["text"] is not None}  # fmt: skip
        if english and row["language_claimed"] == "en":
            assert row["parent_text_uid"] in english
            beside += 1
        hashes.setdefault(row["text_source"], set()).add(row["prompt_hash"])
    assert beside > 50
    assert len(hashes["tags"]) == 3  # three templates
    assert hashes["colours"] == hashes["colours_clip"]  # one prompt
    assert hashes["colours"].isdisjoint(hashes["tags"])
    assert len({each.revision() for each in generators.values()}) == 4
    there = rows(store, "select count(*) as n from texts t join media m using (sample_uid) where generator is not null "
                        "and m.status <> 'ok'")  # fmt: skip
    assert there == [{"n": 0}]
    positions = rows(store, "select max(position) + 1 as n, count(*) as m from texts group by sample_uid")
    assert all(row["n"] == row["m"] for row in positions)


@pytest.mark.family("F05")
def test_a_picture_without_a_caption_gets_one_of_its_tags(served: Served, tmp_path: Path) -> None:
    links: list[tuple[str | None, str | None]] = [(served.pictures[0], None), (served.pictures[1], "a small bird"),
                                                  (served.pictures[2], None)]  # fmt: skip
    table = links_file(tmp_path / "l.parquet", links, category=["cat", "bird", None])
    own = [{"use": TEMPLATES, "source": "tags", "columns": ["category"], "shear": "words"}]
    run(tmp_path / "store", enriching(tmp_path / "r.yaml", enrich=own), table)
    found = rows(tmp_path / "store", "select text, parent_text_uid is null as alone, is_sheared, kept from "
                                     "generated_texts join decided using (text_uid) order by text")  # fmt: skip
    assert found == [
        {"text": "a picture of", "alone": False, "is_sheared": True, "kept": True},
        {"text": "a picture of cat", "alone": True, "is_sheared": False, "kept": True},
    ]


@pytest.mark.family("F05")
def test_no_sheared_text_is_longer_than_its_parent_in_the_recorded_tokenizer(store: Path) -> None:
    found = rows(
        store,
        "select g.*, t.text as parent from generated_texts g join texts t on t.text_uid = g.parent_text_uid "
        "where g.tokenizer is not null",
    )
    assert {row["tokenizer"] for row in found} == {"words", "clip"}
    assert sum(row["is_sheared"] for row in found) > 20
    for row in found:
        count = counter(row["tokenizer"])
        assert (count(row["text"]), count(row["parent"])) == (row["num_tokens"], row["parent_num_tokens"])
        assert row["num_tokens"] <= row["parent_num_tokens"]


@pytest.mark.family("F05")
def test_the_report_gives_variety_and_copies_of_each_generator(store: Path) -> None:
    found = {row["text_source"]: row for row in rows(store, f"from ({database.query('report/text_sources')})")}
    assert found.keys() == {"caption", "tags", "entries", "colours", "colours_clip"}
    for source, row in found.items():
        of_source = f"select text from texts where text_source = '{source}' and text is not null"
        own = [each["text"] for each in rows(store, of_source)]
        assert row["texts"] == len(own)
        assert math.isclose(row["duplicate_share"], 1 - len(set(own)) / len(own), abs_tol=1e-4)
        assert 0 < row["distinct_1"] <= 1
        assert row["distinct_2"] is None or row["distinct_1"] <= row["distinct_2"] <= 1  # no pairs in texts of one word
    words = [row["text"].lower().split() for row in rows(store, "select text from texts where text_source = 'colours'")]
    ones = [word for each in words for word in each]
    twos = [pair for each in words for pair in itertools.pairwise(each)]
    assert math.isclose(found["colours"]["distinct_1"], len(set(ones)) / len(ones), abs_tol=1e-4)
    assert math.isclose(found["colours"]["distinct_2"], len(set(twos)) / len(twos), abs_tol=1e-4)
    assert found["caption"]["generator"] is None
    assert found["colours"]["generator"] == COLOURS


@pytest.mark.family("F03")
def test_a_version_holds_sources_levels_and_weights_as_training_reads_them(store: Path, tmp_path: Path) -> None:
    from pretrain.columns import read_column
    from pretrain.config import TextPolicy
    from pretrain.rows import map_rows
    from pretrain.source import open_source
    from pretrain.targets.graded import Graded
    from pretrain.targets.info_nce import InfoNCE
    from pretrain.version import open_version

    found = rows(store, "select length_level, count(*) as n from candidates where num_words is not null group by all")
    sizes = [row["n"] for row in found]
    assert len(sizes) == 4
    assert max(sizes) - min(sizes) <= 1
    version = open_version(next((store / "versions").glob("rich-*")))
    kept = rows(store, "select text_uid, c.sample_uid, text_source, text_clean, length_level, sampling_weight "
                       "from decided join candidates c using (text_uid) where kept")  # fmt: skip
    by_uid = {row["text_uid"]: row for row in kept}
    held = [text for row in version.read(["texts"]).to_pylist() for text in row["texts"]]
    assert len(held) == len(by_uid)
    for text in held:
        row = by_uid[text["text_uid"]]
        assert text["source"] == row["text_source"]
        assert text["length_level"] == row["length_level"]
        assert text["sampling_weight"] == row["sampling_weight"] == [0.25, 0.5, 1, 2][row["length_level"]]
    column, weights = "texts.length_level", (0.25, 0.5, 1.0, 2.0)
    graded = Graded(column=column, weights=weights, target=InfoNCE(a="image", b="text"))
    graded.check_columns({column: read_column(version, column)})
    too_few = graded.model_copy(update={"weights": weights[:3]})
    with pytest.raises(ValueError, match="levels 0 to 3; there are weights for 0 to 2"):
        too_few.check_columns({column: read_column(version, column)})
    # a training run that wants as many captions of people as of tags draws these, by their levels
    policy = TextPolicy(sources={"caption": 1.0, "tags": 1.0}, weight_column="sampling_weight")
    mapped = map_rows(tmp_path, version)
    source = open_source(
        mapped, where=(), subset=None, exclude_languages=(), policy=policy, seed=0, captions_per_image=1
    )
    drawn: Counter[str] = Counter()
    expected = variance = 0.0
    for row in source.rows_N.tolist():
        uid = mapped.uid(row)
        own = [each for each in kept if each["sample_uid"] == uid and each["text_source"] in policy.sources]
        number = Counter(each["text_source"] for each in own)
        weights = {each["text_uid"]: each["sampling_weight"] / number[each["text_source"]] for each in own}
        tags = sum(weights[each["text_uid"]] for each in own if each["text_source"] == "tags") / sum(weights.values())
        expected, variance = expected + 60 * tags, variance + 60 * tags * (1 - tags)
        for epoch in range(60):
            (text,) = source.draw_texts(epoch, row, uid)
            said = mapped.text(text)
            drawn[next(each["text_source"] for each in own if each["text_clean"] == said)] += 1
    assert drawn.keys() == {"caption", "tags"}
    assert abs(drawn["tags"] - expected) < 4 * math.sqrt(variance)


DAMAGE: list[tuple[str, dict[str, Any]]] = [
    ("no generator, revision, prompt or medium", {"generator_revision": None}),
    ("no generator, revision, prompt or medium", {"prompt_hash": None}),
    ("no generator, revision, prompt or medium", {"generated_for": None}),
    ("no parent, though its sample has texts", {"parent_text_uid": None}),
    ("its parent is no text of its sample", {"parent_text_uid": "0" * 32}),
    ("longer than its parent", {"num_tokens": 99}),
    ("longer than its parent", {"num_tokens": None}),
]


@pytest.mark.family("F05")
@pytest.mark.parametrize(("problem", "change"), DAMAGE)
def test_the_audit_finds_what_a_written_text_does_not_say(store: Path, problem: str, change: dict[str, Any]) -> None:
    con = open_store(Store.open(store))
    found = database.arrow(con, "select * from generated_texts where text_source = 'colours' order by text_uid")
    con.execute("drop view generated_texts")
    rows_of = found.to_pylist()
    rows_of[0] |= change
    con.register("generated_texts", pa.Table.from_pylist(rows_of, schema=found.schema))
    told = database.rows(con, database.query("audit/generated_texts"))
    con.close()
    assert told == [{"text_uid": rows_of[0]["text_uid"], "problem": problem}]


@pytest.mark.family("F05")
def test_a_take_down_deletes_what_was_written_about_the_medium(store: Path, served: Served, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "store")
    (gone,) = rows(store, "select m.url, m.media_uid, sample_uid from generated_texts join media m using (sample_uid) "
                          "order by m.url limit 1")  # fmt: skip
    take_down(Store.open(tmp_path / "store"), [gone["url"]], [])
    parts = list(Store.open(tmp_path / "store").table("enriched_texts").glob("*.parquet"))
    assert parts
    assert all(gone["media_uid"] not in read_part(path, ["generated_for"]).column(0).to_pylist() for path in parts)
    run(tmp_path / "store", store.parent / "rich.yaml", served.links)
    left = rows(tmp_path / "store", "select sample_uid from generated_texts")
    assert left
    assert {"sample_uid": gone["sample_uid"]} not in left
    # what the selection before it read is gone in part, and the two can still be compared
    before, after = Store.open(store), Store.open(tmp_path / "store")
    found = diff(after, str(before.state().selection), "latest")
    out = [row for row in found.rows.to_pylist() if row["direction"] == "out" and row["cause"] == "takedown"]
    kept = rows(store, f"select text_uid from decisions where kept and sample_uid = '{gone['sample_uid']}'")
    assert kept
    assert {row["text_uid"] for row in kept} == {row["text_uid"] for row in out}


def test_segments_are_written_about_by_the_picture_in_their_middle(av_finished: Finished, tmp_path: Path) -> None:
    store = Store.open(av_finished.store)
    state = store.state()
    seen = 0
    for index, (media, own) in enumerate(zip(store.files(state, "media"), store.texts_files(state), strict=True)):
        enrich_part([Colours(source="colours")], media, own, tmp_path, index, "ab" * 32, DecodeLimits())
        made, before = read_part(next(tmp_path.glob(f"{index:05d}-*"))), read_part(own)
        written = made.filter(pc.is_valid(made.column("generator"))).to_pylist()
        kept = made.filter(pc.is_null(made.column("generator"))).select(before.column_names)
        assert kept.equals(before.replace_schema_metadata(None))
        segments = read_part(media, ["media_uid", "sample_uid", "status", "frame"]).to_pylist()
        whole = {row["media_uid"]: row["sample_uid"] for row in segments if row["status"] == "ok" and row["frame"]}
        assert {row["generated_for"]: row["sample_uid"] for row in written} == whole
        assert all(row["source_text_uid"] is None and row["text_start_s"] is None for row in written)
        seen += len(written)
    assert seen > 3


def test_wrong_generators_are_named_with_their_place(tmp_path: Path) -> None:
    def mistake(**fields: Any) -> str:
        path = enriching(tmp_path / "r.yaml", enrich=[{"use": TEMPLATES, "source": "tags", **fields}])
        with pytest.raises(RecipeError) as caught:
            load_recipe(path)
        return str(caught.value)

    assert "tags come either from `columns`" in mistake()
    assert "'kind' of the link tables, which is not among source.columns.extra; valid: category, split" in mistake(
        columns=["kind"]
    )
    assert "'caption' is already a text column of the links" in mistake(source="caption", columns=["category"])
    assert "must have {tags} in it, once" in mistake(columns=["category"], templates={"en": ["a picture"]})
    assert "cannot be imported" in mistake(use="nowhere.Captioner")
    assert "is no generator" in mistake(use="curation.signals.probe.Probe")
    assert "enrich" in mistake(use=f"{TEMPLATES}s", columns=["category"])
    assert "shear" in mistake(columns=["category"], shear="bytes")


def test_a_generator_that_loses_a_sample_ends_the_run_and_names_it(served: Served, tmp_path: Path) -> None:
    forgetful = [{"use": COLOURS.replace("Colours", "Forgetful"), "source": "colours"}]
    with pytest.raises(PartFailed, match="it must give a list, which may be empty, for each"):
        run(tmp_path / "store", enriching(tmp_path / "r.yaml", enrich=forgetful), served.links)


def test_again_is_free_and_without_generators_the_pool_is_as_before(store: Path, served: Served) -> None:
    before = digests(store / "tables")
    rich = store.parent / "rich.yaml"
    run(store, rich, served.links)
    assert parts_run(store)["enrich"] == 0
    assert digests(store / "tables") == before
    first, *others = generators(store.parent)
    changed = enriching(store.parent / "changed.yaml", enrich=[{**first, "most": 1}, *others])
    for file, state in ((rich, ["0 parts"]), (changed, ["6 parts", "depends on the texts"])):
        opened = Store.open(store)
        lines = plan(Run(load(options(store, file, [served.links])), opened, SerialWorkers(), opened.state()))
        said = [line.to_run for line in lines if line.step == "enrich" or "texts" in line.to_run]
        assert said == state
    run(store, store.parent / "plain.yaml", served.links)
    assert sum(parts_run(store).values()) == 0  # all of it is there from before
    assert texts(store).equals(pq.read_table(store.parent / "plain.parquet"))
    assert rows(store, "select * from generated_texts") == []
