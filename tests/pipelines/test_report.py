"""The report: hostile captions stay text, nothing is asked of the network, and every kind of store gets a page."""

import base64
import hashlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from curation.schema import FIGURES
from curation.table import write_parquet
from pipelines import database, report_charts, report_pictures, report_tables
from pipelines.report import address, visible, write_report
from pipelines.store import Store
from pipelines.views import open_store
from tests.pipelines.loopback import Request, Server
from tests.stores import NETWORKS, SIGNALS, links_file, recipe, rows, run

SCRIPT = "<script>alert('one')</script> a red house"
CLOSING = "</style></title></svg> a green boat <img src=x onerror=alert(2)>"
QUOTES = '" onmouseover="alert(3)" x=\'{{ 7 * 7 }}\' a blue tree'
OVERRIDE = "an \u202eeverse\u202c order \x00\x1b[2J of words"
NOTHING = "\u202e\u200b"
URL_SECRET = "/4.png?token=sesame"


class Page(HTMLParser):
    """Tags, attributes and text of a page as a browser's parser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(store: Path) -> tuple[str, Page]:
    html = write_report(Store.open(store), store / "page.html").read_text(encoding="utf-8")
    return html, Page(html)


def drawn(shade: int) -> bytes:
    picture = Image.new("RGB", (64, 48), (shade, 120, 255 - shade))
    ImageDraw.Draw(picture).ellipse((shade % 30, 5, 40, 40), fill=(255, shade, 0))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A store of six pictures with hostile captions, all kept but two, and its link table."""
    folder = tmp_path_factory.mktemp("hostile")
    with Server() as server:
        for number in range(6):
            body = drawn(40 * number)
            server.routes[f"/{number}.png"] = lambda request, body=body: answer(request, body)
        links = links_file(
            folder / "links.parquet",
            [
                (server.url("/0.png"), SCRIPT),
                (server.url("/1.png"), CLOSING),
                (server.url("/2.png"), QUOTES),
                (server.url("/3.png"), OVERRIDE),
                (server.url(URL_SECRET), "house"),
                (server.url("/5.png"), NOTHING),
                (server.url("/<b>gone</b>.png?key=sesame"), "a picture that is gone"),
            ],
        )
        policy = [{"rule": "two_words", "keep": "num_words >= 2"}]
        signals = [{"use": f"curation.signals.{name}"} for name in SIGNALS]
        run(folder / "store", recipe(folder / "r.yaml", policy, signals=signals), links)
        yield folder / "store", links


def answer(request: Request, body: bytes) -> None:
    request.reply(body)


def copied(store: Path, tmp_path: Path, **state: object) -> Path:
    """A copy of a store whose state is changed; the original is the whole session's."""
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    content = json.loads((copy / "state.json").read_text())
    (copy / "state.json").write_text(json.dumps({**content, **state}))
    return copy


def test_hostile_captions_stay_text(hostile: tuple[Path, Path]) -> None:
    html, page = page_of(hostile[0])
    assert page.named("script") == []
    assert all(not name.startswith("on") and name != "style" for _, attributes in page.tags for name in attributes)
    assert "<script>alert('one')</script>" in page.text
    assert "</style></title></svg> a green boat <img src=x onerror=alert(2)>" in page.text
    assert "x='{{ 7 * 7 }}' a blue tree" in page.text
    assert html.count("</style>") == 1
    assert len(page.named("b")) == 0


def test_direction_and_control_characters_are_shown_by_number(hostile: tuple[Path, Path]) -> None:
    html, page = page_of(hostile[0])
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f]", html)
    assert "everse" in page.text
    assert "U+202E U+200B" in page.text  # a caption of which nothing is left has no cleaned form
    shown = visible(OVERRIDE)
    assert '<span class="code-point">U+202E</span>everse<span class="code-point">U+202C</span>' in shown
    assert "U+001B" in shown
    assert visible("क्\u200dष") == "क्\u200dष"
    assert visible("a" * 500, 10) == "a" * 10 + "…"


