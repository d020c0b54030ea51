"""The guarded fetcher: many links at once on one thread, each ending as bytes or as a reason code.

libcurl's multi interface moves the bytes; what it may not do (addresses, redirects, sizes, times, opt-outs) is decided
here and in `pipelines.transfer`. Every wait has an end, so `fetch_many` has one too.
"""

import concurrent.futures
import hashlib
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import pycurl

from curation.reasons import Reason, ReasonClass, reason_class
from curation.urls import canonical_url, host_of, registrable_domain, uid
from pipelines.addresses import AddressPolicy
from pipelines.fetch_options import FetchOptions, certificate_bundle
from pipelines.host_queue import HostQueues
from pipelines.http_fields import redirect_target, retry_after_s
from pipelines.transfer import Answer, Transfer

_SWEEP_S = 0.1  # how often deadlines are looked at, so a row may outlive its deadline by this
_NUM_RESOLVERS = 8
# What tamis or the source said no to. The rest of the reasons are failures.
_REFUSED = frozenset({Reason.NET_BLOCKED_ADDRESS, Reason.NET_BLOCKED_PORT, Reason.HTTP_REDIRECT_BLOCKED})
_REFUSED_STAGES = ("url", "policy")


@dataclass
class Fetched:
    """What became of one link.

    url: as given. final_url: the last URL asked for, None if none was. status: "ok"; "failed"; "refused", where this
    project or the source said no (`url.*`, `policy.*`, blocked addresses, ports and redirects). reason: None if ok.
    detail: at most 200 characters, the same in every run, from the server in part and so not to be trusted.
    http_status, content_type: of the last answer; the type is a claim. body, sha256 (64 hex digits): None unless ok.
    num_redirects: hops of the last attempt. num_attempts: 0 if nothing was asked. elapsed_s: spent on transfers,
    without waiting; differs from run to run, so it belongs in no table that is compared.
    """

    url: str
    final_url: str | None = None
    status: str = "failed"
    reason: str | None = None
    detail: str | None = None
    http_status: int | None = None
    content_type: str | None = None
    body: bytes | None = None
    sha256: str | None = None
    num_redirects: int = 0
    num_attempts: int = 0
    elapsed_s: float = 0.0


@dataclass
class _Job:
    """A link on its way. `hop` is the URL to ask for next, at `host` (a registrable domain)."""

    index: int
    first: str
    out: Fetched
    hop: str
    host: str
    seen: set[str] = field(default_factory=set)
    redirected_from: tuple[str, int] | None = None
    is_fresh: bool = False
    spent_s: float = 0.0
    started_at: float = 0.0


