"""The two engines as the benchmark runs them, each in a process of its own: `engines.py ENGINE SETTINGS_AS_JSON`.

Settings: links (Parquet with url, caption), store (folder to make), samples (of a shard), connections, retries.
"""

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def tamis(settings: dict[str, Any]) -> None:
    """The driver's work in a child, the worker's here, as under Ray: only tasks go from the one to the other."""
    sys.path.insert(0, str(ROOT))
    tasks_file = Path(settings["store"] + ".tasks")
    if (child := os.fork()) == 0:
        tasks_file.write_bytes(pickle.dumps(_tasks(settings)))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("the driver failed")
    for task in pickle.loads(tasks_file.read_bytes()):  # noqa: S301 - written above
        print(json.dumps(task.call(**task.arguments)))
        download = task.arguments["settings"]
    from pipelines.media_row import decoder

    decoder(download.decode, download.image).close()  # so that its CPU time is counted


def _tasks(settings: dict[str, Any]) -> list[Any]:
    """Those of the download of all links, for one worker."""
    from curation.media.image_output import ImageOutput
    from pipelines.download import download_tasks
    from pipelines.download_options import Download
    from pipelines.fetch_options import FetchOptions
    from pipelines.ingest import ingest
    from pipelines.recipe import Columns, Recipe, Source
    from pipelines.stage import Run
    from pipelines.store import Store
    from pipelines.workers import SerialWorkers

    fetch = FetchOptions(
        allow_networks=("127.0.0.0/8",), max_connections=settings["connections"], retries=settings["retries"]
    )
    image = ImageOutput(
        resize_mode="keep_ratio", image_size=256, resize_only_if_bigger=False, keep_original_bytes=False, format="jpg"
    )
    recipe = Recipe(
        name="benchmark",
        source=Source(links=[Path(settings["links"])], columns=Columns(text=["caption"])),
        samples_per_part=settings["samples"],
        download=Download(fetch=fetch, image=image),
        policy=[],
    )
    store = Store.create(Path(settings["store"]))
    ingest(recipe, store)
    wanted = download_tasks(Run(recipe, store, SerialWorkers(), store.state()))
    return list({id(each.task): each.task for each in wanted}.values())


def img2dataset(settings: dict[str, Any]) -> None:
    from img2dataset import download

    download(
        url_list=settings["links"],
        input_format="parquet",
        url_col="url",
        caption_col="caption",
        output_folder=settings["store"],
        output_format="parquet",
        processes_count=1,
        thread_count=settings["connections"],
        number_sample_per_shard=settings["samples"],
        image_size=256,
        resize_mode="keep_ratio",
        encode_quality=95,
        timeout=10,
        retries=settings["retries"],
        enable_wandb=False,
    )


if __name__ == "__main__":
    os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="disabled")
    {"tamis": tamis, "img2dataset": img2dataset}[sys.argv[1]](json.loads(sys.argv[2]))
