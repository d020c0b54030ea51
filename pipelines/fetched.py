"""What the fetcher is asked and what it answers: one link on its way, and what became of it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from curation.reasons import Reason
from curation.urls import host_of, origin_of, registrable_domain


@dataclass(frozen=True, slots=True)
class Validators:
    """What an earlier answer said of its bytes (RFC 9110, 8.8), for a request that wants them only if they changed.

    url: the URL that gave that answer; another one, a redirect on the way to it, is not asked so.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None

    def headers(self, url: str) -> list[str]:
        """Of a request to `url`. A value that is more than plain text is left out: it came from a stranger."""
        found = [("If-None-Match", self.etag), ("If-Modified-Since", self.last_modified)] if url == self.url else []
        return [f"{name}: {value}" for name, value in found if value and value.isascii() and value.isprintable()]


@dataclass(frozen=True, slots=True)
class Link:
    """What the fetcher is asked for.

    part: whose link it is; the limit on the time that one host may take holds for each part. failed_before: whether it
    failed in an earlier run, so that an answer which says so again is no news of its origin. validators: its bytes are
    wanted only if they changed since.
    """

    url: str
    part: int = 0
    failed_before: bool = False
    validators: Validators | None = None


@dataclass(slots=True)
class Fetched:
    """What became of one link.

    url: as given. final_url: the last URL asked for, None if none was. status: "ok"; "failed"; "refused", where this
    project or the source said no (`url.*`, `policy.*`, blocked addresses, ports and redirects). reason: None if ok.
    detail: at most 200 characters, the same in every run, from the server in part and so not to be trusted.
    http_status, content_type: of the last answer; the type is a claim. body, sha256 (64 hex digits): None unless ok; of
    bytes on a list of known bad ones the digest alone. body_path: in place of `body`, beyond the memory cap, a
    temporary file that is the caller's to remove. consent: what the files of the last origin said
    (`pipelines.site_rules`), None where nothing was looked up. etag, last_modified: as the server gave them.
    is_unchanged: ok without a body, because the bytes are those that the link's validators speak of. num_redirects:
    hops of the last attempt. num_attempts: 0 if nothing was asked.
    """

    url: str
    final_url: str | None = None
    status: str = "failed"
    reason: str | None = None
    detail: str | None = None
    http_status: int | None = None
    content_type: str | None = None
    body: bytes | None = None
    body_path: Path | None = None
    sha256: str | None = None
    consent: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    is_unchanged: bool = False
    num_redirects: int = 0
    num_attempts: int = 0

    def digest(self, algorithm: str) -> bytes:
        """Of the body, wherever it is."""
        if algorithm == "sha256" and self.sha256 is not None:
            return bytes.fromhex(self.sha256)
        if self.body_path is None:
            return hashlib.new(algorithm, self.body or b"", usedforsecurity=False).digest()
        with self.body_path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).digest()

    def num_bytes(self) -> int:
        """Of the body, wherever it is."""
        return len(self.body or b"") if self.body_path is None else self.body_path.stat().st_size

    def take_body(self) -> bytes | None:
        """The body in memory; its file, if it has one, is removed."""
        body = self.body if self.body_path is None else self.body_path.read_bytes()
        self.drop_body()
        return body

    def drop_body(self) -> None:
        """Forget the body, and remove its file if it has one."""
        if self.body_path is not None:
            self.body_path.unlink(missing_ok=True)
        self.body = self.body_path = None


@dataclass(eq=False, slots=True)
class Job:
    """A link on its way, or a file that speaks for an origin.

    index: of the link among those of the call. first, hop: the canonical URL, and the one to ask for next. file: name
    of the file (`pipelines.site_rules.PATHS`), None for a link. rules_of: the origin that the file is for. found: the
    files of that origin so far. led_by: `redirected_from` of the link that wants them,
    None for a link of the table itself. failure: reason and detail of the attempt before this one. part, failed_before,
    validators: as the link has them.
    """

    index: int
    first: str
    out: Fetched
    hop: str = ""
    file: str | None = None
    rules_of: str = ""
    found: dict[str, bytes | None] = field(default_factory=dict)
    led_by: tuple[str, int] | None = None
    seen: set[str] = field(default_factory=set)
    redirected_from: tuple[str, int] | None = None
    is_fresh: bool = False
    spent_s: float = 0.0
    started_at: float = 0.0
    part: int = 0
    failed_before: bool = False
    validators: Validators | None = None
    failure: tuple[Reason | None, str | None] | None = None
    origin: str = field(init=False)
    host: str = field(init=False)

    def __post_init__(self) -> None:
        self.go_to(self.hop or self.first, self.redirected_from)

    def go_to(self, url: str, redirected_from: tuple[str, int] | None) -> None:
        """Set the next hop, with what it means for queues and rules."""
        self.hop, self.redirected_from = url, redirected_from
        self.origin = origin_of(url)
        self.host = registrable_domain(host_of(url))

    def start_again(self) -> None:
        """Back to the beginning, for another attempt."""
        self.go_to(self.first, self.led_by)
        self.seen, self.spent_s, self.out.num_redirects = set(), 0.0, 0
