"""Pages that show videos or play sounds -> links of the media themselves, found by yt-dlp's extractors.

yt-dlp (an optional package) reads pages; it never opens a connection. Its only request handler is the guarded fetcher,
so addresses, robots.txt, opt-outs, rates and byte caps hold for whatever an extractor asks for. What it finds becomes a
link table, which the stage `download` fetches as any other. Plain GETs only: sites that want a log-in, cookies, POST or
a script engine are not resolved, and say so.
"""

from __future__ import annotations

import io
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from curation.av.subtitles import decoded
from curation.reasons import Reason
from curation.step import Step
from pipelines.fetch import Fetcher
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched

MAX_DETAIL_CHARS = 200
SUBTITLE_FORMATS = ("vtt", "srt")


class PageOptions(Step):
    """What is taken of a page."""

    fetch: FetchOptions = FetchOptions(max_bytes=10_000_000)
    """Of pages and subtitles, not of media."""
    max_media: int = 20
    """Of one page; a playlist's first ones."""
    max_height_px: int | None = 1080
    """The best format up to this height is taken; None: the best."""
    timeout_s: float = 120.0
    """For one page with all requests that its extractor makes."""
    extractors: tuple[str, ...] = ("default",)
    """yt-dlp's `allowed_extractors`: names or regular expressions; `generic` reads any page."""


@dataclass
class Found:
    """One medium of a page, or why there is none: reason is a code of `curation.reasons`, None where `url` is set."""

    page: str
    url: str | None = None
    title: str | None = None
    description: str | None = None
    language: str | None = None
    reason: str | None = None
    detail: str | None = None
    subtitles: list[tuple[str | None, str]] = field(default_factory=list)
    """(language, whole SRT or WebVTT file)."""


class _OutOfTime(BaseException):
    """Not an Exception, for extractors catch those."""


def media_of_pages(pages: Sequence[str], options: PageOptions | None = None) -> Iterator[Found]:
    """What each page holds, in their order; at least one entry for each. For the main thread (it uses a timer).

    Raises ImportError where yt-dlp is not installed.
    """
    options = options or PageOptions()
    with Fetcher(options.fetch) as fetcher:
        guarded = _extractor(fetcher, options)
        try:
            for page in pages:
                yield from _of_page(page, guarded, fetcher, options)
        finally:
            guarded.close()


def _of_page(page: str, guarded: Any, fetcher: Fetcher, options: PageOptions) -> list[Found]:
    import yt_dlp

    guarded.failures, guarded.direct = [], None
    try:
        with _time_limit(options.timeout_s):
            info = guarded.extract_info(page, download=False)
            entries = [info] if info and "entries" not in info else list((info or {}).get("entries") or [])
            found = [_medium(page, each, fetcher, options) for each in entries[: options.max_media] if each]
    except _OutOfTime:
        return [Found(page, reason=Reason.DL_DEADLINE.value, detail=f"more than {options.timeout_s:g} s")]
    except yt_dlp.utils.YoutubeDLError as error:
        if guarded.direct is not None:
            return [Found(page, url=guarded.direct)]
        return [Found(page, reason=_reason(error, guarded.failures), detail=_words(error, guarded.failures))]
    return found or [Found(page, reason=Reason.AV_NO_STREAM.value, detail="no medium on the page")]


def _extractor(fetcher: Fetcher, options: PageOptions) -> Any:
    import yt_dlp

    class Guarded(yt_dlp.YoutubeDL):  # type: ignore[misc]
        """yt-dlp without a network of its own."""

        failures: list[Fetched]
        """Requests of the page at hand that failed."""
        direct: str | None
        """The page itself, where it is a medium that is larger than pages may be."""

        def build_request_director(self, _handlers: Any, _preferences: Any = None) -> Any:
            """Nothing but the guarded fetcher."""
            return super().build_request_director([_handler(fetcher, self)])

    heights = "" if options.max_height_px is None else f"[height<=?{options.max_height_px}]"
    formats = "/".join(f"{kind}[protocol^=http][protocol!*=dash]{heights}" for kind in ("best", "bestaudio", "best*"))
    made = Guarded(
        {
            "quiet": True, "no_warnings": True, "logger": _Silent(), "noplaylist": False, "cachedir": False,
            "skip_download": True, "check_formats": False, "playlistend": options.max_media, "format": formats,
            "allowed_extractors": list(options.extractors), "socket_timeout": options.fetch.total_timeout_s,
            "extractor_retries": 0, "js_runtimes": {}, "enable_file_urls": False, "color": {"stdout": "never"},
        },
        auto_init=False,
    )  # fmt: skip
    made.add_default_info_extractors()
    return made


