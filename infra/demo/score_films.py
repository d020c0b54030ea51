"""Compare what a store made of the demo's films with how they were made.

    python infra/demo/score_films.py CRAWL STORE

Cuts: F1 at two frames. Texts: segments whose timed texts are just the caption of their shot. Offsets: shots of knocks
whose offset between picture and sound is found within 40 ms. Copies: pairs of a shot and its copy (another container,
codec, size or trim) in one duplicate group, and groups that hold different shots. Broken links: what each ended as.
Open media: how many were decoded and cut, what became of the others, and how many of the files whose name says that
they hold what another holds too (one film in twenty containers) were found to. Groups of different names need not be
wrong: one tune of `iscc-samples` lies there as `demo` and as `withcover`.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from calls import crawl_and_store
from film import FPS

from pipelines import database
from pipelines.store import Store
from pipelines.views import open_store

TOLERANCE_S = 2.5 / FPS
"""Two frames, and half a one for time stamps that a container rounds."""
OFFSET_S = 0.04
SAME_SHARE = 0.8
"""Of the longer: a segment and a shot that have so much in common are one."""
Rows = list[dict[str, Any]]


def scores(crawl: Path, store: Path) -> dict[str, Any]:
    """All figures."""
    truth = pq.read_table(crawl / "truth.parquet").to_pylist()
    con = open_store(Store.open(store))
    segments = database.rows(
        con,
        "select c.media_uid, c.url, c.start_s, c.end_s, c.status, c.reason, any_value(c.av_offset_s) as av_offset_s, "
        "any_value(d.duplicate_group) as duplicate_group, "
        "list_sort(list(c.text) filter (where c.text_start_s is not null)) as timed "
        "from candidates c left join duplicates d using (media_uid) group by all",
    )
    con.close()
    shots = [row for row in truth if row["start_s"] is not None]
    matched = match(shots, segments)
    known = {row["url"] for row in segments}
    return {
        "links": len({row["url"] for row in truth}),
        "links_lost": len({row["url"] for row in truth} - known),
        **cut_scores(shots, segments),
        **text_scores(shots, matched),
        **offset_scores(shots, matched),
        **copy_scores(shots, matched),
        "broken": {
            row["label"]: reason_of(row["url"], segments)
            for row in truth
            if row["start_s"] is None and row["label"] != "open"
        },
        **open_scores([row for row in truth if row["label"] == "open"], segments),
    }


def match(shots: Rows, segments: Rows) -> dict[int, dict[str, Any]]:
    """Shot's place -> the segment that is it."""
    by_url: dict[str, Rows] = defaultdict(list)
    for segment in segments:
        if segment["status"] == "ok":
            by_url[segment["url"]].append(segment)
    found = {}
    for place, shot in enumerate(shots):
        for segment in by_url[shot["url"]]:
            common = min(shot["end_s"], segment["end_s"]) - max(shot["start_s"], segment["start_s"])
            longer = max(shot["end_s"] - shot["start_s"], segment["end_s"] - segment["start_s"])
            if common >= SAME_SHARE * longer:
                found[place] = segment
    return found


def cut_scores(shots: Rows, segments: Rows) -> dict[str, Any]:
    """F1 of the times at which segments begin or end against those at which shots do; ends of films do not count."""
    hits = num_true = num_found = 0
    for url, own in itertools.groupby(sorted(shots, key=lambda row: row["url"]), key=lambda row: row["url"]):
        edges = sorted({edge for row in own for edge in (row["start_s"], row["end_s"])})
        true, last = edges[1:-1], edges[-1]
        here = [row for row in segments if row["url"] == url and row["status"] == "ok"]
        times = {round(edge, 2) for row in here for edge in (row["start_s"], row["end_s"])}
        inside = sorted(edge for edge in times if TOLERANCE_S < edge < last - TOLERANCE_S)
        apart = [b for a, b in itertools.pairwise([-1.0, *inside]) if b - a > TOLERANCE_S]
        hits += sum(any(abs(edge - each) <= TOLERANCE_S for each in apart) for edge in true)
        num_true, num_found = num_true + len(true), num_found + len(apart)
    return {"cuts": num_true, "cut_f1": round(2 * hits / max(1, num_true + num_found), 4)}


