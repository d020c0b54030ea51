"""The demo's last figure: which captions count as right and which as swapped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import matching
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from curation.table import write_part
from curation.versions import VERSION_FORMAT
from pretrain.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]


def test_right_and_swapped_captions_are_told_apart_by_the_truth_and_by_what_was_trained_on(
    small_crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damage = {(r["url"], r["language"]): r for r in pq.read_table(small_crawl / "truth_captions.parquet").to_pylist()}
    labels = {r["url"]: r["label"] for r in pq.read_table(small_crawl / "truth.parquet").to_pylist()}
    links = pq.read_table(small_crawl / "links.parquet").to_pylist()
    scored, wanted, trained = [], Counter[tuple[str, str]](), set()
    for row in {(r["url"], r["caption"]): r for r in links if r["caption"] is not None}.values():
        same = [r for r in links if (r["url"], r["caption"]) == (row["url"], row["caption"])]
        kinds = {damage.get((r["url"], r["language"]), {"label": "right"})["label"] for r in same}
        label = kinds.pop() if len(kinds) == 1 and labels[row["url"]] == "clean" else "other"
        score = {"right": 0.8, "swapped": 0.1}.get(label, 0.5)
        pair = (f"sample of {row['url']}", row["caption"].strip())
        scored.append({"url": row["url"], "text": row["caption"], "sample_uid": pair[0], "read_as": pair[1],
                       "clip_score": score})  # fmt: skip
        if row["split"] == "train":
            trained.add(pair)
        if label in ("right", "swapped"):
            wanted["trained" if pair in trained else "unseen", label] += 1
    assert wanted["trained", "right"]
    assert wanted["unseen", "right"]
    monkeypatch.setattr(matching, "ask", lambda _store, _sql: pa.Table.from_pylist(scored))
    monkeypatch.setattr(matching, "trained_pairs", lambda _store: trained)
    (tmp_path / "store.json").write_text('{"format": "tamis.store/1"}')
    found = matching.scores_by_truth(small_crawl, tmp_path)
    assert {each: len(scores) for each, scores in found.items() if len(scores)} == dict(wanted)
    assert all(np.all(scores == (0.8 if label == "right" else 0.1)) for (_, label), scores in found.items())
    monkeypatch.setattr("sys.argv", ["matching.py", str(small_crawl), str(tmp_path)])
    matching.main()
    said = capsys.readouterr().out
    assert said.count("\n") == 2
    assert "AUC 1.000 (95% bootstrap interval 1.000 to 1.000)" in said


def test_pairs_of_training_are_those_of_the_version_that_its_config_lets_through(tmp_path: Path) -> None:
    texts = [("en", "a cat"), ("da", "en kat"), ("de", "eine Katze")]
    kinds = {"text_uid": pa.string(), "text": pa.string(), "language": pa.string(), "languages": pa.list_(pa.string())}
    rows = [
        {"sample_uid": uid, "split": split,
         "texts": [{"text_uid": f"{uid}{lang}", "text": text, "language": lang, "languages": [lang]}
                   for lang, text in texts]}
        for uid, split in (("s1", "train"), ("s2", "val"))
    ]  # fmt: skip
    schema = pa.schema({"sample_uid": pa.string(), "split": pa.string(), "texts": pa.list_(pa.struct(kinds))})
    part = write_part(tmp_path / "versions" / "v-1", 0, "ab" * 32, pa.Table.from_pylist(rows, schema=schema)).path
    shard = {"name": part.name, "num_samples": 2, "num_texts": 6}
    manifest = {"format": VERSION_FORMAT, "name": "v-1", "digest": "ab" * 32, "num_samples": 2, "num_texts": 6,
                "shards": [shard]}  # fmt: skip
    (part.parent / "manifest.json").write_text(json.dumps(manifest))
    demo = yaml.safe_load((ROOT / "pretrain" / "configs" / "demo.yaml").read_text())
    run = tmp_path / "models" / "demo-1"
    run.mkdir(parents=True)
    (run / "config.json").write_text(json.dumps(TrainConfig.model_validate(demo).model_dump(mode="json")))
    assert matching.trained_pairs(tmp_path) == set()  # not trained to its end
    (run / "result.json").write_text(json.dumps({"version": "v-1"}))
    assert matching.trained_pairs(tmp_path) == {("s1", "a cat"), ("s1", "eine Katze")}
