"""`tamis run --retry-failed`: what may have healed is asked for again, alone; all else stays as it is."""

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from curation.reasons import Reason
from curation.table import read_part
from flows.main_job import Options, load, perform
from pipelines.plan import plan
from pipelines.retry_failed import is_worth_retrying
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.workers import SerialWorkers
from tests.pipelines import loopback
from tests.stores import digests, last_run, links_file, options, recipe, rows, tamis

FILES = {"/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"}


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (number * 9 % 255, 99, 40)).save(out, "PNG")
    return out.getvalue()


class Crawl:
    """A server of 12 pictures of which some fail while `is_down`, and one that is never there."""

    FAILING = ("/3", "/7")

    def __init__(self, server: Any, folder: Path) -> None:
        self.server, self.folder, self.is_down = server, folder, True
        for number in range(12):
            server.routes[f"/{number}"] = self._route(f"/{number}", picture(number))
        server.routes["/no"] = lambda r: r.reply(b"x", headers={"X-Robots-Tag": "noai"})
        paths = [*(f"/{number}" for number in range(12)), "/gone", "/no"]
        self.links = links_file(folder / "links.parquet", [(server.url(path), f"picture {path[1:]}") for path in paths])
        fetch = {"retries": 1, "backoff_s": 0.01, "requests_per_second_per_host": 10_000, "circuit_pause_s": 0.3}
        self.recipe = recipe(folder / "r.yaml", samples_per_part=5, download={"fetch": fetch, "outage_links": 0})
        self.store = folder / "store"

    def _route(self, path: str, body: bytes) -> Any:
        return lambda r: r.reply(b"", 503) if self.is_down and path in self.FAILING else r.reply(body)

    def run(self, retry: bool = False) -> dict[str, dict[str, Any]]:
        """One run; returns what each stage did."""
        self.server.hits.clear()
        wanted: Options = options(self.store, self.recipe, [self.links])
        perform(dataclasses.replace(wanted, retry_failed=retry), lambda _: None)
        return {each["stage"]: each for each in last_run(self.store)["stages"]}

    def asked(self) -> dict[str, int]:
        return {path: count for path, count in self.server.hits.items() if path not in FILES}

    def outcome(self) -> dict[str, str | None]:
        found = rows(self.store, "select url, reason from media")
        return {"/" + row["url"].rpartition("/")[2]: row["reason"] for row in found}


@pytest.fixture
def crawl(tmp_path: Path) -> Iterator[Crawl]:
    with loopback.Server() as server:
        yield Crawl(server, tmp_path)


def test_only_what_may_have_healed_is_asked_for_again(crawl: Crawl) -> None:
    first = crawl.run()
    assert crawl.asked() == {f"/{i}": 1 for i in range(12)} | {"/3": 2, "/7": 2, "/gone": 1, "/no": 1}
    failed = {"/3": "http.5xx", "/7": "http.5xx", "/gone": "http.4xx_gone", "/no": "policy.x_robots"}
    assert {path: reason for path, reason in crawl.outcome().items() if reason} == failed
    before = {row["url"]: row for row in rows(crawl.store, "select * from media")}
    parts = digests(crawl.store / "tables" / "media")

    crawl.is_down = False
    again = crawl.run(retry=True)
    assert crawl.asked() == {"/3": 1, "/7": 1}
    counts = again["download"]["counts"]
    num_parts = counts["parts_retried"]
    assert (counts["rows_retried"], counts["rows_changed"]) == (2, 2)
    assert 1 <= num_parts <= 2
    assert {path: reason for path, reason in crawl.outcome().items() if reason} == {
        "/gone": "http.4xx_gone",
        "/no": "policy.x_robots",
    }
    after = {row["url"]: row for row in rows(crawl.store, "select * from media")}
    for url, row in before.items():
        if not url.endswith(("/3", "/7")):
            assert after[url] == row
    assert {
        name: digest for name, digest in digests(crawl.store / "tables" / "media").items() if name in parts
    } == parts

    # what follows ran for the changed parts alone
    assert first["score"]["parts_run"] == 5 * 3  # signals by parts
    assert again["score"]["parts_run"] < first["score"]["parts_run"]
    assert again["score"]["parts_reused"] > 0
    assert rows(crawl.store, "select count(*) as n from ledger where kept")[0]["n"] == 12


def test_plain_runs_keep_the_newest_and_ask_for_nothing(crawl: Crawl) -> None:
    crawl.run()
    crawl.is_down = False
    crawl.run(retry=True)
    media = rows(crawl.store, "select * from media order by media_uid")
    crawl.is_down = True  # going back would show
    for retry in (False, True, False):
        done = crawl.run(retry=retry)
        assert crawl.server.hits == {}
        assert rows(crawl.store, "select * from media order by media_uid") == media
        assert all(each["parts_run"] in (0, None) for each in done.values())
    store = Store.open(crawl.store)
    wanted = options(crawl.store, crawl.recipe, [crawl.links])
    lines = plan(Run(load(wanted), store, SerialWorkers(), store.state()))
    assert [line.to_run for line in lines if line.step == "download"] == ["0 parts"]
    assert tamis("verify", crawl.store).returncode == 0


