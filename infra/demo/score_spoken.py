"""Compare what a store made of the demo's spoken pictures with how they were made, and tell what its model can do.

    python infra/demo/score_spoken.py CRAWL STORE

Damage: what became of the links that are broken. Version: rows with picture, sound and text. Retrieval: the figures
that the run's evaluation wrote, each beside what a random order would give.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from calls import crawl_and_store

from pipelines import database
from pipelines.store import Store
from pipelines.views import open_store

LEFT_OUT = ("picture_404", "sound_404", "sound_html", "sound_cut", "silent")
SHOWN = {
    "held_out_pictures": "pictures that the model never saw, in languages that it heard",
    "held_out_languages": "pictures that it saw, in languages that it never heard",
    "trained": "pairs that it was trained on",
}
Rows = list[dict[str, Any]]


def accounts(crawl: Path, store: Path) -> dict[str, Any]:
    """What became of every sound, against what was done to its link."""
    truth = {row["url"]: row for row in pq.read_table(crawl / "truth.parquet").to_pylist()}
    con = open_store(Store.open(store))
    ledger = database.rows(
        con,
        "select l.url, bool_or(l.kept) as kept, any_value(l.reason) as reason, any_value(l.rejected_by) as rules "
        "from ledger l group by l.url",
    )
    con.close()
    became = {row["url"]: row for row in ledger}
    by_label = {
        label: dict(
            Counter(
                "lost" if url not in became else "kept" if became[url]["kept"] else _why(became[url])
                for url, row in truth.items()
                if row["label"] == label
            )
        )
        for label in sorted({row["label"] for row in truth.values()})
    }
    return {"sounds": len(truth), "sounds_lost": len(truth.keys() - became.keys()), **by_label}


def _why(row: dict[str, Any]) -> str:
    return str(row["reason"] or (row["rules"] or ["?"])[0])


def of_version(store: Path) -> dict[str, Any]:
    """Rows of the latest version by kind, and how many hold a picture, a sound and a text."""
    folder = Store.open(store).version_path()
    rows = whole = 0
    kinds: Counter[str] = Counter()
    for shard in sorted(folder.glob("part-*.parquet")) or sorted(folder.glob("*.parquet")):
        if "image" not in pq.read_schema(shard).names:
            continue
        table = pq.read_table(shard, columns=["image", "audio", "has_text", "kind"])
        rows += table.num_rows
        has = [pc.is_valid(table.column("image")), pc.is_valid(table.column("audio")), table.column("has_text")]
        whole += pc.sum(pc.and_(pc.and_(has[0], has[1]), has[2])).as_py() or 0
        kinds.update(table.column("kind").to_pylist())
    return {"version": folder.name, "rows": rows, **kinds, "with_image_audio_text": whole}


def figures(store: Path) -> Rows:
    """The newest evaluation of the store."""
    found = sorted((store / "models").glob("*/evaluation-*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    rows: Rows = pq.read_table(found[-1]).to_pylist() if found else []
    return [row for row in rows if row["language"] is None]


def table(rows: Rows) -> list[str]:
    """The figures as lines of text: each value with its 95% interval, and what chance would give."""
    lines = [f"  {'':<37}{'R@1 %':<27}{'R@5 %':<27}{'R@10 %':<27}median rank"]
    for suite, what in SHOWN.items():
        own = [row for row in rows if row["suite"] == suite]
        if own:
            lines += [f"  {suite.replace('_', ' ')}: {what}"]
        for direction in dict.fromkeys(row["direction"] for row in own):
            some = {row["metric"]: row for row in own if row["direction"] == direction}
            first = some["recall_at_1"]
            name = f"{direction.replace('_', ' ')}, {first['n']:,} in {first['num_candidates']:,}"
            cells = [_cell(some[f"recall_at_{k}"], 100, 1) for k in (1, 5, 10)] + [_cell(some["median_rank"], 1, 0)]
            lines.append(f"    {name:<35}" + "".join(f"{cell:<27}" for cell in cells).rstrip())
    return lines


def _cell(row: dict[str, Any], factor: float, digits: int) -> str:
    value, low, high, chance = (f"{factor * row[name]:.{digits}f}" for name in ("value", "lo", "hi", "chance"))
    return f"{value} [{low}, {high}] / {chance}"


def main() -> None:
    crawl, store = crawl_and_store(__doc__)
    print("\nagainst the truth:")
    for name, value in accounts(crawl, store).items():
        print(f"  {name.replace('_', ' '):14} {value}")
    print("the version that was packed:")
    for name, value in of_version(store).items():
        print(f"  {name.replace('_', ' '):22} {value}")
    rows = figures(store)
    if rows:
        print("retrieval by the model that was just trained: value [95% interval, resampling pictures] / chance")
        print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
