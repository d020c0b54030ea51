#!/usr/bin/env python3
"""How well the demo's own model tells right captions from swapped ones: AUC of its CLIP score, with an interval.

    matching.py CRAWL STORE

The model has seen some of the swapped captions in training, and a thousand pictures are few: this shows the figure, it
sets no mark.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from curation.roc import auc, auc_interval
from pipelines.store import Store
from pipelines.summary import ask

SCORES = "select url, text, clip_score from candidates where clip_score is not null order by text_uid"


def scores_by_truth(crawl: Path, store: Path) -> tuple[np.ndarray, np.ndarray]:
    """CLIP scores of the undamaged captions of undamaged pictures, and of the swapped captions."""
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
    found: dict[str, list[float]] = {"right": [], "swapped": []}
    for row in ask(Store.open(store), SCORES).to_pylist():
        label = labels.get((row["url"], row["text"]), set())
        if label in ({"right"}, {"swapped"}):
            found[label.pop()].append(row["clip_score"])
    return np.array(found["right"]), np.array(found["swapped"])


def main() -> None:
    right, swapped = scores_by_truth(Path(sys.argv[1]), Path(sys.argv[2]))
    if not len(right) or not len(swapped):
        sys.exit("the store holds no CLIP scores of right and of swapped captions: run the demo's recipe first")
    low, high = auc_interval(right, swapped)
    print(
        f"CLIP score of {len(right):,} right against {len(swapped):,} swapped captions: "
        f"AUC {auc(right, swapped):.3f} (95% bootstrap interval {low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
