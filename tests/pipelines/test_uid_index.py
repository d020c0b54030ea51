"""Places of uids, against a dictionary: digests, other strings, and numbers that lie unevenly or begin alike."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import uid_index
from pipelines.uid_index import Keys, UidIndex

NUMBERS = st.one_of(st.integers(0, 20), st.integers(0, 2**128 - 1), st.integers(2**64 - 5, 2**64 + 5))
UIDS = st.text("abé0", max_size=3) | NUMBERS.map("{:032x}".format) | st.just("A" * 32) | st.just("g" + 31 * "0")


@settings(max_examples=40, deadline=None)
@given(st.lists(UIDS, unique=True, max_size=40), st.lists(st.none() | UIDS, max_size=40), st.booleans())
def test_every_uid_is_found_where_it_is(known: list[str], wanted: list[str | None], in_order: bool) -> None:
    known = sorted(known) if in_order else known
    place = {uid: n for n, uid in enumerate(known)}
    some = wanted + [uid for uid in known if random.Random(uid).random() < 0.5]
    for kind in (pa.string(), pa.large_string()):
        index = UidIndex(Keys.of(pa.array(["x", *known], kind)[1:]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(uid_index, "_PIECE", 7)
            found = index.find(pa.array([None, *some], pa.string())[1:])
        assert found.tolist() == [place.get(uid, -1) if uid is not None else -1 for uid in some]


@given(st.lists(NUMBERS, max_size=20))
def test_digests_are_the_numbers_that_they_spell(numbers: list[int]) -> None:
    keys = Keys.of(pa.array([f"{number:032x}" for number in numbers], pa.string()))
    assert [int(high) << 64 | int(low) for high, low in zip(keys.high, keys.low, strict=True)] == numbers
    again = Keys.joined([Keys.of(pa.array([f"{number:032x}"])) for number in numbers])
    assert again.high.tolist() == keys.high.tolist()
    assert again.low.tolist() == keys.low.tolist()


def test_other_strings_have_keys_of_their_own() -> None:
    others = ["", "0", "00", "0" * 31, "0" * 33, "A" * 32, "a" * 31 + "G", "é" * 16, "/" * 32, ":" * 32, "`" * 32]
    keys = Keys.of(pa.array(["0" * 32, "a" * 32, *others]))
    assert len(set(zip(keys.high.tolist(), keys.low.tolist(), strict=True))) == len(others) + 2


def test_many_digests() -> None:
    chance = np.random.default_rng(5)
    uids = [chance.bytes(16).hex() for _ in range(3000)]
    index = UidIndex(Keys.of(pa.array(uids)))
    assert index.find(pa.array(uids)).tolist() == list(range(3000))
    assert (index.find(pa.array([chance.bytes(16).hex() for _ in range(3000)])) == -1).all()
