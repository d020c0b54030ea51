"""Several parts through one fetcher: the rows that each would have alone, and none waits for another's slow host."""

import io
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines import fetch_parts as module
from pipelines.download_options import Download
from pipelines.fetch_options import FetchOptions
from pipelines.fetch_parts import OpenPart, fetch_parts
from tests.pipelines import loopback

PICTURE = io.BytesIO()
Image.new("RGB", (30, 20), "red").save(PICTURE, "PNG")
DOWNLOAD = Download(fetch=FetchOptions(allow_networks=("127.0.0.0/8",), retries=0, requests_per_second_per_host=10_000))


@pytest.fixture
def server() -> Iterator[Any]:
    with loopback.Server() as server:
        server.routes["/ok"] = lambda r: r.reply(PICTURE.getvalue())
        server.routes["/bad"] = lambda r: r.reply(b"<html>")
        server.routes["/slow"] = slow
        yield server


def slow(request: Any) -> None:
    request.server.sleep(1.0)
    request.reply(PICTURE.getvalue())


def link(url: str, number: int) -> dict[str, Any]:
    is_url = url.startswith("http")
    return {
        **{"media_uid": f"m{number}", "sample_uid": f"s{number}", "role": "primary", "modality": "image", "url": url},
        **{"url_canonical": url if is_url else None, "url_reason": None if is_url else "url.bad_scheme"},
        "expected_hash": None,
    }


class Parts:
    """Parts of the given URLs, what became of their rows, and when each was opened and ended."""

    def __init__(self, *urls: list[str]) -> None:
        self.urls = urls
        self.rows: list[dict[int, dict[str, Any]]] = [{} for _ in urls]
        self.events: list[tuple[str, int]] = []
        self.began = time.monotonic()
        self.ended_s: dict[int, float] = {}

    def __iter__(self) -> Iterator[OpenPart]:
        for number, urls in enumerate(self.urls):
            self.events.append(("opened", number))
            links = [link(url, i) for i, url in enumerate(urls)]
            yield OpenPart(number, links, self.rows[number].__setitem__, partial(self._end, number))

    def _end(self, number: int) -> None:
        self.events.append(("ended", number))
        self.ended_s[number] = time.monotonic() - self.began
        assert len(self.rows[number]) == len(self.urls[number])

    def fetch(self, folder: Path, settings: Download = DOWNLOAD) -> None:
        fetch_parts(iter(self), settings, 1, f"run {id(self)}", folder)


def test_together_each_part_has_the_rows_that_it_has_alone(server: Any, tmp_path: Path) -> None:
    ok, bad, none = server.url("/ok"), server.url("/bad"), server.url("/none")
    urls = [[ok, bad], [], ["ftp://x/", none, f"{ok}?2"], ["ftp://y/"], [f"{ok}?{i}" for i in range(40)]]
    together = Parts(*urls)
    together.fetch(tmp_path)
    assert sorted(together.ended_s) == list(range(len(urls)))
    for number, each in enumerate(urls):
        alone = Parts(each)
        alone.fetch(tmp_path)
        assert together.rows[number] == alone.rows[0]
    assert [row["reason"] for _, row in sorted(together.rows[2].items())] == ["url.bad_scheme", "http.4xx_gone", None]


def test_a_slow_host_holds_up_its_own_part_only(server: Any, tmp_path: Path) -> None:
    parts = Parts([server.url("/slow"), server.url("/ok")], *([server.url(f"/ok?{i}")] for i in range(5)))
    parts.fetch(tmp_path)
    assert parts.ended_s[0] >= 1.0
    assert all(parts.ended_s[number] < 0.9 for number in range(1, 6))


def test_no_more_parts_are_open_than_have_room(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_OPEN_ROWS", 8)
    parts = Parts(*([server.url(f"/ok?{n}-{i}") for i in range(5)] for n in range(12)))
    parts.fetch(tmp_path)
    num_open = most = 0
    for what, _ in parts.events:
        num_open += 1 if what == "opened" else -1
        most = max(most, num_open)
    assert (num_open, most) == (0, 2)


class Full(dict[int, dict[str, Any]]):
    def __setitem__(self, _: int, __: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")


def test_what_a_part_raises_ends_the_call_at_once(server: Any, tmp_path: Path) -> None:
    parts = Parts([server.url("/ok")], [server.url("/slow")])

    parts.rows[0] = Full()
    with pytest.raises(OSError, match="No space"):
        parts.fetch(tmp_path)
    assert time.monotonic() - parts.began < 0.9
