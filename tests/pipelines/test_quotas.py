"""Quotas against a dull reading of their definition, however rows are cut into batches and ranges."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from curation.policy import Quota
from pipelines import quotas
from pipelines.decide import Decider
from pipelines.quotas import OverQuota
from tests.pipelines.policies import COLUMNS, decisions, row
from tests.pipelines.table_rows import TableRows


def saw(decision: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(decision["saw"][decision["rejected_by"].index("q")])
    return found


def place_in_quota(seed: int, unit: str) -> str:
    return hashlib.md5(f"{seed}:{unit}".encode()).hexdigest()


QUOTA_ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["a", "b", "c", None]), st.booleans(), st.sampled_from([0.1, 0.9])),
    min_size=1,
    max_size=20,
)


@settings(max_examples=20, deadline=None)
@given(
    QUOTA_ROWS,
    st.integers(1, 3),
    st.sampled_from(["samples", "texts"]),
    st.sampled_from(["thin", "drop"]),
    st.sampled_from(["passed", "all"]),
    st.sampled_from([None, "clip_score desc"]),
    st.integers(7, 25),
    st.sampled_from([1, 2, 5, 1000]),
    st.sampled_from([quotas._HASH, "0::ubigint"]),
)
def test_quota_against_a_dull_reading(
    drawn: list[tuple[int, str | None, bool, float]],
    at_most: int,
    unit: str,
    more: str,
    among: str,
    prefer: str | None,
    batch_rows: int,
    bucket_rows: int,
    hashed: str,
) -> None:
    """`hashed`: what tells values apart at first; if that is nothing, the second hash has to."""
    drawn = sorted(drawn, key=lambda each: each[0])  # a sample lies in one part
    rows = [
        row(i, sample, language=language, width_px=64 if wide else 10, clip_score=score)
        for i, (sample, language, wide, score) in enumerate(drawn)
    ]
    item = {"quota": "q", "per": "language", "at_most": at_most, "unit": unit, "more": more, "among": among, "seed": 3}
    policy: list[dict[str, Any]] = [{"rule": "wide", "keep": "width_px > 32"}, {**item, "prefer": prefer}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quotas, "_BUCKET_ROWS", bucket_rows)
        patch.setattr(quotas, "_HASH", hashed)
        found = decisions(rows, policy, batch_rows=batch_rows, threads=2)
    uid = "sample_uid" if unit == "samples" else "text_uid"
    expected = set()
    for language in ("a", "b", "c"):
        group = [r for r in rows if r["language"] == language]
        counted = [r for r in group if among == "all" or r["width_px"] > 32]
        first: dict[str, Any] = {}
        for r in counted:
            order = (-r["clip_score"] if prefer else 0, place_in_quota(3, r[uid]), r[uid])
            first[r[uid]] = min(first.get(r[uid], order), order)
        places = {u: place for place, u in enumerate(sorted(first, key=lambda u: first[u]), start=1)}
        for r in group:
            if more == "drop":
                rejected = len(places) > at_most
            else:
                rejected = r in counted and places[r[uid]] > at_most
            assert ("q" in found[r["text_uid"]]["rejected_by"]) == rejected
            if rejected:
                says = {"per": language, "num": len(places), "place": places.get(r[uid]) if r in counted else None}
                assert saw(found[r["text_uid"]]) == {**says, "at_most": at_most}
            elif r["width_px"] > 32:
                expected.add(r["text_uid"])
    assert {uid for uid, d in found.items() if d["kept"]} == expected
    assert all("q" in found[r["text_uid"]]["rejected_by"] for r in rows if r["language"] is None)


@pytest.mark.parametrize("prefer", [None, "clip_score desc, text_uid desc"])
@pytest.mark.parametrize("cut", [{"_BUCKET_ROWS": 7}, {"_BUCKET_ROWS": 7, "_MAX_BUCKETS": 3}])
def test_ranges_do_not_show(prefer: str | None, cut: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(i, i // 2, language="abbcccc"[i * i % 7], clip_score=i % 5 / 8) for i in range(200)]
    item = {"quota": "q", "per": "language", "at_most": 3, "prefer": prefer}
    whole = decisions(rows, [item])
    for name, value in cut.items():
        monkeypatch.setattr(quotas, name, value)
    assert decisions(rows, [item], batch_rows=30, threads=2) == whole
    assert 0 < sum(each["kept"] for each in whole.values()) < 30


@pytest.mark.parametrize(
    "per",
    ["[language, null]", "{a: width_px, b: language}", "map {language: 1}", "width_px::decimal(30, 4)",
     "clip_score > 0", "case when width_px > 1 then 0.0 else -0.0 end", "date '2026-01-01' + width_px",
     "language::blob", "case when width_px > 1 then interval '1 month' else interval '30 days' end"],
)  # fmt: skip
def test_values_of_any_type(per: str) -> None:
    rows = [row(i, i, width_px=i % 2 + 1) for i in range(6)]
    found = decisions(rows, [{"quota": "q", "per": per, "at_most": 1}])
    shared = 1 if per.startswith(("[", "map", "clip", "case", "language")) else 2
    assert sum(each["kept"] for each in found.values()) == shared


def test_what_a_quota_rejects_is_kept_in_twelve_bytes_a_row(tmp_path: Path) -> None:
    rows = [row(i, i, language="en" if i < 90 else "de") for i in range(100)]
    item = TypeAdapter(Quota).validate_python({"quota": "q", "per": "language", "at_most": 10})
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    with Decider(TableRows(table, 30), [item], {}, 1, tmp_path) as decider:
        arrays = quotas.over_quota(decider, 0, item)
        said = OverQuota(arrays)
        lost = np.concatenate([said.lost(batch, size) for batch, size in enumerate(decider.sizes)])
    assert lost.sum() == 80
    assert sum(arrays[name].nbytes for name in ("rows", "num", "place")) == 12 * 80
    assert not any(tmp_path.iterdir())