def test_the_page_asks_nothing_of_anyone(hostile: tuple[Path, Path]) -> None:
    html, page = page_of(hostile[0])
    sources = [value or "" for _, each in page.tags for name, value in each.items() if name in ("src", "srcset")]
    assert len(sources) == 6
    assert all(source.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for source in sources)
    assert all((each["href"] or "").startswith("#") for each in page.named("a"))
    assert not {"link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.tags}
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import", style)
    meta = {each.get("http-equiv") or each.get("name"): each["content"] for each in page.named("meta") if len(each) > 1}
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in str(meta["Content-Security-Policy"])
    assert "default-src 'none'; img-src data:;" in str(meta["Content-Security-Policy"])
    assert meta["referrer"] == "no-referrer"


def test_addresses_lose_their_secrets(hostile: tuple[Path, Path]) -> None:
    html, page = page_of(hostile[0])
    assert "sesame" not in html
    assert "b%3Egone" in page.text or "<b>gone</b>.png" in page.text
    assert address("https://me:pass@example.org/a/b?key=1#top") == "https://example.org/a/b?…"
    assert "pass" not in address("http://me:pass@[/a?key=1")


def test_thumbnails_are_new_small_files_of_the_decoders_pixels(hostile: tuple[Path, Path]) -> None:
    _, page = page_of(hostile[0])
    for each in page.named("img"):
        kind, _, data = str(each["src"]).partition(";base64,")
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.load()
            assert max(picture.size) <= report_pictures.THUMBNAIL_PX
            assert picture.size == (64, 48)
            assert kind == f"data:image/{str(picture.format).lower()}"


def test_bytes_that_no_decoder_takes_are_named_and_not_embedded() -> None:
    con = database.connect()
    media = {"media_uid": ["good", "bad", "none"], "bytes": [drawn(1), b"<svg onload=alert(1)>", None]}
    con.register("media", pa.table(media))
    found = report_pictures.thumbnails(con, ["good", "bad", "none", "missing"])
    assert found["good"]["uri"].startswith("data:image/")
    assert (found["bad"]["uri"], found["bad"]["reason"]) == (None, "img.format_not_allowed")
    assert set(found) == {"good", "bad"}


def test_the_figures_of_a_finished_store(finished: Path) -> None:
    _, page = page_of(finished)
    for row in rows(finished, database.query("report/funnel")):
        assert f"{row['step']} " in page.text
        assert f"{row['texts_left']:,} {row['samples_left']:,}" in page.text
    (version,) = rows(finished, "select * from versions")
    assert version["digest"] in page.text
    assert version["version"] in page.text
    assert "short_side_px >= 8" in page.text
    assert "t = 3" in page.text
    for row in rows(finished, "select distinct reason from media where status <> 'ok'"):
        assert row["reason"] in page.text
    (found,) = rows(finished, "select count(distinct duplicate_group) as groups from duplicates")
    assert f"in {found['groups']} groups" in page.text
    assert page.text.count("survivor") >= min(12, found["groups"])
    assert "near copy" in page.text


def test_what_it_says_to_type_is_the_run_again(hostile: tuple[Path, Path]) -> None:
    store, links = hostile
    wanted = ["run", str(store.parent / "r.yaml"), "--store", str(store), "--links", str(links)]
    wanted += [word for network in NETWORKS for word in ("--allow-net", network)]
    assert f" {shlex.join(['tamis', *wanted])} the last run again" in page_of(store)[1].text


def test_the_same_store_gives_the_same_page(finished: Path, tmp_path: Path) -> None:
    store = Store.open(finished)
    first = write_report(store, tmp_path / "a.html").read_bytes()
    assert write_report(store, tmp_path / "b.html").read_bytes() == first
    assert len(first) < 2_000_000
    path = write_report(Store.open(copied(finished, tmp_path)), None)
    assert path == tmp_path / "copy" / "report" / "index.html"
    assert path.is_file()


def test_a_text_without_a_medium_counts_at_that_rule_alone(finished: Path) -> None:
    """Of the others, each is counted where the pictures are there, against a dull reading of the ledger."""
    asked = [row["rejected_by"] for row in rows(finished, "select rejected_by from ledger")]
    there = [rejected for rejected in asked if "downloaded" not in rejected]
    found = {row["rule"]: row for row in report_tables.rules(open_store(Store.open(finished)), [])}
    gone = found.pop("downloaded")
    assert 0 < gone["texts"] == gone["alone"] == len(asked) - len(there)
    assert (gone["asked"], gone["with_others"], gone["partner"]) == (len(asked), 0, None)
    for rule, row in found.items():
        assert row["asked"] == len(there)
        assert row["texts"] == sum(rule in rejected for rejected in there)
        assert row["alone"] == sum(rejected == [rule] for rejected in there)
    assert sum(row["texts"] for row in found.values()) > 0


def test_rejected_pictures_stand_below_the_rule_that_lost_them(hostile: tuple[Path, Path], finished: Path) -> None:
    _, page = page_of(hostile[0])
    assert "two_words" in page.text
    assert "num_ words = 1" in page.text  # a break is allowed after the underscore
    con = open_store(Store.open(finished))
    names = [row["rule"] for row in database.rows(con, "select rule from policy_rules order by place")]
    shown = dict(report_pictures.rejected_samples(con, names))
    assert {"caption_not_empty", "no_boilerplate"} <= set(shown)
    assert "near_duplicate" not in shown
    for rule, found in shown.items():
        assert all(row["rejected_by"][0] == rule for row in found)
        assert len({row["duplicate_group"] or row["sample_uid"] for row in found}) == len(found)
    assert all(row["saw"] == {"text_clean": "no value"} for row in shown["caption_not_empty"])
    assert sum(map(len, shown.values())) <= report_pictures.NUM_REJECTED


def test_entry_counts_before_and_after_balancing(finished: Path) -> None:
    found = {row["entry_id"]: row for row in rows(finished, database.query("report/entry_counts"))}
    texts = rows(
        finished,
        "select entry_ids, kept, rejected_by from candidates join decisions using (text_uid) "
        "where keep_probability is not null",
    )
    expected: dict[int, list[int]] = {}
    for text in texts:
        for entry in text["entry_ids"] or []:
            counts = expected.setdefault(entry, [0, 0, 0])
            counts[0] += 1
            counts[1] += set(text["rejected_by"]) <= {"metaclip"}
            counts[2] += text["kept"]
    assert {entry: [row["texts"], row["passed"], row["kept"]] for entry, row in found.items()} == expected
    assert all(row["kept"] <= row["passed"] <= row["texts"] for row in found.values())
    names = {row["entry_id"]: row["entry"] for row in rows(finished, "select entry_id, entry from entries")}
    assert all(row["entry"] == names[entry] is not None for entry, row in found.items())


def test_a_store_with_links_only(finished: Path, tmp_path: Path) -> None:
    empty = {"tables": {}, "signals": {}, "versions": [], "policy_name": None, "recipe": None}
    store = copied(finished, tmp_path, **empty)
    shutil.rmtree(store / "runs")
    _, page = page_of(store)
    assert "Nothing is selected yet." in page.text
    assert page.named("img") == []
    assert f"{rows(finished, 'select count(*) as n from texts')[0]['n']:,}" in page.text


def test_a_store_after_the_download(finished: Path, tmp_path: Path) -> None:
    tables = json.loads((finished / "state.json").read_text())["tables"]
    store = copied(finished, tmp_path, tables={"media": tables["media"]}, signals={}, versions=[])
    _, page = page_of(store)
    assert "Failed and refused media" in page.text
    assert "Rules" not in page.text


def test_a_policy_that_keeps_nothing(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    store = copied(hostile[0], tmp_path, versions=[])
    run(store, recipe(tmp_path / "r.yaml", [{"rule": "never", "keep": "false"}]), hostile[1])
    _, page = page_of(store)
    assert "The policy keeps nothing" in page.text
    assert "never" in page.text
    assert len(page.named("img")) > 0


def test_training_and_evaluation_beside_chance(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    store = copied(hostile[0], tmp_path)
    folder = store / "models" / "tiny-0123"
    folder.mkdir(parents=True)
    facts = {"num_steps": 30, "num_samples": 4, "num_texts": 5, "num_parameters": 1234, "seconds": 75.0, "version": "v"}
    (folder / "result.json").write_text(json.dumps(facts))
    lines = [{"step": step, "loss": 5 / step} for step in range(1, 31)] + [{"step": 31, "loss": float("nan")}]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    row = {"run": "tiny-0123", "version": "v", "suite": "held_out_pictures", "direction": "text_to_image"}
    row |= {"n": 50, "num_candidates": 20}
    found = [
        {**row, "metric": "recall_at_1", "language": None, "value": 0.31, "lo": 0.2, "hi": 0.42, "chance": 0.05},
        {**row, "metric": "median_rank", "language": None, "value": 3.0, "lo": 2.0, "hi": 4.0, "chance": 10.0},
        {**row, "metric": "recall_at_5", "language": "de", "value": 0.5, "lo": 0.4, "hi": 0.6, "chance": 0.25},
        {**row, "metric": "modality_gap", "language": None, "value": 0.7, "lo": 0.6, "hi": 0.8, "chance": 0.1},
    ]
    write_parquet(folder / "evaluation-abc.parquet", pa.Table.from_pylist(found, schema=FIGURES), {})
    _, page = page_of(store)
    assert "Loss 5.000 at the first step, 0.167 at the last." in page.text
    assert "R@1 31.0% 5.0%" in page.text
    assert "median rank 3 10" in page.text
    assert "de 50%" in page.text
    assert {"class": "chart", "viewbox": "0 0 520 250", "role": "img", "aria-label": "Training loss"} in page.named(
        "svg"
    )


def test_the_histogram_marks_the_cut_of_a_top_rule(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    store = copied(hostile[0], tmp_path)
    run(store, recipe(tmp_path / "r.yaml", [{"top": "longest", "by": "num_words", "fraction": 0.5}]), hostile[1])
    _, page = page_of(store)
    cut = rows(
        store, "select min(num_words) as n from candidates join decisions using (text_uid) where kept and num_words > 0"
    )[0]["n"]
    assert f"cut {cut}" in page.text
    assert "top 50% by num_words" in page.text


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (report_charts.Axis(0, 100, ""), [0, 20, 40, 60, 80, 100]),
        (report_charts.Axis(-0.1, 0.32, ""), [-0.1, 0, 0.1, 0.2, 0.3]),
        (report_charts.Axis(1, 5000, "", is_log=True), [1, 10, 100, 1000]),
    ],
)
def test_ticks_are_round(axis: report_charts.Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks, abs=1e-9)


def test_charts_of_few_values_have_an_extent() -> None:
    assert "polyline" in report_charts.ranks([1], [])
    assert "polyline" in report_charts.head_shares([1], [])
    assert "polyline" in report_charts.losses([(1.0, 2.0), (2.0, 2.0)])
    assert "<rect" in report_charts.histogram([(0.0, 1.0, 3, 0), (1.0, 2.0, 0, 0)], "value", cut=1.5)
