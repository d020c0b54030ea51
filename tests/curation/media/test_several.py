"""Several pictures in one request to the child: the same answers as one by one, whatever happens to it."""

import hashlib
import json
import os
import select
import signal
import struct
import zlib

import pytest

from curation.media.decode import DecodeLimits, Decoder
from curation.media.image_output import ImageOutput
from tests.curation.media import pictures

JPEG, PNG = pictures.encode(pictures.photo(200, 150), "JPEG"), pictures.encode(pictures.photo(200, 150), "PNG")
BAD = [b"", b"<html>", pictures.encode(pictures.photo(8, 8), "BMP"), JPEG[:-200], PNG[:300], JPEG[:100] + JPEG]
SMALLER = ImageOutput(resize_mode="keep_ratio", image_size=60, keep_original_bytes=False)


@pytest.mark.parametrize("output", [ImageOutput(), SMALLER])
def test_several_at_once_are_as_each_alone(output: ImageOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    datas = [*pictures.valid().values(), *BAD, *pictures.mutants(100, seed=5)]
    with Decoder(output=output) as decoder:
        alone = [decoder.convert(data) for data in datas]
        assert decoder.convert_several(datas) == alone
        assert decoder.convert_several([]) == []
        monkeypatch.setattr("curation.media.child.IN_BYTES", max(map(len, datas)))  # no room for all of them
        assert decoder.convert_several(datas) == alone
    monkeypatch.setattr("curation.media.child.OUT_BYTES", 10_000)  # nor for all of what they become
    monkeypatch.setattr("curation.media.shared_pages.OUT_BYTES", 10_000)
    monkeypatch.setattr("curation.media.child.IN_BYTES", 8 << 20)
    with Decoder(output=output) as decoder:
        assert decoder.convert_several(datas) == alone
    monkeypatch.setattr("curation.media.child.SharedPages.make", lambda: None)
    with Decoder(output=output) as decoder:
        assert decoder.convert_several(datas) == alone


def test_of_several_only_the_one_that_kills_is_lost() -> None:
    slow = pictures.png(6000, 6000, 8, 2, zlib.compress(bytes(6000 * 18001), 1))
    datas = [JPEG, slow, PNG, b"no picture"]
    with Decoder(DecodeLimits(timeout_s=0.02)) as decoder:
        reasons = [each.reason for each in decoder.convert_several(datas)]
        assert reasons == [None, "img.decoder_timeout", None, "img.not_image"]
        assert decoder.num_starts == 4  # together, for the first one, for the slow one again, for those behind it
        assert [each.reason for each in decoder.convert_several(datas)] == reasons
        assert decoder.num_starts == 4
        assert decoder._child is not None
        os.kill(decoder._child._process.pid, signal.SIGKILL)
        assert [each.reason for each in decoder.convert_several(datas)] == reasons
        assert list(decoder.fatal) == [hashlib.sha256(slow).hexdigest()]


@pytest.mark.parametrize("sizes", [[-1, 5], [1 << 60, 0], [5], [0, 0, 0]])
def test_nonsense_about_several_is_a_death(sizes: list[int]) -> None:
    said = json.dumps({"answers": [{}] * 2, "sizes": sizes}).encode()
    with Decoder() as decoder:
        decoder.decode(JPEG)
        assert decoder._child is not None
        read_end, write_end = os.pipe()
        os.write(write_end, struct.pack("<IQ", len(said), 0) + said)
        decoder._child._poll.unregister(decoder._child._out)
        decoder._child._out = read_end
        decoder._child._poll.register(read_end, select.POLLIN)
        assert [each.reason for each in decoder.convert_several([JPEG, PNG])] == [None, None]
        assert decoder.num_starts == 2
        os.close(read_end)
        os.close(write_end)
