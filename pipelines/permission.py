"""Whether a link may be asked for, and when: deny lists, what its origin's files say, how its origin has behaved.

Asked at the last moment before each request, redirects included. A link whose origin has not said anything yet waits
outside of the queues for the files that speak for it, so it holds up nobody.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from curation.reasons import Reason, ReasonClass, reason_class
from pipelines.answer import Answer
from pipelines.deny import DenyList
from pipelines.fetch_options import FetchOptions
from pipelines.fetched import Fetched, Job
from pipelines.origins import Origins
from pipelines.site_rules import AI, PATHS, ROBOTS, TDMREP, SiteRules

# The origin has no such file (RFC 9309, 2.3.1.3): any 4xx but 408, 425 and 429, which are transient; nothing in it.
_ABSENT = frozenset({Reason.HTTP_4XX_GONE, Reason.HTTP_FORBIDDEN, Reason.DL_EMPTY})
# Depends on who led there, so it is no property of the origin.
_BLOCKED = frozenset({Reason.NET_BLOCKED_ADDRESS, Reason.NET_BLOCKED_PORT})


@dataclass
class Refusal:
    """Why a job does not start. reason None: not yet. It may come again at `due`; where that is None it is kept here,
    and `first` are the jobs that come before it."""

    reason: Reason | None
    detail: str | None = None
    first: Sequence[Job] = ()
    due: float | None = None


class Permission:
    """For one fetcher, for as long as it lives. Times are monotonic seconds.

    num_fetchers: how many of them share the limits on requests to one host.
    """

    def __init__(self, options: FetchOptions, num_fetchers: int = 1) -> None:
        self._options = options
        self._num_fetchers = num_fetchers
        self._deny = DenyList(options.deny_domains, options.deny_urls, options.deny_lists)
        obeyed = {ROBOTS: options.robots, AI: options.ai_txt, TDMREP: options.tdmrep}
        self._files = [name for name in PATHS if obeyed[name] == "obey"]
        self._origins: Origins[Job] = Origins(options.circuit_failures, options.circuit_pause_s)
        self._began: dict[tuple[int, str], float] = {}  # part and host -> first request of this call

    def refusal(self, job: Job, now: float) -> Refusal | None:
        """None if the job's next hop may be asked for now."""
        entry = self._deny.entry_for(job.hop)
        if entry is not None:
            return Refusal(Reason.POLICY_DOMAIN_DENIED, entry[:200])
        if job.file is not None:
            return None
        origin = self._origins[job.origin]
        if self._origins.is_down(job.origin, now):
            return self._down(job)
        if origin.failure is not None:
            return Refusal(*origin.failure)
        if now - self._began.setdefault((job.part, job.host), now) > self._options.max_host_s:
            return Refusal(Reason.HTTP_RATE_LIMITED, f"not its turn within {self._options.max_host_s:g} s")
        if self._files and origin.rules is None:
            origin.waiting.append(job)
            if origin.is_asking:
                return Refusal(None)
            origin.is_asking = True
            return Refusal(None, first=[self._file_job(self._files[0], job.origin, {}, job.redirected_from)])
        if origin.rules is not None:
            objection = origin.rules.objection(job.hop)
            job.out.consent = origin.rules.consent(None if objection is None else objection[1])
            if objection is not None:
                return Refusal(*objection)
        rests_until = self._origins.rests_until(job.origin, now)
        if rests_until is not None:
            return Refusal(None, due=rests_until)
        if self._origins.must_try(job.origin):
            if origin.trying not in (None, job):
                origin.waiting.append(job)
                return Refusal(None)
            origin.trying = job
        return None

    def _down(self, job: Job) -> Refusal:
        """The job's own failure, where it had its turn, else that of the origin."""
        if job.failure is not None:
            return Refusal(*job.failure)
        return Refusal(Reason.NET_HOST_CIRCUIT_OPEN, f"{self._options.circuit_failures} failures in a row")

    def interval_s(self, job: Job) -> float:
        """Least time between the start of this request and the next one to the same host."""
        rules = self._origins[job.origin].rules
        delay_s = 0.0 if rules is None or rules.crawl_delay_s is None else rules.crawl_delay_s
        kept_s = min(delay_s, self._options.max_crawl_delay_s)
        return self._num_fetchers * max(kept_s, 1 / self._options.requests_per_second_per_host)

    def retries(self, job: Job, now: float) -> int:
        """How often a transient failure of the job may be tried again."""
        if job.file is None:
            return 0 if self._origins.is_down(job.origin, now) else self._options.retries
        return self._options.retries if job.file == ROBOTS else 0

    def note(self, job: Job, answer: Answer, now: float) -> list[Job]:
        """Learn from an answer how the origin is; returns the jobs that waited for it."""
        if job.file not in (None, ROBOTS):
            return []  # a server that fails at a file that it does not know says little
        is_failure = answer.reason is not None and reason_class(answer.reason) is ReasonClass.TRANSIENT
        if is_failure and not (job.failed_before and answer.http_status is not None):
            # A link's further attempts say nothing new: where only they are left, failures in a row are no surprise.
            if job.out.num_attempts <= 1 or job is self._origins[job.origin].trying:
                self._origins.failed(job.origin, now)
        else:
            self._origins.answered(job.origin)
        origin = self._origins[job.origin]
        return [] if origin.is_asking else origin.take_waiting()

    def take_file(self, job: Job, answer: Answer, now: float) -> tuple[list[Job], list[Job]]:
        """Take the last answer for an origin's file; returns the links that end with it, and the jobs that go on."""
        assert job.file is not None
        origin = self._origins[job.rules_of]
        reason = answer.reason
        # a redirect that may not or cannot be followed: "may assume that it is unavailable" (RFC 9309, 2.3.1.2)
        is_lost = job.out.num_redirects > 0 and reason is not None and reason_class(reason) is ReasonClass.PERMANENT
        if reason is None or reason in _ABSENT or is_lost or job.file != ROBOTS:
            found = {**job.found, job.file: answer.body if reason is None else None}
            if len(found) < len(self._files):
                return [], [self._file_job(self._files[len(found)], job.rules_of, found, job.led_by)]
            origin.is_asking = False
            origin.rules = SiteRules(found, self._options.user_agent_token)
            return [], origin.take_waiting()
        origin.is_asking = False
        waiting = origin.take_waiting()
        if reason in _BLOCKED:
            return [each for each in waiting if each.redirected_from == job.led_by], [
                each for each in waiting if each.redirected_from != job.led_by
            ]
        if reason_class(reason) is ReasonClass.TRANSIENT:
            self._origins.is_lost(job.rules_of, now)
        else:
            origin.failure = reason, f"{job.file}: {answer.detail}"[:200]
        return waiting, []

    def end_call(self) -> None:
        """The call is over, perhaps before its time."""
        self._origins.forget_items()
        self._began.clear()

    def _file_job(self, name: str, origin: str, found: dict[str, bytes | None], led_by: tuple[str, int] | None) -> Job:
        url = origin + PATHS[name]
        return Job(
            -1, url, Fetched(url), file=name, rules_of=origin, found=found, led_by=led_by, redirected_from=led_by
        )
