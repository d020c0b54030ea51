"""Survivors of duplicate groups from stored numbers, against a dull reading; and strings in files."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import strings
from pipelines.strings import Digests, Strings, StringsWriter, strings_of
from tests.pipelines.policies import decisions, row

Row = dict[str, Any]


def dull(rows: list[Row], groups: dict[str, str], least: float) -> dict[str, tuple[str, str] | None]:
    """For each text its group and the survivor's sample, None where it stays. The largest picture that passed stays."""
    media: dict[str, Row] = {}
    for each in rows:
        media.setdefault(each["media_uid"], each)
    good = {each["media_uid"] for each in rows if each["clip_score"] >= least}
    found: dict[str, tuple[str, str] | None] = {}
    for each in rows:
        group = groups.get(each["media_uid"])
        members = [uid for uid in media if group is not None and groups.get(uid) == group]
        best = min(
            members,
            key=lambda uid: (uid not in good, -media[uid]["width_px"], -media[uid]["size_bytes"], uid),
            default=None,
        )
        stays = best is None or best == each["media_uid"]
        found[each["text_uid"]] = None if stays or group is None else (group, media[best]["sample_uid"])  # type: ignore[index]
    return found


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 60), st.sampled_from([1, 4, 13, 100]), st.booleans())
def test_survivors_are_those_of_a_dull_reading(seed: int, num: int, batch_rows: int, members_name_groups: bool) -> None:
    chance = random.Random(seed)
    rows = [
        row(
            n,
            1000 * (n // batch_rows) + chance.randrange(num),  # a sample lies in one batch
            width_px=chance.choice([10, 20]),
            height_px=1,
            size_bytes=chance.choice([1, 2]),
            clip_score=chance.choice([0.0, 0.25, 0.5]),
        )
        for n in range(num)
    ]
    members = sorted({each["media_uid"] for each in rows})
    named = [m for m in members if chance.random() < 0.8] + ["m999"]  # one that the pool does not have
    groups = {m: chance.choice(named[:4] if members_name_groups else ["g1", "g2", "g3"]) for m in named}
    for least in (0.25, 0.75):
        policy = [{"rule": "good", "keep": f"clip_score >= {least}"}, {"dedupe": "near"}]
        found = decisions(rows, policy, groups, batch_rows=batch_rows, threads=2)
        expected = dull(rows, groups, least)
        for uid, decision in found.items():
            said = expected[uid]
            assert ("near" in decision["rejected_by"]) == (said is not None)
            assert decision["duplicate_of"] == (said and said[1])
            if said is not None:
                assert json.loads(decision["saw"][-1]) == {"duplicate_group": said[0], "duplicate_of": said[1]}


@pytest.mark.parametrize("most", [2**31 - 1, 4])
def test_strings_in_a_file(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strings, "_MOST_SMALL", most)
    with StringsWriter(None) as writer:
        for some in (["a", "", "bcd"], [], ["é", "zzz"]):
            writer.add(pa.array(["xx", *some], pa.string())[1:])
        made = writer.done()
    assert isinstance(made, Strings)
    again = strings_of(made.arrays("x"), "x")
    assert isinstance(again, Strings)
    assert again.begins.dtype == (np.int32 if most > 4 else np.int64)
    taken = again.take(pa.array([4, None, 0, 3, 1], pa.int32()))
    assert taken.type == pa.string()
    assert taken.to_pylist() == ["zzz", None, "a", "é", ""]


UID = st.integers(0, 2**128 - 1).map("{:032x}".format)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(UID, max_size=4), max_size=4), st.lists(st.just("odd") | UID, max_size=3), st.data())
def test_uids_take_16_bytes_until_something_else_comes(
    pieces: list[list[str]], last: list[str], data: st.DataObject
) -> None:
    whole = [uid for piece in [*pieces, last] for uid in piece]
    with pytest.MonkeyPatch.context() as patch, StringsWriter(None) as writer:
        patch.setattr(strings, "_PIECE", 3)
        for piece in [*pieces, last]:
            writer.add(pa.array(["xx", *piece], pa.string())[1:])
        made = writer.done()
    again = strings_of(made.arrays("x"), "x")
    assert isinstance(again, Strings if "odd" in last else Digests)
    if isinstance(again, Digests):
        assert again.numbers.nbytes == 16 * len(whole)
    places = data.draw(st.lists(st.none() | st.integers(0, len(whole) - 1), max_size=9)) if whole else [None]
    taken = again.take(pa.array([0, *places], pa.int32())[1:]) if whole else again.take(pa.array(places, pa.int32()))
    assert taken.type == pa.string()
    assert taken.to_pylist() == [None if place is None else whole[place] for place in places]
    taken.validate(full=True)
