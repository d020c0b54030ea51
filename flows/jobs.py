"""`tamis run --address http://HEAD:8265`: the same command as a job on a running Ray cluster, followed from here.

The job is `python -m flows.cli run RECIPE --store STORE ... --address auto`, run on the cluster's head. Nothing is
uploaded: every node has this package installed (its image, or the environment that `ray start` ran in) and sees recipe,
links and store under the same paths (a shared file system; on one machine, any folder). So a job is what its arguments
say, and what it has done lies in the store, whatever becomes of the cluster.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from flows.explained import HUNG_UP
from flows.main_job import arguments

if TYPE_CHECKING:
    from flows.main_job import Options

STOP_WAIT_S = 20.0
"""Ray sends SIGTERM, then SIGKILL after 3 s; a stopped job is seen as such within 3 s on a quiet machine."""
POLL_S = 0.5
RECONNECTS = 20
"""Times in a row that contact with the cluster may fail, `RECONNECT_WAIT_S` apart, before we stop following the job."""
RECONNECT_WAIT_S = 3.0
AGENT_START_S = 90
"""Seconds that a cluster may take until it accepts jobs."""
SUBMIT_TRIES = 5
"""Rivals that may take the next attempt's id between our look and our submission."""


class JobError(OSError):
    """A cluster that cannot be reached, does not let us in or was lost; the message says what to do."""


def submit(options: Options, say: Callable[[str], None]) -> int:
    """Run the command as a job at `options.address`, or attach to it if it is running; returns its exit status.

    What the job prints goes to `say`, line by line. An interruption stops the job: Ctrl-C, and SIGTERM where
    it raises (the command line and Prefect see to that). With a terminal that went away only the connection is lost.
    Raises JobError where the cluster cannot be reached, refuses us or is lost: then the job goes on, and the same
    command attaches to it again.
    """
    client = _connect(options.address)
    if os.environ.get("RAY_AUTH_MODE") != "token":
        say(f"warning: {options.address} takes jobs, which are code, from anyone who reaches it: start it with a token")
    job = _ensure(client, options, say)
    try:
        _follow(client, job, say)
    except JobError:
        raise
    except BaseException as end:  # Ctrl-C, SIGTERM, Prefect's TerminationSignal, a mistake of ours: no job stays behind
        if not (isinstance(end, SystemExit) and end.code == HUNG_UP):
            _stop(client, job, say)
        raise
    info = client.get_job_info(job)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    reason = "" if info.error_type is None else f" ({info.error_type})"
    say(f"job {job}: {info.status}{reason}; its log: ray job logs --address {options.address} {job}")
    return info.driver_exit_code or 1


def entrypoint(options: Options) -> str:
    """The job's shell command. Python is this one where the head has it (a local `ray start`), else the image's."""
    python = f'"$(command -v {shlex.quote(sys.executable)} || command -v python3)"'
    # exec: the stop signal is to reach Python, not a shell around it
    return f"exec {python} -u {shlex.join(['-m', 'flows.cli', *arguments(options), '--address', 'auto'])}"


def logical_id(options: Options) -> str:
    """Names the work: the same command on the same recipe and links has the same id, whoever submits it when."""
    inputs = [options.recipe.read_bytes().hex()]
    for link in options.links:
        stat = link.stat()
        inputs.append(f"{stat.st_size} {stat.st_mtime_ns}")
    digest = hashlib.sha256(json.dumps([entrypoint(options), inputs]).encode()).hexdigest()
    return f"tamis-{re.sub('[^a-z0-9]+', '-', options.recipe.stem.lower())}-{digest[:12]}"


def _connect(address: str) -> JobSubmissionClient:
    with _understood(address):
        client = JobSubmissionClient(address)
        client.list_jobs()  # the constructor asks for the version only, which needs no token
        return client


@contextmanager
def _understood(address: str) -> Iterator[None]:
    """Turn what a cluster's refusal or silence raises into a JobError that says what to do."""
    try:
        yield
    except AuthenticationError as error:
        raise JobError(
            f"{address} refuses us: it wants its token. Export both variables, with the token it was started with:\n"
            f"  export RAY_AUTH_MODE=token\n  export RAY_AUTH_TOKEN=...\n"
            f"(RAY_AUTH_MODE is {os.environ.get('RAY_AUTH_MODE') or 'not set'}, RAY_AUTH_TOKEN is "
            f"{'set, so it is another cluster’s' if os.environ.get('RAY_AUTH_TOKEN') else 'not set'})"
        ) from error
    except (ConnectionError, requests.RequestException) as error:
        raise JobError(
            f"no Ray dashboard answers at {address}: is the cluster up, and its port 8265 reachable?"
        ) from error


