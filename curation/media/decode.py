"""Decoding untrusted pictures in a child process that may crash, hang or eat memory without taking a row with it.

Image decoders are C code that strangers' bytes can crash (a 104-byte PNG ends a process that decodes it with
torchvision 0.29.1). A process of its own costs next to nothing against decoding and comes back in milliseconds. One
child, one picture at a time over two pipes; its limits stand in `decode_child.give_up_rights`.
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from curation.media.child import CHECKS, PIXELS, STORED, Child, ChildDied
from curation.media.decoded import Decoded, DecodeLimits
from curation.media.image_output import ImageOutput
from curation.reasons import Reason

__all__ = ["ChildDied", "DecodeLimits", "Decoded", "Decoder"]

_MAX_DEATHS = 2  # a death may be an accident (the machine's memory, a person); two of the same bytes are not


class Decoder:
    """Owns one child process; a context manager. Safe to call from several threads (they take turns).

    Bytes of which two children died get `img.decoder_crash`, `img.decoder_timeout` or `img.decoder_memory`; copies of
    them get the same verdict without another try, so that a verdict does not depend on which copy came first. `fatal`
    maps their SHA-256 to that verdict: save it and pass its keys as `quarantine` to a later Decoder, which answers
    `img.quarantined` unseen.
    """

    gives_views = False
    """Whether the child loads what `curation.media.views` needs."""

    def __init__(
        self, limits: DecodeLimits | None = None, quarantine: Iterable[str] = (), output: ImageOutput | None = None
    ) -> None:
        self.limits = limits or DecodeLimits()
        self.output = output or ImageOutput()
        self.quarantine = frozenset(quarantine)
        self.fatal: dict[str, Decoded] = {}
        self.num_starts = 0
        self._child: Child | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        with self._lock:
            self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child. The next `decode` would start another."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None

    def decode(self, data: bytes, short_side_px: int | None = None, pixels: bool = True) -> Decoded:
        """Decode one picture completely; see `Decoded` for what comes back. Never raises because of `data`.

        short_side_px: shrink so that the shorter side is at most this many pixels (never enlarged). A JPEG is decoded
        at the smallest of 1, 1/2, 1/4, 1/8 that keeps at least twice the target; a box, then Hamming's filter do the
        rest. (100 collages of 0.2-2 Mpx to 256: PSNR to a full decode with a box filter 41.4 dB median, 33.8 dB 5th
        percentile, at 5.8 ms; with Lanczos 39.6 and 32.1 dB at 10.2 ms.)
        pixels=False: everything but the pixels, damage included, at less cost.
        """
        return self._ask(data, short_side_px or 0, PIXELS if pixels else CHECKS)

    def convert(self, data: bytes) -> Decoded:
        """Check one picture completely and make what `output` wants to be stored of it, in one decoding.

        The checks of the limits come first, then those of `output`, all by the header; see `Decoded.stored`.
        """
        return self._ask(data, 0, STORED)

    def _ask(self, data: bytes, short_side_px: int, wanted: int, before: bytes = b"") -> Decoded:
        with self._lock:
            known = self._known(data)
            if known is not None:
                return known
            for _ in range(_MAX_DEATHS):
                child = self._start()
                try:
                    return child.decode(data, short_side_px, wanted, before)
                except ChildDied as death:
                    verdict = Decoded(reason=death.reason.value, detail=str(death))
                    self._discard()
            self.fatal[hashlib.sha256(data).hexdigest()] = verdict
            return verdict

    def decode_many(
        self, items: Iterable[bytes], short_side_px: int | None = None, pixels: bool = True
    ) -> Iterator[Decoded]:
        """`decode` for each item, in order and lazily."""
        for data in items:
            yield self.decode(data, short_side_px, pixels)

    def _known(self, data: bytes) -> Decoded | None:
        if not self.fatal and not self.quarantine:
            return None
        digest = hashlib.sha256(data).hexdigest()
        if digest in self.quarantine:
            return Decoded(reason=Reason.IMG_QUARANTINED.value, detail="killed the decoder in an earlier run")
        return self.fatal.get(digest)

    def _start(self) -> "Child":
        if self._child is None:
            child = Child(self.limits, self.output, self.gives_views)
            child.wait_until_ready()
            self._child = child
            self.num_starts += 1
        return self._child

    def _discard(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None
<<<<<<< HEAD


class _Child:
    """The process and its two pipes."""

    def __init__(self, limits: DecodeLimits, output: ImageOutput) -> None:
        folders = _folders("PIL", "numpy", "cv2", "simplejpeg") if output.may_encode else _folders("PIL")
        settings = {**asdict(limits), "output": output.model_dump(), "with_arrays": output.may_encode}
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
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        for fd in (self._in, self._out):
            os.set_blocking(fd, False)
            _grow_pipe(fd)
        self._queue: list[memoryview] = []
        self._limits = limits

    def wait_until_ready(self) -> None:
        """Until it has loaded its codecs and limited itself. Errors: RuntimeError, for that is no picture's fault."""
        try:
            self._read(_ANSWER.size, time.monotonic() + _START_TIMEOUT_S)
        except ChildDied as death:
            self.kill()
            raise RuntimeError(f"the decoder's process does not start ({death}): {' '.join(self._command)}") from death

    def decode(self, data: bytes, short_side_px: int, wanted: int) -> Decoded:
        """One request and its answer. Errors: ChildDied."""
        deadline = time.monotonic() + self._limits.timeout_s
        self._queue = [memoryview(_REQUEST.pack(len(data), short_side_px, wanted)), memoryview(data)]
        len_json, len_body = _ANSWER.unpack(self._read(_ANSWER.size, deadline))
        answer: dict[str, Any] = json.loads(bytes(self._read(len_json, deadline)))
        if wanted == _STORED:
            return Decoded(stored=bytes(self._read(len_body, deadline)) or None, **answer)
        size = (answer.pop("out_height_px", 0), answer.pop("out_width_px", 0), 3)
        if not len_body:
            return Decoded(**answer)
        array = np.frombuffer(self._read(len_body, deadline), np.uint8).reshape(size)
        array.flags.writeable = False
        return Decoded(pixels=array, **answer)

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

    def kill(self) -> None:
        self._process.kill()
        self.close()

    def _read(self, num_bytes: int, deadline: float) -> bytearray:
        """Exactly so many bytes from the child, writing what is left of the request whenever it takes some."""
        if num_bytes > 3 * self._limits.max_pixels + 65536:  # a child that was taken over may answer anything
            raise ChildDied(Reason.IMG_DECODER_CRASH, "answered nonsense")
        buffer = bytearray(num_bytes)
        view, have = memoryview(buffer), 0
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        is_writing = False
        while have < num_bytes:
            if bool(self._queue) != is_writing:
                is_writing = bool(self._queue)
                if is_writing:
                    poll.register(self._in, select.POLLOUT)
                else:
                    poll.unregister(self._in)
            left_s = deadline - time.monotonic()
            events = poll.poll(max(0.0, left_s) * 1000)
            if not events and left_s <= 0:
                raise ChildDied(Reason.IMG_DECODER_TIMEOUT, f"more than {self._limits.timeout_s:g} s")
            for fd, _ in events:
                if fd == self._in:
                    self._write()
                else:
                    have += self._read_some(view[have:])
        return buffer

    def _read_some(self, view: memoryview) -> int:
        try:
            count = os.readv(self._out, [view])
        except BlockingIOError:
            return 0
        if count == 0:
            raise self._death()
        return count

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
=======
>>>>>>> main
