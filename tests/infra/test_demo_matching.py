"""The demo's last figure: which captions count as right and which as swapped."""

from __future__ import annotations

from pathlib import Path

import matching
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_right_and_swapped_captions_are_told_apart_by_the_truth(
    small_crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage = {(r["url"], r["language"]): r for r in pq.read_table(small_crawl / "truth_captions.parquet").to_pylist()}
    labels = {r["url"]: r["label"] for r in pq.read_table(small_crawl / "truth.parquet").to_pylist()}
    links = pq.read_table(small_crawl / "links.parquet").to_pylist()
    scored, wanted = [], {"right": 0, "swapped": 0}
    for row in {(r["url"], r["caption"]): r for r in links if r["caption"] is not None}.values():
        same = [r for r in links if (r["url"], r["caption"]) == (row["url"], row["caption"])]
        kinds = {damage.get((r["url"], r["language"]), {"label": "right"})["label"] for r in same}
        kind = kinds.pop() if len(kinds) == 1 and labels[row["url"]] == "clean" else "other"
        score = {"right": 0.8, "swapped": 0.1}.get(kind, 0.5)
        scored.append({"url": row["url"], "text": row["caption"], "clip_score": score})
        if kind in wanted:
            wanted[kind] += 1
    assert min(wanted.values()) > 0
    monkeypatch.setattr(matching, "ask", lambda _store, _sql: pa.Table.from_pylist(scored))
    (tmp_path / "store.json").write_text('{"format": "tamis.store/1"}')
    right, swapped = matching.scores_by_truth(small_crawl, tmp_path)
    assert (len(right), len(swapped)) == (wanted["right"], wanted["swapped"])
    assert np.all(right == 0.8)
    assert np.all(swapped == 0.1)
    monkeypatch.setattr("sys.argv", ["matching.py", str(small_crawl), str(tmp_path)])
    matching.main()
    assert "AUC 1.000 (95% bootstrap interval 1.000 to 1.000)" in capsys.readouterr().out
