#!/usr/bin/env python3
"""`make demo`: the main job on real pictures, from links to an evaluated model and a report.

    demo.py [--folder demo] [--synthetic N] [--package FILE.deb]

Builds the corpus, serves it on loopback, runs `tamis run curation/recipes/demo.yaml` as the Prefect flow `curate`,
writes the report and says what to try next. A second run reuses all that is there.
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
"""The crawl's only host. Not the whole of 127.0.0.0/8: a link redirects to 127.66.6.6, which must not be reached."""
MAX_SECONDS = 3600


def tamis(*arguments: str) -> None:
    """Run a `tamis` command in its own process, as a user would; ends the demo with its status if it fails."""
    status = subprocess.run([sys.executable, "-m", "flows.cli", *arguments], cwd=ROOT, env=environment(), check=False)
    if status.returncode:
        sys.exit(status.returncode)


def environment() -> dict[str, str]:
    """This process's environment with Prefect's state inside the demo's folder and nothing sent anywhere."""
    return os.environ | {
        "PREFECT_HOME": str(FOLDER / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
    }


def serve(crawl: Path) -> subprocess.Popen[bytes]:
    """The crawl's server, which ends with this process; its links name the default port."""
    log = (FOLDER / "server.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(crawl), "--max-seconds", str(MAX_SECONDS)],
        stdout=subprocess.PIPE,
        stderr=log,
    )
    assert server.stdout is not None
    line = server.stdout.readline().decode().strip()
    if not line:
        server.wait(10)
        sys.exit(f"the demo's web server did not start: {(FOLDER / 'server.log').read_text().strip()}")
    print(line)
    return server


def main() -> None:
    """Run the demo."""
    started = time.monotonic()
    crawl, store = FOLDER / "crawl", FOLDER / "store"
    build = [sys.executable, str(HERE / "corpus.py"), str(crawl)]
    build += ["--synthetic", str(ARGUMENTS.synthetic)] if ARGUMENTS.synthetic else []
    build += ["--package", str(ARGUMENTS.package)] if ARGUMENTS.package else []
    status = subprocess.run(build, check=False)
    if status.returncode:
        sys.exit(status.returncode)
    server = serve(crawl)
    try:
        tamis(
            *("run", "curation/recipes/demo.yaml", "--store", str(store), "--links", str(crawl / "links.parquet")),
            *("--allow-net", ALLOWED, "--prefect"),
        )
    finally:
        server.terminate()
        server.wait(10)
    tamis("report", str(store))
    subprocess.run([sys.executable, str(HERE / "matching.py"), str(crawl), str(store)], env=environment(), check=False)
    shown = shutil.which("tamis") or ".venv/bin/tamis"
    url = subprocess.run(
        [sys.executable, "-m", "flows.cli", "sql", str(store), EXAMPLE],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    ).stdout.split()[-1]  # fmt: skip
    print(f"\nthe demo took {time.monotonic() - started:.0f} s. Try next:")
    print(f"  open {store / 'report' / 'index.html'} in a browser: the funnel, kept and rejected pictures, the model")
    print(f"  {shown} why {store} {url}")
    print(f"  {shown} sql {store} report/languages")
    print(f'  {shown} sql {store} "select rejected_by, count(*) as n from ledger group by all order by n desc"')


EXAMPLE = "select url from ledger where list_contains(rejected_by, 'near_duplicate') order by url limit 1"

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo")
    parser.add_argument("--synthetic", type=int, help="drawn pictures instead of the Debian package")
    parser.add_argument("--package", type=Path, help="the Debian package as a file, where there is no network")
    ARGUMENTS = parser.parse_args()
    FOLDER: Path = ARGUMENTS.folder.absolute()
    FOLDER.mkdir(parents=True, exist_ok=True)
    main()
