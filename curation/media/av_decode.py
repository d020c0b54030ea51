"""Probing, decoding and cutting untrusted video and audio in a child process that may crash, hang or eat memory.

As `curation.media.decode` does for pictures, with two differences: the medium is passed as an open file, so that it
need not fit into memory, and the answer comes in pieces, so that neither side holds a whole film. What the child may do
stands in `lockdown_child.py`, what it decodes in `av_child.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self, TypeVar

from curation.media.av_types import AvLimits, AvOutcome, AvProbe, Chunk, Cut, Cutting, Gathered, Wanted, chunk_of
from curation.media.child import ChildDied, _folders
from curation.reasons import Reason

_CHILD = Path(__file__).with_name("av_child.py")
_REQUEST = struct.Struct("<I")  # the same in av_child.py, which imports nothing of the project
_MESSAGE = struct.Struct("<cIQ")
_MAX_DEATHS = 2
_START_TIMEOUT_S = 60.0  # a loaded machine; a start takes 0.4 s
_STARVED_S = 1.0  # after which a child that had no time is looked at again
_MAX_MESSAGE_BYTES = 1 << 30  # a child that was taken over may answer anything
# Threads would reserve memory. And glibc should keep a frame's memory, and that of its motion vectors, for the next:
# given back and asked for again it costs up to half as much as the decoding.
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
}

Source = bytes | Path
"""A medium: its bytes, or a file that holds them."""


class Collector(Protocol):
    """Takes what is decoded, piece by piece, in the order of decoding."""

    def add(self, chunk: Chunk, /) -> None: ...


C = TypeVar("C", bound=Collector)


class AvDecoder:
    """Owns one child process; a context manager. Safe to call from several threads (they take turns).

    A medium of which two children died gets `av.decoder_crash`, `av.decoder_timeout` or `av.decoder_memory`, and is not
    tried again: `fatal` maps its SHA-256 to that code and its detail. What is put in there, of parts made earlier, is
    answered in the same way, unseen. Pass its keys as `quarantine` to an AvDecoder that is to say `av.quarantined`.
    decoder_s: CPU seconds that FFmpeg's decoders took so far, of all that it did; libav_s: with them those in which it
    read containers and scaled frames.
    """

    def __init__(self, limits: AvLimits | None = None, quarantine: Iterable[str] = ()) -> None:
        self.limits = limits or AvLimits()
        self.quarantine = frozenset(quarantine)
        self.fatal: dict[str, tuple[str, str | None]] = {}
        self.num_starts = 0
        self.decoder_s = self.libav_s = 0.0
        self._child: _Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child. The next call would start another."""
        with self._lock:
            self._discard()

    def probe(self, source: Source, is_own: bool = False) -> AvProbe:
        """What a medium is, by its header and its first frames. Never raises because of what `source` holds.

        is_own: of a cut that was just made, whose header can be believed; it costs half as much."""
        outcome, _ = self._ask(source, {"op": "probe", "is_own": is_own}, _Nothing)
        return replace(outcome.probe, reason=outcome.reason, detail=outcome.detail)

    def decode(self, source: Source, wanted: Wanted, collector: Callable[[], C]) -> tuple[AvOutcome, C]:
        """Decode once and give every piece to a collector. `collector` makes a fresh one for each attempt, for the
        first child may die half way. Never raises because of what `source` holds."""
        return self._ask(source, {"op": "decode", **wanted.as_request()}, collector)

    def gather(self, source: Source, wanted: Wanted, max_bytes: int = 1 << 30) -> tuple[AvOutcome, Gathered]:
        """`decode` into arrays. Of what is beyond `max_bytes` nothing is kept, and `Gathered.is_full` says so."""
        return self.decode(source, wanted, lambda: Gathered(max_bytes))

    def cut(
        self, source: Source, spans: Iterable[tuple[float, float]], cutting: Cutting | None = None
    ) -> tuple[AvOutcome, list[Cut]]:
        """The time ranges (start, end) in seconds as media of their own, in order; see `Cutting` and `Cut`."""
        cutting = cutting or Cutting()
        wanted = [(float(start), float(end)) for start, end in spans]
        for start, end in wanted:
            if not 0 <= start < end:
                raise ValueError(f"the span {start} .. {end} is not a time range: it wants 0 <= start < end")
        outcome, cuts = self._ask(source, {"op": "cut", "spans": wanted, **asdict(cutting)}, _Cuts)
        return outcome, cuts.of(wanted, outcome)

    def texts(self, source: Source) -> tuple[AvOutcome, list[dict[str, Any]]]:
        """Packets of the embedded text subtitles; `curation.av.subtitles.from_packets` reads them."""
        outcome, _ = self._ask(source, {"op": "texts"}, _Nothing)
        return outcome, outcome.texts

    def _ask(self, source: Source, request: dict[str, Any], collector: Callable[[], C]) -> tuple[AvOutcome, C]:
        with self._lock, _opened(source) as file:
            known = self._known(file)
            if known is not None:
                return AvOutcome(reason=known[0], detail=known[1]), collector()
            for _ in range(_MAX_DEATHS):
                into = collector()
                try:
                    outcome = self._start().ask(file.fileno(), request, into)
                    self.decoder_s += outcome.decoder_s
                    self.libav_s += outcome.decoder_s + outcome.demux_s + outcome.scale_s
                    return outcome, into
                except ChildDied as death:
                    reason, detail = death.reason.value, str(death)
                    self._discard()
            self.fatal[_sha256(file)] = reason, detail
            return AvOutcome(reason=reason, detail=detail), into

    def death_of(self, source: Source) -> tuple[str, str | None] | None:
        """Reason and detail of a medium that killed its decoders, here or before; None where it is not known to."""
        if not self.fatal and not self.quarantine:
            return None
        with _opened(source) as file:
            return self._known(file)

    def _known(self, file: BinaryIO) -> tuple[str, str | None] | None:
        if not self.fatal and not self.quarantine:
            return None
        digest = _sha256(file)
        if digest in self.quarantine:
            return Reason.AV_QUARANTINED.value, "killed the decoder in an earlier run"
        return self.fatal.get(digest)

    def _start(self) -> _Child:
        if self._child is None:
            self._child = _Child(self.limits)
            self.num_starts += 1
        return self._child

    def _discard(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None


class _Nothing:
    def add(self, _chunk: Chunk) -> None:
        raise ChildDied(Reason.AV_DECODER_CRASH, "answered nonsense")


class _Cuts:
    def __init__(self) -> None:
        self.found: dict[int, Cut] = {}

    def add(self, chunk: Chunk) -> None:
        if not isinstance(chunk, Cut):
            raise ChildDied(Reason.AV_DECODER_CRASH, "answered nonsense")
        self.found[chunk.index] = chunk

    def of(self, wanted: list[tuple[float, float]], outcome: AvOutcome) -> list[Cut]:
        """One for each span; those that were not reached have the outcome's reason."""
        missing = outcome.reason or Reason.AV_CORRUPT.value
        return [
            self.found.get(index) or Cut(index=index, reason=missing, detail=outcome.detail)
            for index in range(len(wanted))
        ]


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """The medium as an open file: bytes go into memory that has a descriptor (Linux) or into a nameless file."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
        return
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("medium"), "r+b", buffering=0) as file:
            view = memoryview(source)
            while view:
                view = view[file.write(view) :]
            yield file
        return
    with tempfile.TemporaryFile() as temporary:
        temporary.write(source)
        temporary.flush()
        yield temporary


def _sha256(file: BinaryIO) -> str:
    state, at = hashlib.sha256(), 0
    while part := os.pread(file.fileno(), 1 << 20, at):
        state.update(part)
        at += len(part)
    return state.hexdigest()


class _Child:
    """The process and its connection."""

    def __init__(self, limits: AvLimits) -> None:
        self._limits = limits
        self._connection, theirs = socket.socketpair()
        # -I -S: no environment, no user or site packages; the folders of what it decodes with are the only addition.
        command = [sys.executable, "-I", "-S", "-B", str(_CHILD)]
        command += [json.dumps(_folders("av", "numpy")), json.dumps(asdict(limits))]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        try:
            _, ready, _ = self._message(time.monotonic() + _START_TIMEOUT_S, _START_TIMEOUT_S)
        except ChildDied as death:
            self.close()
            raise RuntimeError(f"the decoder's process does not start ({death}): {' '.join(command)}") from death
        self.is_locked: bool = ready["is_locked"]

    def ask(self, descriptor: int, request: dict[str, Any], collector: Collector) -> AvOutcome:
        """One request and its answer. Errors: ChildDied."""
        deadline = time.monotonic() + self._limits.timeout_s
        encoded = json.dumps(request).encode()
        try:
            socket.send_fds(self._connection, [_REQUEST.pack(len(encoded))], [descriptor])
            self._connection.sendall(encoded)
        except (BrokenPipeError, ConnectionResetError):
            raise self._death() from None
        while True:
            kind, content, body = self._message(deadline, self._limits.stall_s)
            if kind == b"e":
                return AvOutcome.of(content)
            if kind != b".":
                try:
                    chunk = chunk_of(kind, content, body)
                except (KeyError, ValueError, TypeError) as error:
                    raise ChildDied(Reason.AV_DECODER_CRASH, f"answered nonsense: {error}") from error
                before = time.monotonic()
                collector.add(chunk)
                deadline += time.monotonic() - before  # in which the child waits: a collector may run a network

    def close(self) -> None:
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _message(self, deadline: float, stall_s: float) -> tuple[bytes, dict[str, Any], bytearray]:
        until = min(deadline, time.monotonic() + stall_s)
        self._cpu_at_sign_s = (self._usage() or ("", 0.0))[1]
        kind, len_json, len_body = _MESSAGE.unpack(self._read(_MESSAGE.size, until, deadline))
        if len_json > _MAX_MESSAGE_BYTES or len_body > _MAX_MESSAGE_BYTES:
            raise ChildDied(Reason.AV_DECODER_CRASH, "answered nonsense")
        until = time.monotonic() + stall_s
        content = json.loads(bytes(self._read(len_json, until, deadline)))
        return kind, content, self._read(len_body, until, deadline)

    def _read(self, num_bytes: int, until: float, deadline: float) -> bytearray:
        buffer = bytearray(num_bytes)
        view, have = memoryview(buffer), 0
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while have < num_bytes:
            left_s = until - time.monotonic()
            if not poll.poll(max(0.0, left_s) * 1000):
                if left_s <= 0:
                    if time.monotonic() >= deadline or not self._is_starved():
                        raise ChildDied(Reason.AV_DECODER_TIMEOUT, "did not answer in time")
                    until = min(deadline, time.monotonic() + _STARVED_S)
                continue
            try:
                count = self._connection.recv_into(view[have:])
            except ConnectionResetError:
                count = 0
            if count == 0:
                raise self._death()
            have += count
        return buffer

    def _is_starved(self) -> bool:
        """Whether it gives no sign of life because the machine gives it no time: it could run, and has run for less
        than half of what counts as a stall. That is no medium's fault."""
        usage = self._usage()
        return usage is not None and usage[0] == "R" and usage[1] - self._cpu_at_sign_s < self._limits.stall_s / 2

    def _usage(self) -> tuple[str, float] | None:
        """(state, CPU seconds) of the process; None where the system does not say (proc(5): Linux)."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _death(self) -> ChildDied:
        try:
            status = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return ChildDied(Reason.AV_DECODER_CRASH, "closed its connection")
        if status == -24:  # SIGXCPU
            return ChildDied(Reason.AV_DECODER_TIMEOUT, "CPU time")
        return ChildDied(Reason.AV_DECODER_CRASH, f"signal {-status}" if status < 0 else f"exit status {status}")
