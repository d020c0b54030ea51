"""One request on one libcurl handle: the guards that see its addresses, its headers and its bytes as they come.

Redirects, retries and queues are the fetcher's (`pipelines.fetch`); nothing here waits.
"""

import errno
import socket
import time
from pathlib import Path

import pycurl

from curation.reasons import Reason
from curation.reasons import reason as reason_of
from pipelines.addresses import AddressPolicy
from pipelines.answer import (
    BROKEN,
    ERRORS,
    MAX_DETAIL_CHARS,
    NOT_MODIFIED,
    REDIRECTS,
    WITH_BODY,
    Answer,
    Head,
    by_status,
)
from pipelines.body import Body
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Validators
from pipelines.optout import opt_out_reason

MAX_HEADER_LINES = 100
MAX_INFORMATIONAL = 10  # 1xx answers before the real one
MAX_DISCARDED_BYTES = 65_536  # of a body that nobody wants, read only so that its connection can be used again
MAX_VALIDATOR_CHARS = 200  # of an ETag or a date
REQUEST_HEADERS = ["Accept: image/*,video/*,audio/*,*/*;q=0.5", "Accept-Encoding: identity"]
DNS_CACHE_S = 300  # at least 60, so that a name cannot change its address between a link and its redirect


class Transfer:
    """A reusable easy handle. `start` it, let the multi handle drive it, then `finish` it."""

    def __init__(self, options: FetchOptions, policy: AddressPolicy, certificates: str, spool: Path) -> None:
        self._options, self._policy = options, policy
        self._body = Body(options.memory_cap_bytes, spool)
        self.curl = curl = pycurl.Curl()
        self._opened: list[socket.socket] = []
        self._conditions: list[str] = []
        self._reset(None, 0.0)
        curl.setopt(pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS)
        curl.setopt(pycurl.FOLLOWLOCATION, 0)
        curl.setopt(pycurl.PROXY, "")  # not the environment's
        curl.setopt(pycurl.NOPROXY, "*")
        curl.setopt(pycurl.NETRC, pycurl.NETRC_IGNORED)
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.BUFFERSIZE, 131_072)  # fewer calls into Python for the same bytes
        curl.setopt(pycurl.PATH_AS_IS, 1)
        curl.setopt(pycurl.CAINFO, certificates)
        curl.setopt(pycurl.SSL_VERIFYPEER, 1)
        curl.setopt(pycurl.SSL_VERIFYHOST, 2)
        curl.setopt(pycurl.DNS_CACHE_TIMEOUT, DNS_CACHE_S)
        curl.setopt(pycurl.USERAGENT, options.user_agent_header)
        curl.setopt(pycurl.HTTPHEADER, REQUEST_HEADERS)
        curl.setopt(pycurl.HTTP_CONTENT_DECODING, 0)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, int(options.connect_timeout_s * 1000))
        curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_socket)
        curl.setopt(pycurl.PREREQFUNCTION, self._before_request)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header_line)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def _reset(self, redirected_from: tuple[str, int] | None, left_s: float) -> None:
        self._redirected_from = redirected_from
        self._started_at = time.monotonic()
        self._ends_at = self._started_at + left_s
        self._asked_at: float | None = None
        self._has_opened = False
        self._close_opened()
        self._window_at, self._window_bytes = 0.0, 0
        self._verdict: Answer | None = None
        self._blocked: tuple[str, str] | None = None
        self._peer: tuple[str, int] | None = None
        self._head = Head()
        self._lines: list[bytes] = []  # of the head that is not complete
        self._num_informational = self._num_header_lines = self._num_header_bytes = 0
        self._body.discard()
        self._num_discarded = 0
        self._rules_cap: int | None = None

    def start(
        self,
        url: str,
        redirected_from: tuple[str, int] | None,
        left_s: float,
        is_fresh: bool = False,
        rules_cap: int | None = None,
        validators: Validators | None = None,
    ) -> None:
        """Prepare a GET of a canonical URL. left_s: what is left of the attempt's total time. is_fresh: on a connection
        of its own. rules_cap: for a file of rules (robots.txt), of which at most so many bytes are read and kept, and
        whose headers say nothing about training: nobody wants to train on it. validators: only if it changed."""
        self._reset(redirected_from, left_s)
        self._rules_cap = rules_cap
        conditions = [] if validators is None else validators.headers(url)
        if conditions != self._conditions:
            self._conditions = conditions
            self.curl.setopt(pycurl.HTTPHEADER, REQUEST_HEADERS + conditions)
        self.curl.setopt(pycurl.FRESH_CONNECT, int(is_fresh))
        self.curl.setopt(pycurl.URL, url)

    def overdue(self, now: float) -> Answer | None:
        """The verdict if one of the deadlines has passed at `now` (monotonic seconds)."""
        options = self._options
        if now > self._ends_at:
            return self._refuse(Reason.DL_DEADLINE, f"not done after {options.total_timeout_s:g} s")
        if self._asked_at is None:
            # libcurl's own limit comes first; this holds if the resolver does not come back
            late = now > self._started_at + options.connect_timeout_s + 0.5
            return self._refuse(*self._connect_timeout()) if late else None
        if self._num_header_bytes == 0:
            late = now > self._asked_at + options.first_byte_timeout_s
            return (
                self._refuse(Reason.DL_DEADLINE, f"no byte within {options.first_byte_timeout_s:g} s") if late else None
            )
        if now > self._window_at + options.min_rate_window_s:
            received = self._num_header_bytes + self._body.size + self._num_discarded
            if received - self._window_bytes < options.min_rate_bytes_s * options.min_rate_window_s:
                return self._refuse(Reason.DL_TOO_SLOW, f"under {options.min_rate_bytes_s} bytes/s")
            self._window_at, self._window_bytes = now, received
        return None

    def finish(self, error: int, message: str) -> Answer:
        """The answer, once libcurl is done with it; error 0 if libcurl has none."""
        self._close_opened()
        if self._lines and self._head.status < 200:  # cut off
            self._head = Head.of(self._lines, is_complete=False)
        answer = self._verdict or self._judge(error, message)
        head = self._head
        answer.http_status = head.status or None
        answer.content_type = (head.first("content-type") or "")[:MAX_DETAIL_CHARS] or None
        answer.retry_after = head.first("retry-after")
        answer.etag, answer.last_modified = (_validator(head.first(name)) for name in ("etag", "last-modified"))
        answer.peer = self._peer
        is_untouched = self._num_header_bytes == 0 and not self._has_opened
        answer.is_stale = is_untouched and answer.reason is Reason.NET_RESET
        self._body.discard()
        return answer

    def _judge(self, error: int, message: str) -> Answer:
        head = self._head
        if head.is_complete and head.status == NOT_MODIFIED and self._conditions:
            return Answer(None, is_unchanged=True)
        if head.is_complete and head.status not in WITH_BODY:
            return by_status(head)  # whatever then befell a body that nobody wants
        if self._is_cut():
            return Answer(None, body=self._body.start(self._rules_cap or 0))
        if error:
            return self._by_error(error, message)
        if not head.is_complete:
            return self._refuse(Reason.HTTP_BAD_RESPONSE, "no whole header")
        promised = head.first("content-length")
        if promised is not None and "transfer-encoding" not in head.fields and promised.strip() != str(self._body.size):
            return self._refuse(Reason.DL_LENGTH_MISMATCH, f"{self._body.size} of {promised} bytes")
        if self._body.size == 0:
            return self._refuse(Reason.DL_EMPTY, "no bytes")
        sha256 = self._body.sha256()
        body, path = self._body.take()
        return Answer(None, body=body, body_path=path, sha256=sha256)

    def _is_cut(self) -> bool:
        return self._rules_cap is not None and self._body.size > self._rules_cap

    @property
    def num_held_bytes(self) -> int:
        """Of the body so far, where it is in memory."""
        return self._body.num_held_bytes

    def drop(self) -> None:
        """Give up a transfer that was started and not finished."""
        self._close_opened()
        self._body.discard()

    # What libcurl calls. Each returns what libcurl wants: -1 (or 1, or SOCKET_BAD) ends the transfer.

    def _open_socket(self, purpose: int, address: "pycurl.CurlSockAddr") -> "socket.socket | int":
        """The one place where a connection is made: the address here is the address connected to."""
        family, kind, protocol, numeric = address
        if purpose != pycurl.SOCKTYPE_IPCXN or family not in (socket.AF_INET, socket.AF_INET6):
            self._blocked = Reason.NET_BLOCKED_ADDRESS.value, "not TCP"
            return int(pycurl.SOCKET_BAD)
        reason = self._policy.check(numeric[0], numeric[1], self._redirected_from)
        if reason is not None:
            self._blocked = reason, f"{numeric[0]} port {numeric[1]}"
            return int(pycurl.SOCKET_BAD)
        self._has_opened = True
        opened = socket.socket(family, kind, protocol)
        self._opened.append(opened)
        return opened

    def _close_opened(self) -> None:
        """Ours; libcurl has copies. Left to the garbage collector they would cost a warning each."""
        for each in self._opened:
            each.close()
        self._opened.clear()

    def _before_request(self, peer_ip: str, _own_ip: str, peer_port: int, _own_port: int) -> int:
        """Once more before each request: a connection that is used again was opened for another request's rights."""
        self._close_opened()
        reason = self._policy.check(peer_ip, peer_port, self._redirected_from)
        if reason is not None:
            self._refuse(reason_of(reason), f"{peer_ip} port {peer_port}")
            return int(pycurl.PREREQFUNC_ABORT)
        self._peer = peer_ip, peer_port
        self._asked_at = time.monotonic()
        return int(pycurl.PREREQFUNC_OK)

    def _on_header_line(self, line: bytes) -> int | None:
        if not self._num_header_bytes:
            self._window_at = time.monotonic()
        self._num_header_bytes += len(line)
        self._num_header_lines += 1
        if self._num_header_bytes > self._options.max_header_bytes or self._num_header_lines > MAX_HEADER_LINES:
            self._refuse(Reason.HTTP_HEADERS_TOO_LARGE, "too many header bytes or lines")
            return -1
        if line not in (b"\r\n", b"\n"):
            self._lines.append(line)
            return None
        if self._head.is_complete and self._head.status >= 200:
            return None  # behind a trailer
        self._head, self._lines = Head.of(self._lines, is_complete=True), []
        if self._head.status >= 200:
            return -1 if self._objection() else None
        self._num_informational += 1
        if self._num_informational >= MAX_INFORMATIONAL:
            self._refuse(Reason.HTTP_BAD_RESPONSE, "too many 1xx answers")
            return -1
        return None

    def _objection(self) -> bool:
        """Whether the headers alone end it, before a byte of the body is read."""
        head = self._head
        if self._rules_cap is None and head.status in (*WITH_BODY, *REDIRECTS, NOT_MODIFIED):
            objection = opt_out_reason(head.fields, self._options.user_agent_token)
            if objection is not None:
                self._refuse(reason_of(objection[0]), objection[1])
                return True
        if head.status not in WITH_BODY:
            return False
        for name, plain in (("content-encoding", "identity"), ("transfer-encoding", "chunked")):
            other = [value for value in head.fields.get(name, ()) if value.lower() not in ("", plain)]
            if other:
                self._refuse(Reason.DL_ENCODING, f"{name}: {other[0]}")
                return True
        promised = head.first("content-length") or ""
        # a float takes any number of digits
        is_over = promised.isascii() and promised.isdigit() and float(promised) > self._options.max_bytes
        if is_over and self._rules_cap is None:
            self._refuse(Reason.DL_TOO_LARGE, f"{promised} bytes promised, at most {self._options.max_bytes}")
            return True
        return False

    def _on_body(self, chunk: bytes) -> int | None:
        if self._head.status not in WITH_BODY:
            self._num_discarded += len(chunk)
            return -1 if self._num_discarded > MAX_DISCARDED_BYTES else None
        try:
            self._body.add(chunk)
        except OSError as error:
            self._refuse(Reason.SHARD_WRITE_FAILED, f"no place for the body: {error.strerror}")
            return -1
        if self._rules_cap is not None:
            return -1 if self._is_cut() else None
        if self._body.size > self._options.max_bytes:
            self._refuse(Reason.DL_TOO_LARGE, f"more than {self._options.max_bytes} bytes")
            return -1
        return None

    def _refuse(self, reason: Reason, detail: str) -> Answer:
        self._verdict = Answer(reason, detail[:MAX_DETAIL_CHARS])
        return self._verdict

    def _by_error(self, error: int, message: str) -> Answer:
        """The reason code of a libcurl error. The words are looked at only where the number is not enough."""
        words = message.lower()
        reason = ERRORS.get(error, Reason.HTTP_BAD_RESPONSE)
        if self._blocked is not None and error in (pycurl.E_COULDNT_CONNECT, pycurl.E_OPERATION_TIMEDOUT):
            return self._refuse(reason_of(self._blocked[0]), self._blocked[1])
        if error == pycurl.E_OPERATION_TIMEDOUT:
            return self._refuse(*self._connect_timeout())
        if error == pycurl.E_COULDNT_CONNECT and self.curl.getinfo(pycurl.OS_ERRNO) == errno.ETIMEDOUT:
            reason = Reason.NET_CONNECT_TIMEOUT
        elif error == pycurl.E_PEER_FAILED_VERIFICATION:
            if "expired" in words or "not yet valid" in words:
                reason = Reason.NET_TLS_EXPIRED
            elif "subject name" in words or "does not match" in words or "mismatch" in words:
                reason = Reason.NET_TLS_NAME
        elif error == pycurl.E_SSL_CONNECT_ERROR and self.curl.getinfo(pycurl.OS_ERRNO) in BROKEN:
            reason = Reason.NET_RESET
        elif error == pycurl.E_RECV_ERROR and ("chunk" in words or "header" in words or "transfer-encoding" in words):
            reason = Reason.HTTP_BAD_RESPONSE
        return self._refuse(reason, f"curl {error}")

    def _connect_timeout(self) -> tuple[Reason, str]:
        detail = f"not connected within {self._options.connect_timeout_s:g} s"
        if self._asked_at is not None:
            return Reason.DL_DEADLINE, "libcurl's clock"
        if self.curl.getinfo(pycurl.NAMELOOKUP_TIME) == 0:
            return Reason.NET_DNS_TIMEOUT, detail
        return Reason.NET_CONNECT_TIMEOUT, detail


def _validator(value: str | None) -> str | None:
    """As it is to be sent again; none where it is too long to be one."""
    return value if value and len(value) <= MAX_VALIDATOR_CHARS else None
