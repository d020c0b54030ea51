#!/usr/bin/env python3
"""How well the demo's own model tells right captions from swapped ones: AUC of its CLIP score, with an interval.

    matching.py CRAWL STORE

Of pairs that it was trained on the figure says little: it has learnt the swapped captions as it has the right ones, the
better the longer it trained. So pairs that it never saw are counted apart: held-out pictures, held-out languages, and
what the first round's policy did not keep. This shows the figures, it sets no mark.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curation.roc import auc, auc_interval
from pipelines.store import Store
from pipelines.summary import ask
from pretrain.config import TrainConfig
from pretrain.source import meets
from pretrain.version import open_version

SCORES = (
    "select url, text, sample_uid, coalesce(text_clean, text) as read_as, clip_score from candidates "
    "where clip_score is not null order by text_uid"
)
KINDS = {
    "unseen": "pairs that the model was not trained on",
    "trained": "pairs that it was trained on (it has learnt the swapped ones, too)",
}


def trained_pairs(store: Path) -> set[tuple[str, str]]:
    """(sample_uid, text) of every pair that a model of the store was trained on."""
    found: set[tuple[str, str]] = set()
    for result in sorted((store / "models").glob("*/result.json")):
        config = TrainConfig.model_validate(json.loads((result.parent / "config.json").read_text()))
        version = open_version(store / "versions" / json.loads(result.read_text())["version"])
        excluded = set(config.exclude_languages)
        rows = version.read(["sample_uid", "texts"]).filter(pa.array(meets(version, config.where)))
        for row in rows.to_pylist():
            for text in row["texts"]:
                spoken = {*(text["languages"] or [text["language"]])} - {None}
                if not spoken or not spoken <= excluded:
                    found.add((row["sample_uid"], text["text"]))
    return found


def scores_by_truth(crawl: Path, store: Path) -> dict[tuple[str, str], np.ndarray]:
    """(unseen or trained, right or swapped) -> CLIP scores of undamaged pictures with such captions."""
    clean = {row["url"] for row in pq.read_table(crawl / "truth.parquet").to_pylist() if row["label"] == "clean"}
    damage = {
        (row["url"], row["language"]): row["label"]
        for row in pq.read_table(crawl / "truth_captions.parquet").to_pylist()
    }
    labels: dict[tuple[str, str], set[str]] = {}
    for row in pq.read_table(crawl / "links.parquet", columns=["url", "caption", "language"]).to_pylist():
        if row["url"] in clean and row["caption"] is not None:
            label = damage.get((row["url"], row["language"]), "right")
            labels.setdefault((row["url"], row["caption"]), set()).add(label)
    trained = trained_pairs(store)
    found: dict[tuple[str, str], list[float]] = {(kind, label): [] for kind in KINDS for label in ("right", "swapped")}
    for row in ask(Store.open(store), SCORES).to_pylist():
        label = labels.get((row["url"], row["text"]), set())
        if label in ({"right"}, {"swapped"}):
            kind = "trained" if (row["sample_uid"], row["read_as"]) in trained else "unseen"
            found[kind, label.pop()].append(row["clip_score"])
    return {each: np.array(scores) for each, scores in found.items()}


def main() -> None:
    found = scores_by_truth(Path(sys.argv[1]), Path(sys.argv[2]))
    if not any(map(len, found.values())):
        sys.exit("the store holds no CLIP scores of right and of swapped captions: run the demo's recipe first")
    for kind, explained in KINDS.items():
        right, swapped = found[kind, "right"], found[kind, "swapped"]
        if not len(right) or not len(swapped):
            print(f"CLIP score, {explained}: {len(right):,} right, {len(swapped):,} swapped captions: no AUC")
            continue
        low, high = auc_interval(right, swapped)
        print(
            f"CLIP score, {explained}: {len(right):,} right against {len(swapped):,} swapped captions: "
            f"AUC {auc(right, swapped):.3f} (95% bootstrap interval {low:.3f} to {high:.3f})"
        )


if __name__ == "__main__":
    main()