def test_a_retry_that_changes_nothing_makes_nothing(crawl: Crawl) -> None:
    crawl.run()
    before = digests(crawl.store / "tables")
    done = crawl.run(retry=True)
    assert crawl.asked() == {"/3": 2, "/7": 2}
    assert done["download"]["counts"]["rows_changed"] == 0
    assert digests(crawl.store / "tables") == before


def test_many_failures_of_a_host_that_answers_stop_no_retry(crawl: Crawl) -> None:
    """Of 30 links that fail, the last heals: it is asked for, and the others keep their reasons."""
    crawl.server.routes |= {f"/bad{i}": (lambda r: r.reply(b"", 503)) for i in range(30)}
    links = [(crawl.server.url(f"/bad{i}"), f"a bad picture {i}") for i in range(30)]
    crawl.links = links_file(crawl.links.with_name("bad.parquet"), links)
    crawl.run()
    assert set(crawl.outcome().values()) <= {"http.5xx", "net.host_circuit_open"}  # who comes first is the uids' choice
    crawl.server.routes["/bad29"] = lambda r: r.reply(picture(1))
    done = crawl.run(retry=True)
    assert crawl.outcome() == {f"/bad{i}": "http.5xx" for i in range(29)} | {"/bad29": None}
    assert done["download"]["counts"]["rows_retried"] == 30


def test_one_that_heals_in_steps(crawl: Crawl) -> None:
    """Each retry follows the newest part, not the first."""
    crawl.run()
    crawl.server.routes["/3"] = lambda r: r.reply(picture(3))
    crawl.run(retry=True)
    assert crawl.asked() == {"/3": 1, "/7": 2}
    crawl.server.routes["/7"] = lambda r: r.reply(b"", 404)
    crawl.run(retry=True)
    assert crawl.asked() == {"/7": 1}
    crawl.run(retry=True)
    assert crawl.asked() == {}
    assert crawl.outcome()["/7"] == "http.4xx_gone"
    assert crawl.outcome()["/3"] is None
    files = rows(crawl.store, "select count(*) as n from media")
    assert files[0]["n"] == 14
    for name in Store.open(crawl.store).state().tables["media"]:
        part = read_part(crawl.store / name)
        assert part.num_rows in (4, 5)


def test_the_command_line(crawl: Crawl) -> None:
    crawl.run()
    crawl.is_down = False
    crawl.server.hits.clear()
    done = tamis(
        "run", crawl.recipe, "--store", crawl.store, "--links", crawl.links, "--allow-net", "127.0.0.0/8",
        "--address", "serial", "--retry-failed",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rows_changed 2" in done.stdout
    assert crawl.asked() == {"/3": 1, "/7": 1}


def test_what_is_worth_retrying() -> None:
    assert is_worth_retrying(Reason.NET_HOST_CIRCUIT_OPEN)
    assert is_worth_retrying("http.rate_limited")
    assert not is_worth_retrying("policy.robots")
    assert not is_worth_retrying(None)


def test_promised_digests_and_consent_stand_in_the_rows(tmp_path: Path) -> None:
    with loopback.Server() as server:
        server.routes |= {f"/{i}": (lambda r, i=i: r.reply(picture(i))) for i in range(4)}
        server.routes["/robots.txt"] = lambda r: r.reply(b"User-agent: *\nDisallow: /3")
        promised = [hashlib.md5(picture(0)).hexdigest().upper(), hashlib.sha256(picture(9)).hexdigest(), "", None]
        links = links_file(tmp_path / "l.parquet", [(server.url(f"/{i}"), "x y") for i in range(4)], md5=promised)
        columns = {"url": "url", "text": "caption", "language": "language", "extra": ["split"], "md5": "md5"}
        made = recipe(tmp_path / "r.yaml", source={"columns": columns})
        perform(options(tmp_path / "store", made, [links]), lambda _: None)
        found = rows(
            tmp_path / "store", "select url, reason, detail, consent, bytes is null as empty from media order by url"
        )
        assert [row["reason"] for row in found] == [None, "policy.hash_mismatch", None, "policy.robots"]
        assert found[1]["detail"] == "sha256 differs"
        assert [row["empty"] for row in found] == [False, True, False, True]
        assert found[0]["consent"] == "robots.txt=allow; ai.txt=absent; tdmrep.json=absent; rules=1"
        assert found[3]["consent"].startswith("robots.txt=deny")
        assert server.hits["/3"] == 0
        wrong = links_file(tmp_path / "w.parquet", [(server.url("/0"), "x")], md5=["12345"])
        refused = tamis("run", made, "--store", tmp_path / "other", "--links", wrong, "--address", "serial")
        assert refused.returncode == 2
        assert "no digest" in refused.stderr
        recipe(made, download={"fetch": {"deny_lists": ["nowhere.txt"]}})
        refused = tamis("run", made, "--store", tmp_path / "other", "--links", links, "--address", "serial")
        assert refused.returncode == 2
        assert "nowhere.txt" in refused.stderr
