"""Decisions: the SQL against a dull reading of the policy's definition, and its laws."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipelines.policies import decisions, dull_keep_probability, row


def test_every_failing_rule_is_recorded_with_its_values() -> None:
    rows = [row(1, 1, width_px=10, language="de"), row(2, 2)]
    policy = [
        {"rule": "wide", "keep": "width_px >= 32"},
        {"rule": "english", "keep": "language = 'en'"},
        {"rule": "tall", "keep": "height_px >= 32"},
    ]
    found = decisions(rows, policy)
    assert found["t001"]["rejected_by"] == ["wide", "english"]
    assert [json.loads(saw) for saw in found["t001"]["saw"]] == [{"width_px": 10}, {"language": "de"}]
    assert found["t002"]["kept"]
    assert found["t002"]["rejected_by"] == []


def test_a_missing_signal_rejects() -> None:
    found = decisions([row(1, 1, clip_score=None)], [{"rule": "good", "keep": "clip_score > 0.1"}])
    assert found["t001"]["rejected_by"] == ["good"]


def test_top_keeps_exactly_the_fraction_of_what_passed_whatever_the_ties() -> None:
    rows = [row(i, i, clip_score=0.25 if i < 8 else None, width_px=10 if i == 0 else 64) for i in range(10)]
    policy = [{"rule": "wide", "keep": "width_px > 32"}, {"top": "best", "by": "clip_score", "fraction": 0.5}]
    found = decisions(rows, policy)
    kept = sorted(uid for uid, d in found.items() if d["kept"])
    assert kept == ["t001", "t002", "t003", "t004"]  # ceil(0.5 * 7)
    assert found["t008"]["rejected_by"] == ["best"]
    assert found["t000"]["rejected_by"] == ["wide"]  # at the cut by value and uid: `best` would have kept it


def test_the_survivor_is_the_best_member_that_passed() -> None:
    rows = [
        row(1, 1, width_px=100, clip_score=0.0),
        row(2, 2, width_px=90),
        row(3, 3, width_px=80),
        row(4, 4),
        row(5, 5, clip_score=0.0, width_px=9),
        row(6, 6, clip_score=0.0, width_px=8),
    ]
    groups = {"m001": "g1", "m002": "g1", "m003": "g1", "m005": "g2", "m006": "g2"}
    policy = [{"rule": "good", "keep": "clip_score > 0.1"}, {"dedupe": "near"}]
    found = decisions(rows, policy, groups)
    assert [uid for uid, d in found.items() if d["kept"]] == ["t002", "t004"]
    assert found["t001"]["rejected_by"] == ["good", "near"]
    assert found["t001"]["duplicate_of"] == found["t003"]["duplicate_of"] == "s002"
    assert found["t002"]["duplicate_of"] is None
    assert found["t006"]["duplicate_of"] == "s005"  # none passed: the best of all is named
    assert found["t005"]["rejected_by"] == ["good"]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_whole_policy_against_a_dull_reading(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 12))
    rows = [
        row(
            i,
            data.draw(st.integers(0, 5)),
            width_px=0,
            clip_score=data.draw(st.sampled_from([None, 0.0, 0.25, 0.5])),
            draw=data.draw(st.sampled_from([0.1, 0.6, 0.95])),
            entry_ids=data.draw(st.lists(st.integers(0, 2), max_size=2, unique=True)),
        )
        for i in range(size)
    ]
    for each in rows:
        each["width_px"] = 10 * int(each["sample_uid"][1:])
    groups = {f"m{s:03d}": f"g{s % 2}" for s in range(6)}
    policy = [
        {"rule": "scored", "keep": "clip_score >= 0.25"},
        {"dedupe": "near"},
        {"balance": "b", "t": 1},
    ]
    found = decisions(rows, policy, groups)
    passed = {r["text_uid"] for r in rows if r["clip_score"] is not None and r["clip_score"] >= 0.25}
    good_media = {r["media_uid"] for r in rows if r["text_uid"] in passed}
    survivors = {}
    for group in set(groups.values()):
        members = sorted({r["media_uid"] for r in rows if groups[r["media_uid"]] == group})
        ranked = sorted(members, key=lambda m: (m not in good_media, -int(m[1:]), m))
        survivors[group] = ranked[0] if ranked else None
    passed = {
        r["text_uid"] for r in rows if r["text_uid"] in passed and survivors[groups[r["media_uid"]]] == r["media_uid"]
    }
    counts: dict[int, int] = {0: 0, 1: 0, 2: 0}
    for each in rows:
        for entry in each["entry_ids"] if each["text_uid"] in passed else []:
            counts[entry] += 1
    expected = {
        r["text_uid"]
        for r in rows
        if r["text_uid"] in passed and r["draw"] < dull_keep_probability(r["entry_ids"], counts, 1)
    }
    assert {uid for uid, d in found.items() if d["kept"]} == expected
    assert all(d["kept"] == (not d["rejected_by"]) for d in found.values())


def test_a_medium_with_several_texts_is_ranked_by_the_first_of_them() -> None:
    rows = [
        row(1, 1, clip_score=None),
        row(2, 1, clip_score=0.9),
        row(3, 2, clip_score=0.5),
    ]
    found = decisions(rows, [{"dedupe": "near", "prefer": "clip_score desc nulls last"}], {"m001": "g", "m002": "g"})
    assert [uid for uid, d in found.items() if d["kept"]] == ["t003"]
    assert found["t002"]["duplicate_of"] == "s002"