def _handler(fetcher: Fetcher, owner: Any) -> Any:
    """A class of yt-dlp's request handlers that sends everything through the guarded fetcher."""
    from yt_dlp.networking.common import RequestHandler, Response
    from yt_dlp.networking.exceptions import HTTPError, TransportError, UnsupportedRequest

    class FetcherRH(RequestHandler):  # type: ignore[misc]
        _SUPPORTED_URL_SCHEMES = ("http", "https")
        _SUPPORTED_PROXY_SCHEMES = ()

        def _check_extensions(self, extensions: dict[str, Any]) -> None:
            extensions.clear()  # time-outs, cookies and client imitation are not ours to give

        def _check_proxies(self, _proxies: Any) -> None:
            return

        def _send(self, request: Any) -> Any:
            if request.data is not None or request.method not in ("GET", "HEAD"):
                raise UnsupportedRequest(f"{request.method} requests are not made")
            (got,) = fetcher.fetch_many([request.url])
            body = got.take_body()
            headers = {"Content-Type": got.content_type or ""}
            where = got.final_url or request.url
            if got.reason is None:
                return Response(io.BytesIO(body or b""), where, headers, status=got.http_status or 200)
            owner.failures.append(got)
            is_medium = (got.content_type or "").startswith(("video/", "audio/"))
            if got.reason == Reason.DL_TOO_LARGE.value and is_medium:
                owner.direct = where
            if got.http_status is not None and got.http_status >= 400:
                raise HTTPError(Response(io.BytesIO(b""), where, headers, status=got.http_status))
            raise TransportError(f"{got.reason}: {got.detail}")

    return FetcherRH


class _Silent:
    """yt-dlp's messages go nowhere; what matters is in its exceptions."""

    def debug(self, _message: str) -> None: ...

    info = warning = error = debug


def _medium(page: str, info: dict[str, Any], fetcher: Fetcher, options: PageOptions) -> Found:
    url, protocol = info.get("url"), str(info.get("protocol") or "https")
    if info.get("is_live") or not url or protocol not in ("http", "https"):
        what = "a live stream" if info.get("is_live") else f"protocol {protocol!r}, only whole files are taken"
        return Found(page, reason=Reason.AV_PROTOCOL_BLOCKED.value, detail=what)
    found = Found(page, url, _text(info.get("title")), _text(info.get("description")), _text(info.get("language")))
    for language, files in sorted((info.get("subtitles") or {}).items()):
        chosen = next((each for kind in SUBTITLE_FORMATS for each in files if each.get("ext") == kind), None)
        body = _subtitles(chosen, fetcher)
        if body is not None and len(found.subtitles) < options.max_media:
            found.subtitles.append((language, body))
    return found


def _subtitles(file: dict[str, Any] | None, fetcher: Fetcher) -> str | None:
    if file is None:
        return None
    if file.get("data") is not None:
        return str(file["data"])
    if not file.get("url"):
        return None
    (got,) = fetcher.fetch_many([file["url"]])
    body = got.take_body()
    return None if body is None or got.reason is not None else decoded(body)


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _reason(error: Exception, failures: Sequence[Fetched]) -> str:
    """The code of the last request that failed, else what the extractor's error means."""
    from yt_dlp.utils import GeoRestrictedError, UnsupportedError

    cause = (getattr(error, "exc_info", None) or (None, error))[1]
    if isinstance(cause, GeoRestrictedError):
        return Reason.HTTP_FORBIDDEN.value
    if failures and failures[-1].reason is not None:
        return failures[-1].reason
    words = str(error).lower()
    if not isinstance(cause, UnsupportedError) and any(each in words for each in ("log in", "login", "private", "drm")):
        return Reason.HTTP_FORBIDDEN.value
    return Reason.AV_NO_STREAM.value


def _words(error: Exception, failures: Sequence[Fetched]) -> str:
    if failures and failures[-1].detail:
        return failures[-1].detail
    return str(error).removeprefix("ERROR: ").partition(";")[0][:MAX_DETAIL_CHARS]


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises _OutOfTime in this (the main) thread once the seconds are over, within a regular expression too."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
