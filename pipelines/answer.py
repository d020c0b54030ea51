"""What one request gave, and which reason code a status or one of libcurl's errors is."""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pycurl

from curation.reasons import Reason

MAX_DETAIL_CHARS = 200
REDIRECTS = (301, 302, 303, 307, 308)
WITH_BODY = (200, 203)
NOT_MODIFIED = 304

ERRORS = {
    pycurl.E_URL_MALFORMAT: Reason.URL_UNPARSABLE,
    pycurl.E_COULDNT_RESOLVE_HOST: Reason.NET_DNS_SERVFAIL,
    pycurl.E_COULDNT_CONNECT: Reason.NET_CONNECT_REFUSED,
    pycurl.E_INTERFACE_FAILED: Reason.NET_CONNECT_REFUSED,
    pycurl.E_PARTIAL_FILE: Reason.DL_LENGTH_MISMATCH,
    pycurl.E_OUT_OF_MEMORY: Reason.SYS_OOM,
    pycurl.E_SSL_CONNECT_ERROR: Reason.NET_TLS_HANDSHAKE,
    pycurl.E_PEER_FAILED_VERIFICATION: Reason.NET_TLS_UNTRUSTED,
    pycurl.E_GOT_NOTHING: Reason.NET_RESET,
    pycurl.E_SEND_ERROR: Reason.NET_RESET,
    pycurl.E_RECV_ERROR: Reason.NET_RESET,
    pycurl.E_BAD_CONTENT_ENCODING: Reason.DL_ENCODING,
    pycurl.E_FILESIZE_EXCEEDED: Reason.DL_TOO_LARGE,
    pycurl.E_HTTP2: Reason.NET_RESET,
    92: Reason.NET_RESET,  # CURLE_HTTP2_STREAM, which pycurl does not name: this one request was reset
    100: Reason.HTTP_HEADERS_TOO_LARGE,  # CURLE_TOO_LARGE, which pycurl does not name
}
BROKEN = (errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT, errno.ECONNABORTED)


@dataclass
class Answer:
    """What one request gave. `reason` None means: a body worth keeping, a redirect (`location` is set), or that the
    bytes are those that are known already (`is_unchanged`)."""

    reason: Reason | None
    detail: str | None = None
    http_status: int | None = None
    content_type: str | None = None
    location: str | None = None
    retry_after: str | None = None
    body: bytes | None = None
    body_path: Path | None = None  # in place of `body` where it was too large for memory
    sha256: str | None = None
    is_unchanged: bool = False
    etag: str | None = None
    last_modified: str | None = None
    peer: tuple[str, int] | None = None
    is_stale: bool = False  # a kept connection that the server had closed meanwhile: says nothing about the link


@dataclass
class Head:
    """The header block of an answer. fields: lower-case name -> values in their order."""

    status: int = 0
    is_complete: bool = False
    fields: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Sequence[bytes], is_complete: bool) -> Self:
        """From its lines, without the empty one at its end."""
        words = lines[0].split(None, 2) if lines else []
        fields: dict[str, list[str]] = {}
        for line in lines[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            fields.setdefault(name.strip().lower(), []).append(value.strip())
        status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
        return cls(status, is_complete, fields)

    def first(self, name: str) -> str | None:
        values = self.fields.get(name)
        return values[0] if values else None


def by_status(head: Head) -> Answer:
    """The answer that a status alone gives, of one that is none of `WITH_BODY`."""
    status = head.status
    if status in REDIRECTS:
        locations = head.fields.get("location", [])
        if len(set(locations)) == 1 and locations[0]:
            return Answer(None, location=locations[0])
        return Answer(Reason.HTTP_BAD_RESPONSE, f"{status} with {len(locations)} locations")
    if status in (204, 205):
        return Answer(Reason.DL_EMPTY, str(status))
    if status in (401, 402, 403, 407, 451):
        return Answer(Reason.HTTP_FORBIDDEN, str(status))
    if status == 429:
        return Answer(Reason.HTTP_RATE_LIMITED, str(status))
    if status in (408, 425) or 500 <= status < 600:
        return Answer(Reason.HTTP_5XX, str(status))
    if 400 <= status < 500:
        return Answer(Reason.HTTP_4XX_GONE, str(status))
    return Answer(Reason.HTTP_BAD_RESPONSE, str(status))
