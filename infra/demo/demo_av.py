#!/usr/bin/env python3
"""`make demo-av`: video, sound and text, from links to aligned segments and to a model of all three.

    demo_av.py [--folder demo] [--films N] [--copies N] [--pictures N] [--synthetic N] [--package FILE.deb] [--no-open]

1. Films made of the Tux Paint stamps and their spoken captions, with known cuts, and open films and sounds of package
   registries among them: served on loopback, run through `curation/recipes/demo_av.yaml`, scored against the truth.
2. The stamps with their captions spoken aloud and the sounds of what they show: `curation/recipes/demo_spoken.yaml`
   makes rows of image, audio and text, trains a small model on them and evaluates its retrieval beside chance.

Each has a report with what was kept and refused. A second run reuses all that is there.
"""

from __future__ import annotations

import shutil
import time

from calls import HERE, arguments_of, call, curate, source_of


def main() -> None:
    """Run the demo."""
    parser = arguments_of(__doc__)
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--pictures", type=int, help="spoken pictures of the second part")
    parser.add_argument("--no-open", action="store_true", help="without open films and sounds of package registries")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = arguments.folder.absolute()
    films, spoken = folder / "films", folder / "spoken"
    film_store, spoken_store = folder / "store-av", folder / "store-spoken"
    for each in (films, spoken):
        each.mkdir(parents=True, exist_ok=True)
    more = source_of(arguments)
    of_films = ["--films", str(arguments.films), "--copies", str(arguments.copies)]
    of_films += [] if arguments.no_open or arguments.synthetic else ["--open"]
    of_spoken = ["--pictures", str(arguments.pictures)] if arguments.pictures else []

    print("== 1. films: cuts, copies, offsets, against how they were made", flush=True)
    call(folder, HERE / "films.py", films, *of_films, *more)
    curate(folder, films, film_store, "curation/recipes/demo_av.yaml")
    call(folder, "-m", "flows.cli", "report", film_store)
    call(folder, HERE / "score_films.py", films, film_store)

    print("\n== 2. pictures, spoken captions and sound effects: rows of three modalities, and a model", flush=True)
    call(folder, HERE / "spoken.py", spoken, "--stamps", films, *of_spoken, *more)
    curate(folder, spoken, spoken_store, "curation/recipes/demo_spoken.yaml")
    call(folder, "-m", "flows.cli", "report", spoken_store)
    call(folder, HERE / "score_spoken.py", spoken, spoken_store)

    shown = shutil.which("tamis") or ".venv/bin/tamis"
    print(f"\nthe demo took {time.monotonic() - started:.0f} s. Look at:")
    for store in (film_store, spoken_store):
        print(f"  {store / 'report' / 'index.html'}")
    print("Try next:")
    print(f'  {shown} sql {film_store} "select url, count(*) as segments from segments group by url"')
    print(f'  {shown} sql {film_store} "select * from segment_matches order by overlap_s desc limit 10"')
    print(f'  {shown} sql {spoken_store} "select name, text, kept from candidates join decided using (text_uid)"')
    print(f"  {shown} why {film_store} URL")


if __name__ == "__main__":
    main()