def _ensure(client: JobSubmissionClient, options: Options, say: Callable[[str], None]) -> str:
    """The id of the attempt that is running, or else of the next one, now submitted.

    Ray refuses a used id even after its job was deleted, hence the attempts; one that ended is not taken for an answer:
    the next one finds every part of it in the store and is cheap.
    """
    name = logical_id(options)
    deadline = time.monotonic() + AGENT_START_S
    tries = 0
    while tries < SUBMIT_TRIES:
        tries += 1
        with _understood(options.address):
            jobs = {job.submission_id: job.status for job in client.list_jobs()}
        taken = [re.fullmatch(f"{name}-a([0-9]+)", each or "") for each in jobs]
        latest = max((int(match[1]) for match in taken if match), default=0)
        last, job = f"{name}-a{latest}", f"{name}-a{latest + 1}"
        if last in jobs and not jobs[last].is_terminal():
            say(f"job {last} is {jobs[last].value.lower()} at {options.address}: attached to it")
            return last
        try:
            with _understood(options.address):
                client.submit_job(
                    submission_id=job,
                    entrypoint=entrypoint(options),
                    metadata={"recipe": str(options.recipe), "store": str(options.store)},
                )
        except RuntimeError as error:
            if "No available agent" in str(error) and time.monotonic() < deadline:
                tries -= 1  # a head that has just been started: the process that takes jobs comes last
                time.sleep(POLL_S)
                continue
            if "already" not in str(error):
                raise JobError(f"{options.address}: {str(error).splitlines()[0]}") from error
            continue  # another submitter was faster: attach to its job
        say(f"job {job} submitted to {options.address}")
        return job
    raise JobError(f"{name}: {SUBMIT_TRIES} attempts were each taken by another submitter")


def _follow(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> None:
    """Until the job ends, say what it prints. A lost connection is taken up again where it broke."""
    lines = _Lines(say)
    failures = 0
    while True:
        try:
            asyncio.run(_tail(client, job, lines))
            while not client.get_job_status(job).is_terminal():
                time.sleep(POLL_S)
        except (aiohttp.ClientError, requests.RequestException, ConnectionError, RuntimeError) as error:
            failures = 1 if lines.moved else failures + 1
            if failures > RECONNECTS:
                raise JobError(
                    f"lost contact with the cluster ({error}). Job {job} goes on there; the same command attaches again"
                ) from error
            time.sleep(RECONNECT_WAIT_S)
        else:
            lines.end()
            return


async def _tail(client: JobSubmissionClient, job: str, lines: _Lines) -> None:
    lines.restart()
    async for chunk in client.tail_job_logs(job):
        lines.take(chunk)


class _Lines:
    """Cuts the log's chunks into lines. The log comes from its beginning each time: what was said is skipped."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._said, self._skip, self._rest, self.moved = say, 0, 0, "", False

    def restart(self) -> None:
        self._skip, self.moved = self._said, False

    def take(self, chunk: str) -> None:
        new = chunk[self._skip :]
        self._skip -= len(chunk) - len(new)
        self._said += len(new)
        self.moved = self.moved or bool(new)
        *whole, self._rest = (self._rest + new).split("\n")
        for line in whole:
            self._say(line)

    def end(self) -> None:
        if self._rest:
            self._say(self._rest)
            self._rest = ""


def _stop(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> None:
    """Stop the job and see it stopped, in `STOP_WAIT_S`. Never raises: something else is on its way up already."""
    say(f"interrupted: stopping job {job}")
    end = time.monotonic() + STOP_WAIT_S
    try:
        client.stop_job(job)
        while not (status := client.get_job_status(job)).is_terminal() and time.monotonic() < end:
            time.sleep(POLL_S)
    except (requests.RequestException, ConnectionError, RuntimeError) as error:
        say(f"job {job} could not be stopped: {error}")
    else:
        say(f"job {job}: {status.value.lower()}")
