#!/usr/bin/env python3
"""`make demo`: the main job on real pictures, from links to an evaluated model and a report.

    demo.py [--folder demo] [--synthetic N] [--package FILE.deb]

Builds the corpus, serves it on loopback, runs `tamis run curation/recipes/demo.yaml` as the Prefect flow `curate`,
writes the report and says what to try next. A second run reuses all that is there.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time

from calls import HERE, ROOT, arguments_of, call, curate, environment, source_of


def main() -> None:
    """Run the demo."""
    arguments = arguments_of(__doc__).parse_args()
    started = time.monotonic()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    crawl, store = folder / "crawl", folder / "store"
    call(folder, HERE / "corpus.py", crawl, *source_of(arguments))
    curate(folder, crawl, store, "curation/recipes/demo.yaml", "--prefect")
    call(folder, "-m", "flows.cli", "report", store)
    matching = [sys.executable, str(HERE / "matching.py"), str(crawl), str(store)]
    subprocess.run(matching, env=environment(folder), check=False)
    shown = shutil.which("tamis") or ".venv/bin/tamis"
    url = subprocess.run(
        [sys.executable, "-m", "flows.cli", "sql", str(store), EXAMPLE],
        cwd=ROOT, env=environment(folder), capture_output=True, text=True, check=True,
    ).stdout.split()[-1]  # fmt: skip
    print(f"\nthe demo took {time.monotonic() - started:.0f} s. Try next:")
    print(f"  open {store / 'report' / 'index.html'} in a browser: the funnel, kept and rejected pictures, the model")
    print(f"  {shown} why {store} {url}")
    print(f"  {shown} sql {store} report/languages")
    print(f'  {shown} sql {store} "select rejected_by, count(*) as n from ledger group by all order by n desc"')


EXAMPLE = "select url from ledger where list_contains(rejected_by, 'near_duplicate') order by url limit 1"

if __name__ == "__main__":
    main()
