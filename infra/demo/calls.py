"""What the demos share: commands in processes of their own, a crawl's server, and the arguments of their scores."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ALLOWED = "127.0.0.1/32"
"""The crawl's only host. Not the whole of 127.0.0.0/8: a link redirects to 127.66.6.6, which must not be reached."""
MAX_SECONDS = 3600


def arguments_of(description: str | None) -> argparse.ArgumentParser:
    """The arguments that all demos have: where they work, and where their pictures come from."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "demo")
    parser.add_argument("--synthetic", type=int, help="drawn pictures instead of the Debian package")
    parser.add_argument("--package", type=Path, help="the Debian package as a file, where there is no network")
    return parser


def source_of(arguments: argparse.Namespace) -> list[str]:
    """Where pictures come from, as the scripts that build a crawl are told."""
    found = ["--synthetic", str(arguments.synthetic)] if arguments.synthetic else []
    return found + (["--package", str(arguments.package.absolute())] if arguments.package else [])


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
    """The crawl's server, which ends with this process; its links name the default port."""
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


def curate(folder: Path, crawl: Path, store: Path, recipe: str, *more: str) -> None:
    """Serve a crawl and run a recipe on its links."""
    server = serve(folder, crawl)
    try:
        run = ["run", recipe, "--store", str(store), "--links", str(crawl / "links.parquet"), "--allow-net", ALLOWED]
        call(folder, "-m", "flows.cli", *run, *more)
    finally:
        server.terminate()
        server.wait(10)


def crawl_and_store(description: str | None) -> tuple[Path, Path]:
    """The two arguments of a script that compares what a store made of a crawl with how that was made."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crawl", type=Path)
    parser.add_argument("store", type=Path)
    arguments = parser.parse_args()
    return arguments.crawl, arguments.store