class Fetcher:
    """Fetches links under one set of options. Reusable (connections stay open between calls); for one thread."""

    def __init__(self, options: FetchOptions | None = None) -> None:
        self.options = options or FetchOptions()
        policy = AddressPolicy(self.options.allow_networks, self.options.ports)
        certificates = certificate_bundle()
        self._idle = [Transfer(self.options, policy, certificates) for _ in range(self.options.max_connections)]
        self._transfers = {id(transfer.curl): transfer for transfer in self._idle}
        self._active: dict[int, _Job] = {}  # by id of the handle
        self._queues: HostQueues[_Job] = HostQueues(self.options.max_connections_per_host)
        self._resolving: dict[concurrent.futures.Future[Reason], tuple[_Job, Answer, float]] = {}
        self._resolvers: concurrent.futures.ThreadPoolExecutor | None = None
        self._selector = selectors.DefaultSelector()
        self._curl_due: float | None = None
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._on_socket)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._on_timer)
        self._multi.setopt(pycurl.M_MAXCONNECTS, self.options.max_connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. The fetcher cannot be used afterwards."""
        self._drop_everything()
        self._multi.close()
        for transfer in self._transfers.values():
            transfer.curl.close()
        self._selector.close()
        if self._resolvers is not None:
            self._resolvers.shutdown(wait=False, cancel_futures=True)

    def fetch_many(self, urls: Sequence[str], on_result: Callable[[int, Fetched], None] | None = None) -> list[Fetched]:
        """Fetch each URL; results in the order of `urls`, one for each, whatever happened to it.

        on_result(index, fetched): called in this thread as each one ends, in the order of their ends.
        """
        self._results: list[Fetched] = [Fetched(url) for url in urls]
        self._on_result = on_result
        self._num_open = len(urls)
        try:
            for index, url in enumerate(urls):
                self._accept(index, url)
            self._run()
        finally:
            self._drop_everything()
        return self._results

    # Beginnings

    def _accept(self, index: int, url: str) -> None:
        out = self._results[index]
        canonical, reason = canonical_url(url)
        if canonical is None:
            self._close(index, out, reason, None)
        else:
            job = _Job(index, canonical, out, canonical, _host_key(canonical))
            self._queues.push(job.host, job, time.monotonic())

    def _start(self, job: _Job, transfer: Transfer) -> None:
        if job.hop == job.first and not job.seen:
            job.out.num_attempts += 1
        job.seen.add(job.hop)
        job.started_at = time.monotonic()
        job.out.final_url = job.hop
        transfer.start(job.hop, job.redirected_from, self.options.total_timeout_s - job.spent_s, job.is_fresh)
        self._active[id(transfer.curl)] = job
        self._multi.add_handle(transfer.curl)

    # The loop

    def _run(self) -> None:
        sweep_at = time.monotonic() + _SWEEP_S
        while self._num_open:
            while self._idle and (job := self._queues.pop(time.monotonic())) is not None:
                self._start(job, self._idle.pop())
            for key, mask in self._selector.select(self._patience_s(sweep_at)):
                bits = (pycurl.CSELECT_IN if mask & selectors.EVENT_READ else 0) | (
                    pycurl.CSELECT_OUT if mask & selectors.EVENT_WRITE else 0
                )
                self._multi.socket_action(key.fd, bits)
            if self._curl_due is not None and self._curl_due <= time.monotonic():
                self._curl_due = None
                self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._collect()
            if time.monotonic() >= sweep_at:
                self._sweep()
                sweep_at = time.monotonic() + _SWEEP_S

    def _patience_s(self, sweep_at: float) -> float:
        due = sweep_at if self._active or self._resolving else sweep_at + 10 * _SWEEP_S
        if self._curl_due is not None:
            due = min(due, self._curl_due)
        waiting = self._queues.next_due()
        if waiting is not None and self._idle:
            due = min(due, waiting)
        return max(0.0, due - time.monotonic())

    def _on_socket(self, what: int, fd: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
            return
        events = (selectors.EVENT_READ if what & pycurl.POLL_IN else 0) | (
            selectors.EVENT_WRITE if what & pycurl.POLL_OUT else 0
        )
        if fd in self._selector.get_map():
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def _on_timer(self, timeout_ms: int) -> None:
        self._curl_due = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    def _collect(self) -> None:
        while True:
            num_left, done, failed = self._multi.info_read()
            for curl in done:
                self._end(curl, 0, "")
            for curl, error, message in failed:
                self._end(curl, error, message)
            if not num_left:
                return

    def _sweep(self) -> None:
        now = time.monotonic()
        for key in list(self._active):
            if self._transfers[key].overdue(now) is not None:
                self._end(self._transfers[key].curl, 0, "")
        for future in [future for future, waiting in self._resolving.items() if future.done() or now > waiting[2]]:
            job, answer, _ = self._resolving.pop(future)
            answer.reason = future.result() if future.done() else Reason.NET_DNS_TIMEOUT
            self._conclude(job, answer)

    # Ends

    def _end(self, curl: pycurl.Curl, error: int, message: str) -> None:
        transfer, job = self._transfers[id(curl)], self._active.pop(id(curl))
        answer = transfer.finish(error, message)
        self._multi.remove_handle(curl)
        self._idle.append(transfer)
        now = time.monotonic()
        self._queues.release(job.host, now)
        spent_s = now - job.started_at
        job.spent_s += spent_s
        job.out.elapsed_s += spent_s
        was_fresh, job.is_fresh = job.is_fresh, answer.is_stale
        if answer.is_stale and not was_fresh:
            self._queues.push(job.host, job, now, in_front=True)  # again at once; no attempt of its own
        elif answer.reason is Reason.NET_DNS_SERVFAIL:
            # libcurl does not say whether the name does not exist or nobody could tell; the resolver does
            future = self._resolver().submit(_why_unresolved, host_of(job.hop))
            self._resolving[future] = (job, answer, now + self.options.connect_timeout_s)
        elif answer.location is not None:
            self._redirect(job, answer)
        else:
            self._conclude(job, answer)

    def _redirect(self, job: _Job, answer: Answer) -> None:
        """Check a hop as if it were a link, and what only a redirect can do wrong."""
        job.out.num_redirects += 1
        target, blocked = redirect_target(job.hop, answer.location or "")
        if target is None:
            self._conclude(job, _with(answer, Reason.HTTP_REDIRECT_BLOCKED, blocked))
        elif target in job.seen:
            self._conclude(job, _with(answer, Reason.HTTP_REDIRECT_LOOP, target))
        elif job.out.num_redirects > self.options.max_redirects:
            self._conclude(job, _with(answer, Reason.HTTP_REDIRECT_TOO_MANY, f"more than {self.options.max_redirects}"))
        else:
            job.hop, job.redirected_from, job.host = target, answer.peer, _host_key(target)
            self._queues.push(job.host, job, time.monotonic(), in_front=True)

    def _conclude(self, job: _Job, answer: Answer) -> None:
        """Try again later, or close the row."""
        out = job.out
        out.http_status, out.content_type = answer.http_status, answer.content_type
        if answer.reason is not None and reason_class(answer.reason) is ReasonClass.TRANSIENT:
            asked_s = retry_after_s(answer.retry_after) if answer.http_status in (429, 503) else None
            if asked_s is not None and asked_s > self.options.max_retry_after_s:
                answer = _with(answer, Reason.HTTP_RATE_LIMITED, f"{answer.http_status}: asked to wait too long")
            elif out.num_attempts <= self.options.retries:
                self._try_later(job, asked_s)
                return
        if answer.reason is None and answer.body is not None:
            out.body, out.sha256 = answer.body, hashlib.sha256(answer.body).hexdigest()
        self._close(job.index, out, answer.reason, answer.detail)

    def _try_later(self, job: _Job, asked_s: float | None) -> None:
        out = job.out
        draw = int(uid("retry", job.first, str(out.num_attempts))[:8], 16) / 2**32
        pause_s = self.options.backoff_s * 2 ** (out.num_attempts - 1) * (0.5 + draw)
        now = time.monotonic()
        if asked_s is not None:
            pause_s += asked_s
            self._queues.pause(job.host, now + asked_s)  # the host, not only this link of it
        job.hop, job.redirected_from, job.host = job.first, None, _host_key(job.first)
        job.seen, job.spent_s, out.num_redirects = set(), 0.0, 0
        self._queues.push_later(job.host, job, now + pause_s)

    def _close(self, index: int, out: Fetched, reason: str | None, detail: str | None) -> None:
        if reason is None:
            out.status = "ok"
        elif reason in _REFUSED or reason.partition(".")[0] in _REFUSED_STAGES:
            out.status = "refused"
        out.reason, out.detail = (str(reason) if reason else None), detail
        self._num_open -= 1
        if self._on_result is not None:
            self._on_result(index, out)

    def _resolver(self) -> concurrent.futures.ThreadPoolExecutor:
        if self._resolvers is None:
            self._resolvers = concurrent.futures.ThreadPoolExecutor(_NUM_RESOLVERS, thread_name_prefix="why-unresolved")
        return self._resolvers

    def _drop_everything(self) -> None:
        """After the last row, or after an exception (an interrupt, `on_result`'s): nothing goes on behind the back."""
        for key in list(self._active):
            self._multi.remove_handle(self._transfers[key].curl)
            self._idle.append(self._transfers[key])
        for future in self._resolving:
            future.cancel()
        self._active.clear()
        self._resolving.clear()
        self._queues.clear(time.monotonic())


def _with(answer: Answer, reason: Reason, detail: str) -> Answer:
    answer.reason, answer.detail, answer.body = reason, detail[:200], None
    return answer


def _host_key(canonical: str) -> str:
    return registrable_domain(host_of(canonical))


def _why_unresolved(host: str) -> Reason:
    """Ask the system's resolver why a name has no address. The answer is never connected to."""
    try:
        socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except socket.gaierror as error:
        nowhere = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
        return Reason.NET_DNS_NXDOMAIN if error.errno in nowhere else Reason.NET_DNS_SERVFAIL
    except UnicodeError:
        return Reason.NET_DNS_NXDOMAIN  # a label that no resolver takes
    return Reason.NET_DNS_SERVFAIL