def text_scores(shots: Rows, matched: dict[int, dict[str, Any]]) -> dict[str, Any]:
    right = sum(
        (matched[place]["timed"] or []) == ([shot["caption"]] if shot["caption"] else [])
        for place, shot in enumerate(shots)
        if place in matched
    )
    return {"shots": len(shots), "shots_found": len(matched), "texts_right": round(right / max(1, len(matched)), 4)}


def offset_scores(shots: Rows, matched: dict[int, dict[str, Any]]) -> dict[str, Any]:
    errors = [
        abs(matched[place]["av_offset_s"] - shot["offset_s"])
        for place, shot in enumerate(shots)
        if shot["offset_s"] is not None and place in matched and matched[place]["av_offset_s"] is not None
    ]
    within = sum(error <= OFFSET_S for error in errors) / max(1, len(errors))
    return {"offsets": len(errors), "offsets_within_40_ms": round(within, 4)}


def copy_scores(shots: Rows, matched: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Recall over pairs of a film's shot and its copy, and the number of groups that join different shots."""
    groups: dict[str, set[tuple[str, str, bool]]] = defaultdict(set)
    originals = {shot_name(shot): place for place, shot in enumerate(shots) if shot["copy_of"] is None}
    pairs = joined = 0
    for place, shot in enumerate(shots):
        if place in matched and matched[place]["duplicate_group"] is not None:
            groups[matched[place]["duplicate_group"]].add(shot_name(shot))
        original = originals[shot_name(shot)]
        if shot["copy_of"] is not None and place in matched and original in matched:
            one, other = matched[place]["duplicate_group"], matched[original]["duplicate_group"]
            pairs, joined = pairs + 1, joined + (one is not None and one == other)
    mixed = sum(len(names) > 1 for names in groups.values())
    return {"copies": pairs, "copy_recall": round(joined / max(1, pairs), 4), "groups_of_different_shots": mixed}


def open_scores(links: Rows, segments: Rows) -> dict[str, Any]:
    """Of open media, by their names: nothing else says what they hold."""
    if not links:
        return {}
    content_of = {row["url"]: row["film"] for row in links}
    name_of = {row["url"]: row["picture"] for row in links}
    refused: dict[str, set[str]] = defaultdict(set)
    for row in segments:
        if row["url"] in name_of and row["status"] != "ok":
            refused[row["reason"]].add(name_of[row["url"]])
    good = [row for row in segments if row["url"] in content_of and row["status"] == "ok"]
    files: dict[str, set[str]] = defaultdict(set)
    groups: dict[str, set[str]] = defaultdict(set)
    for row in good:
        files[content_of[row["url"]]].add(row["url"])
        if row["duplicate_group"] is not None:
            groups[row["duplicate_group"]].add(row["url"])
    in_common = {url for group in groups.values() for url in group if len(group) > 1}
    several = {url for urls in files.values() for url in urls if len(urls) > 1}
    mixed = sum(len({content_of[url] for url in group}) > 1 for group in groups.values())
    return {
        "open_media": len(links),
        "open_media_cut": f"{len({row['url'] for row in good})} files into {len(good)} segments",
        **{f"  {reason}": ", ".join(sorted(names)) for reason, names in sorted(refused.items())},
        "open_copies_found": f"{len(several & in_common)} of {len(several)} files",
        "open_groups_of_different_names": mixed,
    }


def shot_name(shot: dict[str, Any]) -> tuple[str, str, bool]:
    """The same for a shot and its copies, and for nothing else."""
    return shot["copy_of"] or shot["film"], shot["picture"], shot["offset_s"] is None


def reason_of(url: str, segments: Rows) -> str:
    return next((str(row["reason"]) for row in segments if row["url"] == url), "lost")


def main() -> None:
    crawl, store = crawl_and_store(__doc__)
    print("\nagainst the truth:")
    for name, value in scores(crawl, store).items():
        print(f"  {name if '.' in name else name.replace('_', ' '):26} {value}")


if __name__ == "__main__":
    main()
