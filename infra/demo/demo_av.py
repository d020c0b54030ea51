#!/usr/bin/env python3
"""`make demo-av`: films of the Tux Paint stamps with their spoken captions, from links to aligned segments of video,
audio and text.

    demo_av.py [--folder demo] [--films N] [--copies N] [--synthetic N] [--package FILE.deb]

Builds the films, serves them on loopback, runs `tamis run curation/recipes/demo_av.yaml`, writes the report, compares
what came out with how the films were made and says what to try next. A second run reuses all that is there.
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


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo")
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--synthetic", type=int, help="drawn pictures instead of the Debian package")
    parser.add_argument("--package", type=Path, help="the Debian package as a file, where there is no network")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = arguments.folder.absolute()
    crawl, store = folder / "films", folder / "store-av"
    crawl.mkdir(parents=True, exist_ok=True)
    more = ["--synthetic", str(arguments.synthetic)] if arguments.synthetic else []
    more += ["--package", str(arguments.package)] if arguments.package else []
    call(folder, HERE / "films.py", crawl, "--films", str(arguments.films), "--copies", str(arguments.copies), *more)
    server = serve(folder, crawl)
    try:
        links = crawl / "links.parquet"
        run = ["run", "curation/recipes/demo_av.yaml", "--store", str(store), "--links", str(links)]
        call(folder, "-m", "flows.cli", *run, "--allow-net", ALLOWED)
    finally:
        server.terminate()
        server.wait(10)
    call(folder, "-m", "flows.cli", "report", str(store))
    call(folder, HERE / "score_films.py", crawl, store)
    shown = shutil.which("tamis") or ".venv/bin/tamis"
    print(f"\nthe demo took {time.monotonic() - started:.0f} s. Try next:")
    print(f'  {shown} sql {store} "select url, count(*) as segments from segments group by url"')
    print(f'  {shown} sql {store} "select * from segment_matches order by overlap_s desc limit 10"')
    print(f"  {shown} why {store} URL")


if __name__ == "__main__":
    main()
