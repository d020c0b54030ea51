"""`tamis run --refresh`: what is there is asked for again, politely; only what became another is stored anew."""

import dataclasses
import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.main_job import perform
from pipelines.fetched import Validators
from tests.pipelines import loopback
from tests.stores import digests, last_run, links_file, options, recipe, rows

DATE = "Wed, 01 Jan 2025 00:00:00 GMT"


def picture(number: int, side: int = 40) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side + number, 30), (number * 9 % 255, 99, 40)).save(out, "PNG")
    return out.getvalue()


class Site:
    """Pictures /0 to /9: even ones with an ETag, odd ones with a date, /8 and /9 with neither; /old leads to /1."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server, self.bodies = server, {f"/{n}": picture(n) for n in range(10)}
        self.answers: dict[str, Any] = {}
        for path in self.bodies:
            server.routes[path] = self._answer
        server.routes["/old"] = lambda r: r.reply(b"", 301, {"Location": server.url("/1")})
        links = links_file(
            folder / "links.parquet", [(server.url(path), f"picture {path[1:]}") for path in [*self.bodies, "/old"]]
        )
        fetch = {"retries": 0, "requests_per_second_per_host": 10_000}
        made = recipe(folder / "r.yaml", samples_per_part=4, download={"fetch": fetch})
        self.store, self.options = folder / "store", options(folder / "store", made, [links])

    def _answer(self, request: Any) -> None:
        if request.path in self.answers:
            self.answers[request.path](request)
            return
        body, number = self.bodies[request.path], int(request.path[1:])
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        given = {} if number >= 8 else {"ETag": tag} if number % 2 == 0 else {"Last-Modified": DATE}
        asked = request.headers
        is_known = asked.get("if-none-match") == tag if "ETag" in given else asked.get("if-modified-since") == DATE
        if given and is_known:
            request.send(b"HTTP/1.1 304 -\r\n" + f"ETag: {tag}\r\n\r\n".encode())
            request.keep_open = True
        else:
            request.reply(body, headers=given)

    def run(self, refresh: bool = True) -> dict[str, Any]:
        self.server.seen.clear()
        perform(dataclasses.replace(self.options, refresh=refresh), lambda _: None)
        counts: dict[str, Any] = last_run(self.store)["stages"][1]["counts"]
        return counts

    def media(self) -> dict[str, dict[str, Any]]:
        found = rows(self.store, "select * from media")
        return {"/" + row["url"].rpartition("/")[2]: row for row in found}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with loopback.Server() as server:
        yield Site(server, tmp_path)


def test_where_nothing_changed_no_byte_is_sent_and_nothing_is_written(site: Site) -> None:
    site.run(refresh=False)
    before, parts = site.media(), digests(site.store / "tables")
    assert [before["/2"]["etag"] is None, before["/8"]["etag"]] == [False, None]
    assert before["/3"]["last_modified"] == DATE
    counts = site.run()
    assert (counts["rows_refreshed"], counts["rows_unchanged"], counts["parts_refreshed"]) == (11, 11, 0)
    conditional = {r.path for r in site.server.seen if {"if-none-match", "if-modified-since"} & r.headers.keys()}
    assert conditional == {f"/{n}" for n in range(8)}  # not /old, which gave no bytes; not those without validators
    assert site.media() == before
    assert digests(site.store / "tables") == parts


def test_other_bytes_and_withdrawn_pictures_take_the_place_of_the_old(site: Site) -> None:
    site.run(refresh=False)
    before, parts = site.media(), digests(site.store / "tables" / "media")
    site.bodies["/2"] = picture(2, side=60)
    site.bodies["/9"] = picture(9, side=60)
    site.answers["/4"] = lambda r: r.reply(b"gone", 410)
    site.answers["/6"] = lambda r: r.reply(picture(6), headers={"X-Robots-Tag": "noai"})
    site.answers["/0"] = lambda r: r.reply(b"", 503)
    counts = site.run()
    told = {name: counts[f"rows_{name}"] for name in ("unchanged", "changed", "lost", "not_reached")}
    assert told == {"unchanged": 6, "changed": 2, "lost": 2, "not_reached": 1}
    after = site.media()
    became = {path: (row["status"], row["reason"]) for path, row in after.items() if row != before[path]}
    assert became == {
        "/2": ("ok", None),
        "/9": ("ok", None),
        "/4": ("failed", "http.4xx_gone"),
        "/6": ("refused", "policy.x_robots"),
    }
    for path in became:
        assert after[path]["replaced_sha256"] == before[path]["sha256"]
    assert bytes(after["/2"]["bytes"]) == site.bodies["/2"]
    assert after["/4"]["bytes"] is None
    assert digests(site.store / "tables" / "media").items() >= parts.items()  # a part never changes
    ledger = rows(site.store, "select url, kept, replaced_sha256 from ledger where replaced_sha256 is not null")
    assert {(row["url"].rpartition("/")[2], row["kept"]) for row in ledger} == {
        ("2", True),
        ("9", True),
        ("4", False),
        ("6", False),
    }

    written = digests(site.store / "tables" / "media")
    site.run(refresh=False)  # takes the newest parts and asks for nothing
    assert site.server.seen == []
    site.answers.clear()
    counts = site.run()
    assert (counts["rows_unchanged"], counts["rows_changed"], counts["parts_refreshed"]) == (9, 0, 0)
    assert digests(site.store / "tables" / "media") == written


def test_an_opt_out_on_an_answer_without_bytes_is_heard(site: Site) -> None:
    site.run(refresh=False)
    site.answers["/2"] = lambda r: r.send(b"HTTP/1.1 304 -\r\nX-Robots-Tag: noai\r\n\r\n")
    assert site.run()["rows_lost"] == 1
    assert site.media()["/2"]["reason"] == "policy.x_robots"


def test_a_304_that_nobody_asked_for_is_no_answer(site: Site) -> None:
    site.answers["/2"] = lambda r: r.send(b"HTTP/1.1 304 -\r\n\r\n")
    site.run(refresh=False)
    assert site.media()["/2"]["reason"] == "http.bad_response"


def test_validators_are_sent_to_their_url_only_and_only_as_plain_text() -> None:
    known = Validators("http://a/x", '"tag"', DATE)
    assert known.headers("http://a/x") == ['If-None-Match: "tag"', f"If-Modified-Since: {DATE}"]
    assert known.headers("http://a/y") == []
    assert Validators("http://a/x", '"t\r\nX: y"', "\u00e9").headers("http://a/x") == []
