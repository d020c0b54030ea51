"""Tag targets: which of the pool's commonest tags a caption has, as `pretrain.targets.tags` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.fitted import FittedSignal
from curation.keyed_sample import KeyedSample
from curation.signal import Level, as_table

MAX_SAMPLE = 1_000_000
"""Most texts that the tags are counted on: of a tag in one of 10,000 texts the count is then right to 10%."""


class TagTargets(FittedSignal):
    """Which of the `num_tags` commonest tags of the pool a text has.

    Column: `tag_targets`, a list of `num_tags` uint8, 1 where the text has the tag, 0 elsewhere; the places stand for
    the tags of the fit (`tables/fit_tag_targets/`, columns `tag` and `num_texts`), the commonest first, and stay 0
    where the pool has fewer. Null where `tags` is. Unit: none. Model: none. Source: Tag2Text, arXiv 2303.05657 (its
    3,429 commonest tags of 4 million pictures).
    """

    version: ClassVar[int] = 1
    level: ClassVar[Level] = "text"

    num_tags: int = Field(default=256, ge=1, le=100_000)
    sample_size: int = Field(default=MAX_SAMPLE, ge=1)
    """Texts that are counted, a keyed sample of those with a tag."""
    seed: int = 0

    def reads(self) -> tuple[str, ...]:
        return ("text_uid", "tags")

    def writes(self) -> pa.Schema:
        return pa.schema({"tag_targets": pa.list_(pa.uint8(), self.num_tags)})

    def fit_pool(self, parts: Iterable[pa.Table]) -> pa.Table:
        sample = KeyedSample(self.sample_size, self.seed)
        for rows in parts:
            uids, lists = rows.column("text_uid").to_pylist(), rows.column("tags").to_pylist()
            tagged = [row for row, (uid, tags) in enumerate(zip(uids, lists, strict=True)) if uid and tags]
            held = np.empty(len(tagged), object)
            held[:] = [tuple(lists[row]) for row in tagged]
            names = [uids[row] for row in tagged]
            sample.add(names, names, {"tags": held})
        counts = Counter(tag for tags in sample.columns().get("tags", ()) for tag in set(tags))
        chosen = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[: self.num_tags]
        return pa.table(
            {
                "tag": pa.array([tag for tag, _ in chosen], pa.string()),
                "num_texts": pa.array([number for _, number in chosen], pa.int64()),
            }
        )

    def apply(self, rows: pa.Table, fit: pa.Table) -> pa.Table:
        places = {tag: place for place, tag in enumerate(fit.column("tag").to_pylist())}
        lists = rows.column("tags").to_pylist()
        applies = np.zeros((len(lists), self.num_tags), np.uint8)
        for row, tags in enumerate(lists):
            applies[row, [places[tag] for tag in tags or () if tag in places]] = 1
        missing = pa.array([tags is None for tags in lists], pa.bool_())
        made = pa.FixedSizeListArray.from_arrays(pa.array(applies.ravel()), self.num_tags, mask=missing)
        return as_table({"tag_targets": made}, self.writes())
