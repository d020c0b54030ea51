"""What the tests of cutting and of signals share: one decoder child for each of their files."""

from collections.abc import Iterator

import pytest

from curation.media.av_decode import AvDecoder


@pytest.fixture(scope="module")
def decoder() -> Iterator[AvDecoder]:
    with AvDecoder() as it:
        yield it
