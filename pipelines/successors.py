"""Parts of `media` that take the place of others: some of their links are asked for again (retries, refreshes).

What a part holds never changes. Rows that end differently make a part of their own, with the other rows carried over as
they are, and its key comes from the part that it follows: later runs take the newest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.table import Part, find_part, read_part
from pipelines.download import wanted_parts
from pipelines.stage import Run
from pipelines.workers import Task


def newest_parts(run: Run) -> list[Part]:
    """The parts that downloads have made so far, each the last of its line."""
    found = [find_part(each.folder, each.index, each.key) for each in wanted_parts(run)]
    return [part for part in found if part is not None]


def replace_parts(
    run: Run, what: str, parts: Iterable[Part], work: Callable[..., dict[str, int]], counts: Iterable[str]
) -> dict[str, int]:
    """Run `work` (a function for workers) on each of `parts`; returns the sums of the counts that it gives."""
    links = {each.index: each.links.path for each in run.store.pool()}
    tasks = [
        Task(
            f"{what} of part {part.index}",
            work,
            {
                "before": part.path,
                "links": links[part.index],
                "settings": run.recipe.download,
                "num_workers": run.workers.count,
                "run_id": run.id,
            },
        )
        for part in parts
    ]
    total = dict.fromkeys(counts, 0)
    for _, result in run.workers.run(tasks):
        for name in total:
            total[name] += result.get(name, 0)
    return total


def with_replaced(done: dict[str, Any], counts: dict[str, int], made: int) -> dict[str, Any]:
    """What the stage did, where `made` of the parts that it found were made just before."""
    return {**done, **counts, "parts_run": done["parts_run"] + made, "parts_reused": done["parts_reused"] - made}


def links_again(before: Path, links: Path, rows: Sequence[int]) -> list[dict[str, Any]]:
    """The links of these rows of the part `before`; raises ValueError where the two do not belong together."""
    at = pa.array(rows, pa.int64())  # there may be none: a part of what lies in folders
    wanted: list[dict[str, Any]] = read_part(links).take(at).to_pylist()
    uids = read_part(before, ["media_uid"]).take(at).column(0).to_pylist()
    if uids != [link["media_uid"] for link in wanted]:
        raise ValueError(f"{before} and {links} do not hold the same media in the same order")
    return wanted
