"""Pages through yt-dlp's generic extractor and the guarded fetcher, on loopback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.fetch_options import FetchOptions
from pipelines.page_links import Found, PageOptions, media_of_pages
from pipelines.page_table import resolve
from pipelines.sources import SourceError
from tests.curation.av import media
from tests.pipelines import loopback
from tests.stores import links_file

pytest.importorskip("yt_dlp")

OPTIONS = PageOptions(
    fetch=FetchOptions(allow_networks=("127.0.0.0/8",), max_bytes=50_000, retries=0, total_timeout_s=5),
)
VTT = "WEBVTT\n\n00:00.500 --> 00:01.500\nwords\n"
HTML = {"Content-Type": "text/html"}


@pytest.fixture(scope="module")
def server() -> Iterator[loopback.Server]:
    film, large = media.small("mp4", 0.5), media.small("mp4", 0.5) + bytes(100_000)
    page = (
        "<html><head><title>A film</title><meta property='og:title' content='A film'></head><body>"
        "<video><source src='/film.mp4' type='video/mp4'><track kind='subtitles' srclang='en' src='/words.vtt'></video>"
    )
    with loopback.Server() as it:
        it.routes["/film.mp4"] = lambda r: r.reply(film, headers={"Content-Type": "video/mp4"})
        it.routes["/large.mp4"] = lambda r: r.reply(large, headers={"Content-Type": "video/mp4"})
        it.routes["/words.vtt"] = lambda r: r.reply(VTT.encode(), headers={"Content-Type": "text/vtt"})
        it.routes["/page"] = lambda r: r.reply(page.encode(), headers=HTML)
        it.routes["/empty"] = lambda r: r.reply(b"<html><title>Nothing</title>", headers=HTML)
        inward = b"<html><title>x</title><video src='http://10.0.0.1/a.mp4'></video>"
        it.routes["/inward"] = lambda r: r.reply(inward, headers=HTML)
        it.routes["/refused"] = lambda r: r.reply(page.encode(), headers=HTML)
        it.routes["/robots.txt"] = lambda r: r.reply(b"User-agent: *\nDisallow: /refused\n")
        it.routes["/huge"] = lambda r: r.reply(b"<html>" + bytes(60_000), headers=HTML)
        it.routes["/away"] = lambda r: r.reply(b"", 302, {"Location": "http://10.0.0.1/"})
        yield it


@pytest.fixture(scope="module")
def found(server: loopback.Server) -> dict[str, list[Found]]:
    names = ["page", "film.mp4", "large.mp4", "empty", "missing", "refused", "huge", "away", "inward"]
    pages = {server.url(f"/{name}"): name for name in names}
    pages |= {"http://10.0.0.1/page": "private", "file:///etc/passwd": "file"}
    by_name: dict[str, list[Found]] = {}
    for each in media_of_pages(list(pages), OPTIONS):
        by_name.setdefault(pages[each.page], []).append(each)
    assert set(by_name) == set(pages.values()), "every page has an entry"
    return by_name


def test_the_media_of_a_page(server: loopback.Server, found: dict[str, list[Found]]) -> None:
    (film,) = found["page"]
    assert (film.url, film.title, film.reason) == (server.url("/film.mp4"), "A film (1)", None)
    assert found["film.mp4"][0].url == server.url("/film.mp4")
    assert found["large.mp4"][0].url == server.url("/large.mp4")  # larger than a page may be, but a medium
    assert film.subtitles == [("en", VTT)]


def test_pages_without_media_say_why(found: dict[str, list[Found]]) -> None:
    assert {name: each[0].reason for name, each in found.items() if each[0].url is None} == {
        "empty": "av.no_stream",
        "missing": "http.4xx_gone",
        "refused": "policy.robots",
        "huge": "dl.too_large",
        "away": "net.blocked_address",
        "private": "net.blocked_address",
        "file": "av.no_stream",
    }
    assert all(each[0].detail for each in found.values() if each[0].url is None)
    # what a page points at is judged when it is fetched
    assert found["inward"][0].url == "http://10.0.0.1/a.mp4"


def test_a_page_that_takes_too_long(server: loopback.Server) -> None:
    server.routes["/slow"] = lambda r: None if r.server.is_closing else __import__("time").sleep(3)
    (found,) = media_of_pages([server.url("/slow")], OPTIONS.changed(timeout_s=0.5))
    assert found.reason == "dl.deadline"


def test_the_command_writes_a_link_table(server: loopback.Server, tmp_path: Path) -> None:
    pages = links_file(tmp_path / "pages.parquet", [(server.url("/page"), ""), (server.url("/missing"), "")])
    out = tmp_path / "links.parquet"
    command = [sys.executable, "-m", "flows.cli", "pages", str(pages), "-o", str(out), "--allow-net", "127.0.0.0/8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 pages: 1 media in ")
    rows = pq.read_table(out).to_pylist()
    assert [(row["url"], row["title"], row["reason"]) for row in rows] == [
        (server.url("/film.mp4"), "A film (1)", None),
        (server.url("/film.mp4"), None, None),
        (None, None, "http.4xx_gone"),
    ]
    assert rows[1]["subtitles"] == VTT


@pytest.mark.parametrize(
    ("table", "output", "said"),
    [
        ("p.parquet", "out.txt", "must be .parquet"),
        ("gone.parquet", "o.parquet", "no such file"),
        ("p.txt", "o.parquet", "ending"),
    ],
)
def test_wrong_names_are_told_before_a_page_is_asked_for(tmp_path: Path, table: str, output: str, said: str) -> None:
    for name in ("p.parquet", "p.txt"):
        pq.write_table(pa.table({"url": ["http://127.0.0.1:9/"]}), tmp_path / name)
    with pytest.raises(SourceError, match=said):
        resolve(tmp_path / table, "url", tmp_path / output, PageOptions())
    assert not (tmp_path / output).exists()
