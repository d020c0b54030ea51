"""Requests and answers of the decoder's process, over two pipes and the memory that it shares with its parent.

Loaded as a file by `decode_child.py`; standard library only.

Request:  header `<QIB` (number of bytes, short side in pixels or 0, what is wanted: 0 the checks, 1 pixels, 2 the
          picture as it is to be stored, 3 several views, 4 the picture with some boxes blurred, encoded anew), then
          the bytes; for the last two what is asked for comes first, as JSON, and its length stands in the place of the
          short side. Wanted 5: several pictures, which lie in the shared memory; then instead of the bytes a JSON list
          of what is wanted of each (2 or 3), what comes before its bytes, and how many bytes each has.
Answer:   header `<IQ` (length of a JSON object, number of bytes behind it), the JSON object, then the pixels (H, W, 3,
          uint8), the encoded picture (none: the bytes as they came will do), or the views that are not shared. Of
          several pictures `answers` (null: no room for this one and those behind it) and `sizes` in bytes of what was
          made of each, one behind the other in the shared memory. One empty answer at the start says that it is ready.
JSON keys: reason, detail, format, width_px, height_px, num_frames, has_alpha, out_width_px, out_height_px, out_format,
          view_sizes.
"""

import json
import mmap
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

REQUEST = struct.Struct("<QIB")
ANSWER = struct.Struct("<IQ")
CHECKS, PIXELS, STORED, VIEWS, BLURRED, SEVERAL = range(6)
Answered = tuple[dict[str, Any], list[Any]]
"""The JSON object, and the bytes or arrays behind it; of what was decoded to the start of the room given, its size."""
Decode = Callable[[bytes, int | bytes, int, memoryview | None], Answered]
"""Of the bytes, the short side or the JSON that came before them, what is wanted, and where it may be put."""


class Shared:
    """Room for the pictures of one request, and behind it for what was made of them. Neither side can shrink the pages,
    so reading them never fails."""

    def __init__(self, descriptor: int, in_bytes: int, out_bytes: int) -> None:
        pages = memoryview(mmap.mmap(descriptor, in_bytes + out_bytes))
        os.close(descriptor)
        self._pictures, self._made = pages[:in_bytes], pages[in_bytes:]

    def put(self, pieces: Sequence[Any], at: int = 0) -> int | None:
        """Lay bytes or arrays there, one behind the other; returns how many bytes, None if there is no room."""
        if len(pieces) == 1 and isinstance(pieces[0], int):
            return pieces[0]
        flat = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        num_bytes = sum(map(len, flat))
        if at + num_bytes > len(self._made):
            return None
        for each in flat:
            self._made[at : at + len(each)] = each
            at += len(each)
        return num_bytes

    def room(self, at: int = 0) -> memoryview:
        """Where what is made of a picture may go."""
        return self._made[at:]

    def several(self, sizes: list[int], decode: Callable[[bytes, memoryview], Answered]) -> dict[str, Any]:
        """The answers for the pictures that lie there, as far as there is room for them."""
        answers: list[dict[str, Any]] = []
        num_bytes: list[int] = []
        at = 0
        for size in sizes:
            start = sum(num_bytes)
            answer, made = decode(bytes(self._pictures[at : at + size]), self.room(start))
            taken = self.put(made, start)
            if taken is None:
                break
            answers.append(answer)
            num_bytes.append(taken)
            at += size
        num_left = len(sizes) - len(answers)
        return {"answers": [*answers, *[None] * num_left], "sizes": [*num_bytes, *[0] * num_left]}


def serve(
    source: BinaryIO,
    sink: BinaryIO,
    shared: Shared | None,
    decode: Decode,
    begin: Callable[[], None],
) -> None:
    """Say that it is ready (an empty answer), then answer requests until the input ends. begin: called before each."""
    sink.write(ANSWER.pack(0, 0))
    sink.flush()
    while request := source.read(REQUEST.size):
        if len(request) < REQUEST.size:
            return
        num_bytes, short_side_px, wanted = REQUEST.unpack(request)
        data = source.read(num_bytes)
        if len(data) < num_bytes:
            return
        begin()
        made: list[Any] = []
        if wanted == SEVERAL:
            assert shared is not None
            of_each, before, sizes = json.loads(data)
            encoded = before.encode()
            answer = shared.several(sizes, lambda picture, room: decode(picture, encoded, of_each, room))  # noqa: B023
        elif wanted in (VIEWS, BLURRED):
            room = None if shared is None else shared.room()
            answer, made = decode(data[short_side_px:], data[:short_side_px], wanted, room)
            if wanted == VIEWS and shared is not None and shared.put(made) is not None:
                made = []
        else:
            answer, made = decode(data, short_side_px, wanted, None)
        body = b"".join(memoryview(each).cast("B") for each in made if len(each))
        encoded = json.dumps(answer).encode()
        sink.write(ANSWER.pack(len(encoded), len(body)) + encoded)
        sink.write(body)
        sink.flush()
