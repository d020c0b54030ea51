"""The guarded fetcher: many links at once on one thread, each ending as bytes or as a reason code.

libcurl's multi interface moves the bytes; what it may not do (addresses, redirects, sizes, times, opt-outs) is decided
here and in `pipelines.transfer`; whether a link may be asked for at all, in `pipelines.permission`. Every wait has an
end, so `fetch` has one too.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from curation.reasons import Reason, ReasonClass, reason_class
from curation.urls import canonical_url, host_of, uid
from pipelines import site_rules
from pipelines.addresses import AddressPolicy
from pipelines.answer import Answer
from pipelines.curl_loop import CurlLoop
from pipelines.deny import HashList
from pipelines.fetch_options import FetchOptions, certificate_bundle
from pipelines.fetched import Fetched, Job, Link
from pipelines.host_queue import HostQueues
from pipelines.http_fields import redirect_target, retry_after_s
from pipelines.permission import Permission
from pipelines.transfer import Transfer
from pipelines.unresolved import Unresolved

MAX_HELD_BYTES = 256_000_000
"""Of bodies on their way; above it no request is started until some are done, so that memory has a bound."""
_SWEEP_S = 0.1  # how often deadlines are looked at, so a row may outlive its deadline by this
_FULL_S = 0.02  # how often a caller that can take no more is asked again
# What tamis or the source said no to. The rest of the reasons are failures.
_REFUSED = frozenset({Reason.NET_BLOCKED_ADDRESS, Reason.NET_BLOCKED_PORT, Reason.HTTP_REDIRECT_BLOCKED})
_REFUSED_STAGES = ("url", "policy")


class Fetcher:
    """Fetches links under one set of options. Reusable (connections stay open between calls); for one thread.

    num_fetchers: how many of them share the limits on connections and requests to one host. spool: folder for bodies
    that are too large for memory; the system's for temporary files if None.
    """

    def __init__(self, options: FetchOptions | None = None, num_fetchers: int = 1, spool: Path | None = None) -> None:
        self.options = options = options or FetchOptions()
        policy = AddressPolicy(options.allow_networks, options.ports)
        certificates = certificate_bundle()
        folder = spool or Path(tempfile.gettempdir())
        self._for_transfers = options, policy, certificates, folder
        self._idle: list[Transfer] = []
        self._transfers: dict[int, Transfer] = {}  # all there are, by id of the handle; made when needed
        self._active: dict[int, Job] = {}  # by id of the handle
        self._queues: HostQueues[Job] = HostQueues(max(1, options.max_connections_per_host // num_fetchers))
        self._permission = Permission(options, num_fetchers)
        self._known_bad = HashList(options.known_bad_hashes)
        self._resolving: Unresolved[tuple[Job, Answer]] = Unresolved()
        self._loop = CurlLoop(options.max_connections)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. The fetcher cannot be used afterwards."""
        self._drop_everything()
        self._loop.close()
        for transfer in self._transfers.values():
            transfer.curl.close()
        self._resolving.close()

    def fetch_many(
        self,
        urls: Sequence[str],
        on_result: Callable[[int, Fetched], None] | None = None,
    ) -> list[Fetched]:
        """Fetch each URL; results in the order of `urls`, one for each, whatever happened to it.

        on_result(index, fetched): as for `fetch`.
        """
        results: dict[int, Fetched] = {}
        rest: list[Sequence[Link]] = [[Link(url) for url in urls]]

        def take(index: int, fetched: Fetched) -> None:
            results[index] = fetched
            if on_result is not None:
                on_result(index, fetched)

        self.fetch(lambda: rest.pop() if rest else None, take)
        return [results[index] for index in range(len(urls))]

    def fetch(
        self,
        more: Callable[[], Sequence[Link] | None],
        on_result: Callable[[int, Fetched], None],
        is_full: Callable[[int], bool] = lambda _: False,
    ) -> None:
        """Fetch links as they are given; returns when all have ended.

        more: asked whenever a connection is free and no link that is known may have it. Returns further links, none for
        now (while others are still open), or None: there are no more. on_result(index, fetched): called in this thread
        as each one ends, in the order of their ends; index: its number in the order in which links were given.
        is_full(number of requests under way): while it says so none is started; those that are under way go on.
        """
        self._on_result, self._more, self._is_full = on_result, more, is_full
        self._num_given = self._num_open = self._num_held_bytes = 0
        self._is_over = False
        try:
            self._run()
        finally:
            self._drop_everything()

    # Beginnings

    def _next_job(self) -> Job | None:
        """The job whose turn it is; further links are taken in where it is nobody's."""
        job = self._queues.pop(time.monotonic())
        while job is None and not self._is_over:
            given = self._more()
            self._is_over = given is None
            for link in given or ():
                self._accept(link)
            if not given:
                return None
            job = self._queues.pop(time.monotonic())
        return job

    def _accept(self, link: Link) -> None:
        index, out = self._num_given, Fetched(link.url)
        self._num_given += 1
        self._num_open += 1
        canonical, reason = canonical_url(link.url)
        if canonical is None:
            self._close(index, out, reason, None)
        else:
            job = Job(
                index, canonical, out, part=link.part, failed_before=link.failed_before, validators=link.validators
            )
            self._queue([job], in_front=False)

    def _transfer(self) -> Transfer:
        if self._idle:
            return self._idle.pop()
        transfer = Transfer(*self._for_transfers)
        self._transfers[id(transfer.curl)] = transfer
        return transfer

    def _may_start(self) -> bool:
        has_room = len(self._active) < self.options.max_connections and self._num_held_bytes < MAX_HELD_BYTES
        return has_room and not self._is_full(len(self._active))

    def _queue(self, jobs: Sequence[Job], in_front: bool = True) -> None:
        now = time.monotonic()
        for job in reversed(jobs) if in_front else jobs:
            self._queues.push(job.host, job, now, in_front)

    def _launch(self, job: Job) -> None:
        """Start a job whose turn it is, unless it may not be asked for, or not yet."""
        now = time.monotonic()
        refusal = self._permission.refusal(job, now)
        if refusal is None:
            self._queues.pause(job.host, now + self._permission.interval_s(job))
            self._start(job, self._transfer())
            return
        self._queues.release(job.host, now)
        if refusal.reason is None:  # not yet
            self._queue(refusal.first)
            if refusal.due is not None:
                self._queues.push_later(job.host, job, refusal.due)
        elif job.file is not None:
            self._conclude(job, Answer(refusal.reason, refusal.detail))
        else:
            self._close(job.index, job.out, refusal.reason, refusal.detail)

    def _start(self, job: Job, transfer: Transfer) -> None:
        if job.hop == job.first and not job.seen:
            job.out.num_attempts += 1
        job.seen.add(job.hop)
        job.started_at = time.monotonic()
        job.out.final_url = job.hop
        rules_cap = None if job.file is None else site_rules.MAX_FILE_BYTES
        left_s = self.options.total_timeout_s - job.spent_s
        transfer.start(job.hop, job.redirected_from, left_s, job.is_fresh, rules_cap, job.validators)
        self._active[id(transfer.curl)] = job
        self._loop.multi.add_handle(transfer.curl)

    # The loop

    def _run(self) -> None:
        sweep_at = time.monotonic() + _SWEEP_S
        while self._num_open or not self._is_over:
            while self._may_start() and (job := self._next_job()) is not None:
                self._launch(job)
            if not self._num_open and self._is_over:
                return
            self._loop.step(self._wake_at(sweep_at))
            for curl, error, message in self._loop.ended(len(self._active)):
                self._end(self._transfers[id(curl)], error, message)
            if time.monotonic() >= sweep_at:
                self._sweep()
                sweep_at = time.monotonic() + _SWEEP_S

    def _wake_at(self, sweep_at: float) -> float:
        if not self._may_start():
            return min(sweep_at, time.monotonic() + _FULL_S)
        if not self._num_open:
            return time.monotonic() + _FULL_S  # no link for now, and nothing here that would wake this thread
        due = sweep_at if self._active or self._resolving else sweep_at + 10 * _SWEEP_S
        waiting = self._queues.next_due()
        return due if waiting is None else min(due, waiting)

    def _sweep(self) -> None:
        now = time.monotonic()
        self._num_held_bytes = 0
        for key in list(self._active):
            transfer = self._transfers[key]
            self._num_held_bytes += transfer.num_held_bytes
            if transfer.overdue(now) is not None:
                self._end(transfer, 0, "")
        for (job, answer), why in self._resolving.answered(now):
            answer.reason = why
            self._conclude(job, answer)

    # Ends

    def _end(self, transfer: Transfer, error: int, message: str) -> None:
        job = self._active.pop(id(transfer.curl))
        answer = transfer.finish(error, message)
        self._loop.multi.remove_handle(transfer.curl)
        self._idle.append(transfer)
        now = time.monotonic()
        self._queues.release(job.host, now)
        job.spent_s += now - job.started_at
        was_fresh, job.is_fresh = job.is_fresh, answer.is_stale
        if answer.is_stale and not was_fresh:
            self._queue([job])  # again at once; no attempt of its own
        elif answer.reason is Reason.NET_DNS_SERVFAIL:
            self._resolving.ask(host_of(job.hop), (job, answer), now + self.options.connect_timeout_s)
        elif answer.location is not None:
            self._redirect(job, answer)
        else:
            self._conclude(job, answer)

    def _redirect(self, job: Job, answer: Answer) -> None:
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
            self._queue(self._permission.note(job, answer, time.monotonic()))
            job.go_to(target, answer.peer)
            self._queue([job])

    def _conclude(self, job: Job, answer: Answer) -> None:
        """Try again later, or close the row."""
        out, now = job.out, time.monotonic()
        out.http_status, out.content_type = answer.http_status, answer.content_type
        self._queue(self._permission.note(job, answer, now))
        if answer.reason is not None and reason_class(answer.reason) is ReasonClass.TRANSIENT:
            asked_s = retry_after_s(answer.retry_after) if answer.http_status in (429, 503) else None
            if asked_s is not None and asked_s > self.options.max_retry_after_s:
                answer = _with(answer, Reason.HTTP_RATE_LIMITED, f"{answer.http_status}: asked to wait too long")
            elif out.num_attempts <= self._permission.retries(job, now):
                job.failure = answer.reason, answer.detail
                self._try_later(job, asked_s)
                return
        if job.file is not None:
            refused, wanted = self._permission.take_file(job, answer, now)
            for each in refused:
                self._close(each.index, each.out, answer.reason, f"{job.file}: {answer.detail}"[:200])
            self._queue(wanted)
            return
        if answer.reason is None:
            out.body, out.body_path, out.sha256 = answer.body, answer.body_path, answer.sha256
            out.is_unchanged, out.etag, out.last_modified = answer.is_unchanged, answer.etag, answer.last_modified
            known_by = None if out.is_unchanged else self._known_bad.algorithm_that_knows(out)
            if known_by is not None:
                out.drop_body()
                answer = _with(answer, Reason.POLICY_KNOWN_BAD_HASH, f"its {known_by} is on a list")
        self._close(job.index, out, answer.reason, answer.detail)

    def _try_later(self, job: Job, asked_s: float | None) -> None:
        out = job.out
        draw = int(uid("retry", job.first, str(out.num_attempts))[:8], 16) / 2**32
        pause_s = self.options.backoff_s * 2 ** (out.num_attempts - 1) * (0.5 + draw)
        now = time.monotonic()
        if asked_s is not None:
            pause_s += asked_s
            self._queues.pause(job.host, now + asked_s)  # the host, not only this link of it
        job.start_again()
        self._queues.push_later(job.host, job, now + pause_s)

    def _close(self, index: int, out: Fetched, reason: str | None, detail: str | None) -> None:
        if reason is None:
            out.status = "ok"
        elif reason in _REFUSED or reason.partition(".")[0] in _REFUSED_STAGES:
            out.status = "refused"
        out.reason, out.detail = (str(reason) if reason else None), detail
        self._num_open -= 1
        self._on_result(index, out)

    def _drop_everything(self) -> None:
        """After the last row, or after an exception (an interrupt, `on_result`'s): nothing goes on behind the back."""
        for key in list(self._active):
            self._loop.multi.remove_handle(self._transfers[key].curl)
            self._transfers[key].drop()
            self._idle.append(self._transfers[key])
        self._active.clear()
        self._resolving.clear()
        self._queues.clear(time.monotonic())
        self._permission.end_call()


def _with(answer: Answer, reason: Reason, detail: str) -> Answer:
    answer.reason, answer.detail, answer.body = reason, detail[:200], None
    return answer
