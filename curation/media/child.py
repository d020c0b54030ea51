"""The decoder's process as its parent sees it: two pipes, a clock, and what a death means."""

import contextlib
import importlib.util
import json
import math
import os
import select
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.media.decoded import Decoded, DecodeLimits
from curation.media.image_output import ImageOutput
from curation.media.shared_pages import IN_BYTES, OUT_BYTES, SharedPages
from curation.reasons import Reason

_CHILD = Path(__file__).with_name("decode_child.py")
_REQUEST = struct.Struct("<QIB")  # the same in serve_child.py, which imports nothing of the project
_ANSWER = struct.Struct("<IQ")
_PIPE_BYTES = 1 << 20  # Linux's default ceiling for an unprivileged process
_SPILL_BYTES = 1 << 16  # an answer with a small picture comes in one read
_START_TIMEOUT_S = 30.0  # a loaded machine; a start takes 0.1 s
CHECKS, PIXELS, STORED, VIEWS, BLURRED, SEVERAL = range(6)  # what is wanted of the child
# Threads would reserve memory, and wait. And glibc should keep a picture's memory for the next one: given back and
# asked for again it costs 0.1 ms a picture.
_CHILD_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
}


class ChildDied(Exception):
    """The child went away or had to be killed while it worked on a picture; carries the reason code."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Child:
    """The process, its two pipes and, where it gives views, the memory shared with it."""

    def __init__(self, limits: DecodeLimits, output: ImageOutput, gives_views: bool = False) -> None:
        with_arrays = output.may_encode or gives_views
        folders = _folders("PIL", "numpy", "cv2", "simplejpeg") if with_arrays else _folders("PIL")
        settings = {**asdict(limits), "output": output.model_dump(), "with_arrays": with_arrays}
        self._shared = SharedPages.make()
        settings["shared"] = None if self._shared is None else [self._shared.descriptor, IN_BYTES, OUT_BYTES]
        # -I -S: no environment, no user or site packages; the folders of what it decodes with are the only addition.
        # Not a fork: the parent may be a Ray worker with threads and gigabytes of memory.
        self._command = [sys.executable, "-I", "-S", "-B", str(_CHILD), json.dumps(folders), json.dumps(settings)]
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_CHILD_ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            pass_fds=() if self._shared is None else (self._shared.descriptor,),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        for fd in (self._in, self._out):
            os.set_blocking(fd, False)
            _grow_pipe(fd)
        self._poll = select.poll()
        self._poll.register(self._out, select.POLLIN)
        self._queue: list[memoryview] = []  # what is left of the request
        self._is_waiting_to_write = False
        self._spill, self._spilled = memoryview(bytearray(_SPILL_BYTES)), (0, 0)  # read already: where from, where to
        self._limits = limits

    def wait_until_ready(self) -> None:
        """Until it has loaded its codecs and limited itself. Errors: RuntimeError, for that is no picture's fault."""
        try:
            self._read(_ANSWER.size, time.monotonic() + _START_TIMEOUT_S)
        except ChildDied as death:
            self.kill()
            raise RuntimeError(f"the decoder's process does not start ({death}): {' '.join(self._command)}") from death

    def decode(self, data: bytes, short_side_px: int, wanted: int, before: bytes = b"") -> Decoded:
        """One request and its answer. before: what stands before the data. Errors: ChildDied."""
        deadline = time.monotonic() + self._limits.timeout_s
        header = _REQUEST.pack(len(before) + len(data), short_side_px, wanted)
        self._queue = [memoryview(header + before), memoryview(data)]
        self._write()
        answer, len_body = self._answer(deadline)
        if wanted in (STORED, BLURRED):
            return Decoded(**answer, stored=bytes(self._read(len_body, deadline)) or None)
        if wanted == VIEWS:
            return self._views(answer, len_body, deadline)
        size = (answer.pop("out_height_px", 0), answer.pop("out_width_px", 0), 3)
        if not len_body:
            return Decoded(**answer)
        array = np.frombuffer(self._read(len_body, deadline), np.uint8).reshape(size)
        array.flags.writeable = False
        return Decoded(**answer, pixels=array)

    def takes_several(self, items: Sequence[bytes]) -> bool:
        """Whether there is memory shared with the child, and room in it for so many pictures at once."""
        return self._shared is not None and sum(map(len, items)) <= IN_BYTES

    def decode_several(self, items: Sequence[bytes], wanted: int, before: bytes = b"") -> list[Decoded | None]:
        """Several requests at once, which costs each of them less, and their answers; None where there was no room.
        Together they may take as long as one alone. wanted: STORED or VIEWS. before: stands before each of them.
        Errors: ChildDied, of whichever it was."""
        assert self._shared is not None
        deadline = time.monotonic() + self._limits.timeout_s
        self._shared.write(items)
        asked = json.dumps([wanted, before.decode(), [len(item) for item in items]]).encode()
        self._queue = [memoryview(_REQUEST.pack(len(asked), 0, SEVERAL) + asked)]
        self._write()
        found, _ = self._answer(deadline)
        answers, sizes = found["answers"], found["sizes"]
        if not len(items) == len(answers) == len(sizes) or min(sizes) < 0 or sum(sizes) > OUT_BYTES:
            raise ChildDied(Reason.IMG_DECODER_CRASH, "answered nonsense")
        ends = list(accumulate(sizes, initial=0))
        return [self._one_of(*each, wanted) for each in zip(answers, sizes, ends, strict=False)]

    def _one_of(self, answer: dict[str, Any] | None, size: int, at: int, wanted: int) -> Decoded | None:
        assert self._shared is not None
        if answer is None:
            return None
        if wanted == STORED:
            return Decoded(**answer, stored=self._shared.read(size, at).tobytes() or None)
        return _with_views(answer, self._shared.read(size, at))

    def _answer(self, deadline: float) -> tuple[dict[str, Any], int]:
        """The JSON object, and how many bytes follow it."""
        len_json, len_body = _ANSWER.unpack(self._read(_ANSWER.size, deadline))
        answer: dict[str, Any] = json.loads(bytes(self._read(len_json, deadline)))
        return answer, len_body

    def _views(self, answer: dict[str, Any], len_body: int, deadline: float) -> Decoded:
        num_bytes = sum(math.prod(size) for size in _view_sizes(answer))
        if len_body:
            return _with_views(answer, np.frombuffer(self._read(len_body, deadline), np.uint8))
        if num_bytes and (self._shared is None or num_bytes > OUT_BYTES):
            raise ChildDied(Reason.IMG_DECODER_CRASH, "answered nonsense")
        return _with_views(answer, None if self._shared is None else self._shared.read(num_bytes))

    def close(self) -> None:
        """Close its input, at which it ends by itself; kill it if it does not."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def _read(self, num_bytes: int, deadline: float) -> bytearray:
        """Exactly so many bytes from the child, writing what is left of the request whenever it takes some."""
        if num_bytes > 3 * self._limits.max_pixels + 65536:  # a child that was taken over may answer anything
            raise ChildDied(Reason.IMG_DECODER_CRASH, "answered nonsense")
        buffer = bytearray(num_bytes)
        view = memoryview(buffer)
        start, end = self._spilled
        have = min(num_bytes, end - start)
        view[:have] = self._spill[start : start + have]
        self._spilled = start + have, end
        while have < num_bytes:
            if bool(self._queue) != self._is_waiting_to_write:
                self._is_waiting_to_write = bool(self._queue)
                if self._is_waiting_to_write:
                    self._poll.register(self._in, select.POLLOUT)
                else:
                    self._poll.unregister(self._in)
            left_s = deadline - time.monotonic()
            events = self._poll.poll(max(0.0, left_s) * 1000)
            if not events and left_s <= 0:
                raise ChildDied(Reason.IMG_DECODER_TIMEOUT, f"more than {self._limits.timeout_s:g} s")
            for fd, _ in events:
                if fd == self._in:
                    self._write()
                else:
                    have += self._read_some(view[have:])
        return buffer

    def _read_some(self, view: memoryview) -> int:
        """Fill the view as far as may be; what comes beyond it is kept for the next one."""
        try:
            count = os.readv(self._out, [view, self._spill])
        except BlockingIOError:
            return 0
        if count == 0:
            raise self._death()
        if count > len(view):
            self._spilled = 0, count - len(view)
        return min(count, len(view))

    def _write(self) -> None:
        try:
            count = os.writev(self._in, self._queue)
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._queue.clear()  # it is dead or dying; the read side says how
            return
        while self._queue and count >= len(self._queue[0]):
            count -= len(self._queue.pop(0))
        if count:
            self._queue[0] = self._queue[0][count:]

    def _death(self) -> ChildDied:
        try:
            status = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return ChildDied(Reason.IMG_DECODER_CRASH, "closed its output")
        if status == -24:  # SIGXCPU
            return ChildDied(Reason.IMG_DECODER_TIMEOUT, "CPU time")
        return ChildDied(Reason.IMG_DECODER_CRASH, f"signal {-status}" if status < 0 else f"exit status {status}")


def _view_sizes(answer: dict[str, Any]) -> list[tuple[int, int, int]]:
    """(height, width, 3) of each view. Errors: ChildDied."""
    sizes = [(int(height), int(width), 3) for height, width in answer.get("view_sizes", [])]
    if any(height <= 0 or width <= 0 for height, width, _ in sizes):
        raise ChildDied(Reason.IMG_DECODER_CRASH, "answered nonsense")
    return sizes


def _with_views(answer: dict[str, Any], pixels: npt.NDArray[np.uint8] | None) -> Decoded:
    sizes = _view_sizes(answer)
    answer.pop("view_sizes", None)
    if not sizes:
        return Decoded(**answer)
    ends = list(accumulate(map(math.prod, sizes), initial=0))
    if pixels is None or pixels.size != ends[-1]:
        raise ChildDied(Reason.IMG_DECODER_CRASH, "answered nonsense")
    places = zip(pairwise(ends), sizes, strict=True)
    return Decoded(**answer, views=tuple(pixels[start:end].reshape(size) for (start, end), size in places))


def _folders(*packages: str) -> list[str]:
    """Where the packages are installed. Errors: ImportError."""
    found: dict[str, None] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise ImportError(f"{package} is not installed")
        found[str(Path(spec.origin).parent.parent)] = None
    return list(found)


def _grow_pipe(fd: int) -> None:
    """Larger pipes mean fewer switches between the two processes; Linux only, and only a wish."""
    import fcntl

    command = getattr(fcntl, "F_SETPIPE_SZ", None)
    if command is not None:
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(fd, command, _PIPE_BYTES)
