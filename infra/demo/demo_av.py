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

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ALLOWED = "127.0.0.1/32"
MAX_SECONDS = 3600


def environment(folder: Path) -> dict[str, str]:
    """This process's environment with the project importable, Prefect's state in the demo's folder, nothing sent
    anywhere."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {
        "PYTHONPATH": path,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def call(folder: Path, *command: str | Path) -> None:
    """Run a Python script or module; ends the demo with its status if it fails."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, env=environment(folder), check=False)
    if done.returncode:
        sys.exit(done.returncode)


def serve(folder: Path, crawl: Path) -> subprocess.Popen[bytes]:
    """The films' server, which ends with this process."""
    command = [sys.executable, str(HERE / "server.py"), str(crawl), "--max-seconds", str(MAX_SECONDS)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    assert server.stdout is not None
    line = server.stdout.readline().decode().strip()
    if not line:
        server.wait(10)
        sys.exit(f"the demo's web server did not start: {(folder / 'server.log').read_text().strip()}")
    print(line)
    return server


def curate(folder: Path, crawl: Path, store: Path, recipe: str) -> None:
    """Serve a crawl, run a recipe on its links and write the report."""
    server = serve(folder, crawl)
    try:
        run = ["run", f"curation/recipes/{recipe}.yaml", "--store", str(store), "--links", str(crawl / "links.parquet")]
        call(folder, "-m", "flows.cli", *run, "--allow-net", ALLOWED)
    finally:
        server.terminate()
        server.wait(10)
    call(folder, "-m", "flows.cli", "report", str(store))


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo")
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--pictures", type=int, help="spoken pictures of the second part")
    parser.add_argument("--synthetic", type=int, help="drawn pictures instead of the Debian package")
    parser.add_argument("--package", type=Path, help="the Debian package as a file, where there is no network")
    parser.add_argument("--no-open", action="store_true", help="without open films and sounds of package registries")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = arguments.folder.absolute()
    films, spoken = folder / "films", folder / "spoken"
    film_store, spoken_store = folder / "store-av", folder / "store-spoken"
    for each in (films, spoken):
        each.mkdir(parents=True, exist_ok=True)
    more = ["--synthetic", str(arguments.synthetic)] if arguments.synthetic else []
    more += ["--package", str(arguments.package)] if arguments.package else []
    of_films = ["--films", str(arguments.films), "--copies", str(arguments.copies)]
    of_films += [] if arguments.no_open or arguments.synthetic else ["--open"]
    of_spoken = ["--pictures", str(arguments.pictures)] if arguments.pictures else []

    print("== 1. films: cuts, copies, offsets, against how they were made", flush=True)
    call(folder, HERE / "films.py", films, *of_films, *more)
    curate(folder, films, film_store, "demo_av")
    call(folder, HERE / "score_films.py", films, film_store)

    print("\n== 2. pictures, spoken captions and sound effects: rows of three modalities, and a model", flush=True)
    call(folder, HERE / "spoken.py", spoken, "--stamps", films, *of_spoken, *more)
    curate(folder, spoken, spoken_store, "demo_spoken")
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
