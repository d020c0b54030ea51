"""A run that reaches none of its links: it ends red, the store is whole, and the next run makes up for it."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from curation.reasons import Reason, ReasonClass
from flows.main_job import load, perform
from pipelines.download import download_key
from pipelines.download_options import Download
from pipelines.outage import NEVER_ASKED, Outage, is_unreached
from pipelines.plan import plan
from pipelines.stage import Run
from pipelines.store import Store
from pipelines.verify import verify_store
from pipelines.workers import SerialWorkers
from tests.pipelines import loopback
from tests.stores import last_run, links_file, options, recipe, rows, run_arguments, tamis

FETCH = {"retries": 0, "backoff_s": 0.01, "requests_per_second_per_host": 10_000, "circuit_pause_s": 0.05}
OLD = 6
NEW = 21
"""Links of the second table: one more than makes an outage."""


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40 + number, 30), (number * 9 % 255, 99, 40)).save(out, "PNG")
    return out.getvalue()


class Web:
    """A host of pictures that can be taken off the net, and a store of what was fetched from it."""

    def __init__(self, folder: Path) -> None:
        self.server: loopback.Server | None = None
        with loopback.Server() as probe:
            self.port = probe.port
        self.folder, self.store = folder, folder / "store"
        self.old = self.links("old", [f"/old/{i}" for i in range(OLD)])
        self.new = self.links("new", [f"/new/{i}" for i in range(NEW)])
        self.recipe = recipe(folder / "r.yaml", samples_per_part=40, download={"fetch": FETCH})

    def links(self, name: str, paths: list[str]) -> Path:
        pairs = [(f"http://127.0.0.1:{self.port}{path}", f"a picture of {path}") for path in paths]
        return links_file(self.folder / f"{name}.parquet", pairs)

    def up(self, missing: tuple[str, ...] = ()) -> None:
        """The host answers; with 404 for paths that begin as `missing` says."""
        self.server = loopback.Server(port=self.port)
        paths = [f"/old/{i}" for i in range(OLD)] + [f"/new/{i}" for i in range(NEW)]
        for number, path in enumerate(paths):
            if not path.startswith(missing or ("-",)):
                self.server.routes[path] = _answer(picture(number))
        self.server.__enter__()

    def down(self) -> None:
        if self.server is not None:
            self.server.__exit__(None, None, None)
            self.server = None

    def run(self, *links: Path, **changes: bool) -> dict[str, Any]:
        """One run; returns the counts of its download."""
        wanted = dataclasses.replace(options(self.store, self.recipe, list(links)), **changes)
        perform(wanted, lambda _: None)
        return self.counts()

    def counts(self) -> dict[str, Any]:
        (found,) = [each["counts"] for each in last_run(self.store)["stages"] if each["stage"] == "download"]
        return dict(found)

    def kept(self) -> int:
        return int(rows(self.store, "select count(*) as n from ledger where kept")[0]["n"])


def _answer(body: bytes) -> loopback.Handler:
    return lambda request: request.reply(body)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    found = Web(tmp_path)
    yield found
    found.down()


def problems(store: Path) -> list[str]:
    return verify_store(Store.open(store), lambda _: None)


def test_the_first_run_ends_where_nothing_is_there(web: Web) -> None:
    done = tamis(*run_arguments(web.store, web.recipe, web.new))
    assert done.returncode == 5
    (said,) = [line for line in done.stderr.splitlines() if line]
    assert f"outage: of {NEW} links that were asked for, {NEW} were not reached (net." in said
    record = last_run(web.store)
    assert (record["outcome"], [each["stage"] for each in record["stages"]]) == ("outage", ["ingest", "download"])
    reasons = {row["reason"] for row in rows(web.store, "select reason from ledger")}
    assert reasons <= {"net.connect_refused", "net.host_circuit_open"}
    assert reasons
    assert problems(web.store) == []

    web.up()
    counts = web.run(web.new)
    assert (counts["rows_retried"], counts["rows_changed"], counts["ok"]) == (NEW, NEW, NEW)
    assert web.kept() == NEW
    assert last_run(web.store)["outcome"] == "complete"
    assert not Store.open(web.store).state().outage


def test_a_store_that_grows_is_carried_to_the_end(web: Web) -> None:
    web.up()
    web.run(web.old)
    assert web.kept() == OLD
    before = rows(web.store, "select * exclude (bytes) from media order by media_uid")
    web.down()

    for _ in range(2):  # while it lasts, the retries say so, too
        with pytest.raises(Outage, match=f"of {NEW} links that were asked for, {NEW} were not reached"):
            web.run(web.old, web.new)
        record = last_run(web.store)
        assert record["outcome"] == "outage"
        assert record["stages"][-1]["stage"] == "pack"
        assert problems(web.store) == []
        assert web.kept() == OLD
        assert rows(web.store, "select count(*) as n from ledger")[0]["n"] == OLD + NEW

    store = Store.open(web.store)
    lines = plan(Run(load(options(web.store, web.recipe, [web.old, web.new])), store, SerialWorkers(), store.state()))
    assert any("the failures of an outage" in line.to_run for line in lines if line.step == "download")

    web.up()
    web.run(web.old, web.new)
    assert web.kept() == OLD + NEW
    found = {row["media_uid"]: row for row in rows(web.store, "select * exclude (bytes) from media")}
    assert all(found[row["media_uid"]] == row for row in before)
    counts = web.run(web.old, web.new)
    assert "rows_retried" not in counts
    assert counts["parts_run"] == 0


def test_a_refresh_that_reaches_nothing(web: Web) -> None:
    web.up()
    web.run(web.new)
    web.down()
    with pytest.raises(Outage, match=f"of {NEW} links that were asked for, {NEW} were not reached"):
        web.run(web.new, refresh=True)
    assert web.kept() == NEW
    assert problems(web.store) == []


def test_what_is_gone_is_no_outage(web: Web) -> None:
    """404 for all: somebody answered."""
    web.up(missing=("/new",))
    web.run(web.new)
    assert last_run(web.store)["outcome"] == "complete"


def test_links_that_have_been_dead_for_long_are_no_outage(web: Web) -> None:
    """Tried again on request, beside new ones that are fine, or alone."""
    web.recipe.write_text(yaml.safe_dump(_with(web.recipe, {"outage_links": 0})))
    web.run(web.new)
    assert (last_run(web.store)["outcome"], web.kept()) == ("complete", 0)
    web.recipe.write_text(yaml.safe_dump(_with(web.recipe, {"outage_links": OLD})))
    counts = web.run(web.new, retry_failed=True)
    assert (counts["rows_retried"], counts["rows_failed_again"]) == (NEW, NEW)
    web.up(missing=("/new",))
    assert web.run(web.new, web.old, retry_failed=True)["ok"] == OLD
    assert last_run(web.store)["outcome"] == "complete"


def test_a_few_links_say_nothing(web: Web) -> None:
    web.run(web.old)
    assert last_run(web.store)["outcome"] == "complete"


def _with(path: Path, download: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    found["download"] |= download
    return found


@pytest.mark.parametrize("reason", list(Reason))
def test_what_an_outage_may_have_kept_away(reason: Reason) -> None:
    """All that may pass, and names that do not exist; nothing that a host has answered or that was never asked."""
    assert is_unreached(reason) == (reason.cls is ReasonClass.TRANSIENT or reason == "net.dns_nxdomain")
    assert not (is_unreached(reason) and reason in NEVER_ASKED)
    assert (reason in NEVER_ASKED) <= (reason.stage in ("in", "url", "policy") or "blocked" in reason)


def test_the_threshold_is_no_part_of_the_key() -> None:
    """Else every picture would be fetched again for it."""
    assert download_key(Download()) == download_key(Download(outage_links=3, outage_share=0.5))
