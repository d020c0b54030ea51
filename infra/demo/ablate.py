#!/usr/bin/env python3
"""`make ablate`: does curation help? The dirty pool against what a policy keeps of it, same training, three seeds.

    ablate.py [--folder demo] [--synthetic N] [--package FILE.deb]

Builds the demo's crawl with captions as bad as crawls have them before anyone filters (dirt.py), runs the demo's recipe
on it, crawls the same pictures without dirt to evaluate on, and runs `tamis ablate infra/demo/ablation/ablation.yaml`.
Some ten minutes on two cores; killed and run again, it goes on.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from calls import HERE, arguments_of, call, curate, source_of


def crawl_and_curate(folder: Path, name: str, level: str, recipe: str, more: list[str]) -> Path:
    """Build a crawl of this level of dirt, serve it and run the recipe on it; returns the store."""
    crawl, store = folder / f"{name}-crawl", folder / name
    crawl.mkdir(parents=True, exist_ok=True)
    unpacked = next((path for path in folder.parent.glob("*/package") if path.is_dir()), None)
    unpacked = unpacked or next((path for path in folder.glob("*/package") if path.is_dir()), None)
    if unpacked is not None and not (crawl / "package").exists():
        (crawl / "package").symlink_to(unpacked.resolve())
    call(folder, HERE / "corpus.py", crawl, "--dirt", level, *more)
    curate(folder, crawl, store, recipe)
    return store


def main() -> None:
    """Run the ablation."""
    parser = arguments_of(__doc__)
    parser.add_argument("--ablation", type=Path, default=HERE / "ablation" / "ablation.yaml", help="another ablation")
    arguments = parser.parse_args()
    started = time.monotonic()
    folder = arguments.folder.absolute() / "ablation"
    folder.mkdir(parents=True, exist_ok=True)
    more = source_of(arguments)
    store = crawl_and_curate(folder, "pool", "web", "curation/recipes/demo.yaml", more)
    clean = crawl_and_curate(folder, "clean", "none", "infra/demo/ablation/clean.yaml", more)
    ablation = str(arguments.ablation.absolute())
    call(folder, "-m", "flows.cli", "ablate", ablation, "--store", str(store), "--on", str(clean / "versions"))
    shown = shutil.which("tamis") or ".venv/bin/tamis"
    print(f"\nthe ablation took {time.monotonic() - started:.0f} s. Try next:")
    print(f'  {shown} sql {store} "select policy, metric, value, lo, hi from ablations"')
    print(f'  {shown} sql {store} "select * from metrics order by suite, metric, run"')


if __name__ == "__main__":
    main()
