"""The loader side by side with webdataset and torch's DataLoader, over the same JPEGs, on this machine, in this run.

    python tests/benchmarks/loader.py --pictures 600 --short-side 256

webdataset (`pip install --no-deps webdataset`): tar of jpg and txt, Pillow, open_clip's own training transforms, as
open_clip's `get_wds_dataset` puts them together. DataLoader: files, torchvision's `decode_image`, v2.RandomResizedCrop
(anti-aliased), float32, normalised. tamis: a sealed version, `Reader.raw`: uid, texts, picture, window, uint8;
normalising is the device's work. All in one process with one thread; CPU seconds; in turn, medians of --repeats.

Also: one random row of a packed shard; what the training loop adds to a bare torch loop over the same batches.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import open_clip
import pyarrow as pa
import torch
import webdataset as wds
from open_clip.transform import AugmentationCfg, image_transform
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import web_pictures  # noqa: E402

from curation.table import write_part  # noqa: E402
from pipelines.byte_index import write_index  # noqa: E402
from pretrain.build import build_objective  # noqa: E402
from pretrain.config import TrainConfig, parse_config  # noqa: E402
from pretrain.data import Reader, Shape  # noqa: E402
from pretrain.dataset import open_data  # noqa: E402
from pretrain.engine import Engine  # noqa: E402
from pretrain.loader import Loader  # noqa: E402
from pretrain.loop import Job, Metrics, train_worker  # noqa: E402
from pretrain.rows import Rows, map_rows  # noqa: E402
from pretrain.version import Version, open_version  # noqa: E402

SIDE = 224
BATCH = 64
MODEL = "ViT-B-32"
CONFIG: dict[str, Any] = {
    "name": "benchmark",
    "decontamination": "waived",
    "pictures": "streamed",
    "model": {
        "embed_dim": 128,
        "streams": {
            "image": {
                "embedding": {"use": "pretrain.embeddings.pictures.Patches", "width": 192, "patch_size": 16},
                "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 4, "heads": 3},
            },
            "text": {
                "embedding": {"use": "pretrain.embeddings.utf8.Utf8Bytes", "width": 192},
                "encoder": {"use": "pretrain.encoders.transformer.Transformer", "layers": 2, "heads": 3},
            },
        },
    },
    "targets": [{"use": "pretrain.targets.info_nce.InfoNCE"}],
    "image_size": 64,
    "captions_per_image": 1,
    "num_threads": 1,
    "device": "cpu",
}


def stored(path: Path, short_side: int | None) -> bytes:
    """A picture as a version holds it: shrunk to a shorter side (q95, as a recipe that resizes), or as it came."""
    if short_side is None:
        return path.read_bytes()
    image = Image.open(path)
    scale = short_side / min(image.size)
    buffer = io.BytesIO()
    image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS).save(
        buffer, "JPEG", quality=95
    )
    return buffer.getvalue()


def seal(folder: Path, datas: list[bytes], texts: list[str]) -> Version:
    """One shard, its byte index and a manifest."""
    uids = [hashlib.sha256(data).hexdigest()[:32] + f"{n:05d}" for n, data in enumerate(datas)]
    nested = [[{"text_uid": f"t{n}", "text": text, "language": "en"}] for n, text in enumerate(texts)]
    table = pa.table({"sample_uid": uids, "image": pa.array(datas, pa.binary()), "texts": nested})
    part = write_part(folder, 0, "0" * 64, table, plain=["image"])
    shard = {"name": part.path.name, "num_samples": len(datas), "sha256": "", "ranges": write_index(folder, part)}
    manifest = {"format": "tamis.dataset/1", "name": "benchmark", "digest": "b" * 64, "num_samples": len(datas),
                "num_texts": len(datas), "shards": [shard]}  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return open_version(folder)


def in_turn(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each way; each is run once unmeasured first."""
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            taken[name].append(ways[name]())
    return {name: statistics.median(each) for name, each in taken.items()}


def cpu_of(batches: Iterator[Any], num: int) -> float:
    """CPU seconds of going through batches until `num` samples were seen."""
    began = time.process_time()
    seen = 0
    for batch in batches:
        seen += len(batch[0])
        if seen >= num:
            break
    return (time.process_time() - began) / seen


def webdataset_batches(tar: Path) -> Iterator[Any]:
    """As open_clip_train.data.get_wds_dataset: decode with Pillow, transform, tokenise, batch."""
    transform = image_transform(SIDE, is_train=True, aug_cfg=AugmentationCfg())
    steps = wds.DataPipeline(
        wds.SimpleShardList([str(tar)]),
        wds.tarfile_to_samples(),
        wds.decode("pilrgb"),
        wds.rename(image="jpg", text="txt"),
        wds.map_dict(image=transform, text=lambda text: text),
        wds.to_tuple("image", "text"),
        wds.batched(BATCH, partial=False),
    )
    while True:
        yield from steps


class Files(torch.utils.data.Dataset[tuple[torch.Tensor, str]]):
    """Files, torchvision's decoder and transforms."""

    def __init__(self, paths: list[Path], texts: list[str]) -> None:
        self.paths, self.texts = paths, texts
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(
                    SIDE, scale=(0.9, 1.0), interpolation=v2.InterpolationMode.BICUBIC, antialias=True
                ),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        data = torch.from_file(str(self.paths[index]), size=self.paths[index].stat().st_size, dtype=torch.uint8)
        return self.transform(decode_image(data, ImageReadMode.RGB)), self.texts[index]


def dataloader_batches(paths: list[Path], texts: list[str]) -> Iterator[Any]:
    while True:
        yield from torch.utils.data.DataLoader(Files(paths, texts), batch_size=BATCH, shuffle=True, drop_last=True)


def tamis_batches(reader: Reader) -> Iterator[Any]:
    step = 0
    while True:
        raw = reader.raw(step)
        yield raw.pixels_BSSC, raw.texts
        step += 1


def decode_only(datas: list[bytes]) -> Iterator[Any]:
    """OpenCV's decoder at full size and nothing else: what no loader without reduced decoding can beat."""
    while True:
        for start in range(0, len(datas) - BATCH, BATCH):
            yield [cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in datas[start : start + BATCH]], None


def random_rows(rows: Rows, num: int = 4000) -> tuple[float, float]:
    """(wall, CPU) milliseconds of one random row's bytes."""
    places = np.random.default_rng(0).integers(0, len(rows), num).tolist()
    for place in places[:200]:
        rows.image(place)
    wall, cpu = time.perf_counter(), time.process_time()
    for place in places:
        rows.image(place)
    return (time.perf_counter() - wall) / num * 1e3, (time.process_time() - cpu) / num * 1e3


def step_overhead(version: Version, cache: Path, folder: Path, steps: int, turns: int) -> tuple[float, float]:
    """CPU seconds a step of the training thread: (bare torch loop, this project's loop), medians of turns."""
    bare, ours = [], []
    for turn in range(turns):
        bare.append(_bare(parse({"steps": steps}), version, cache, steps))
        ours.append(_looped(version, cache, folder / f"run{turn}", steps))
    return statistics.median(bare), statistics.median(ours)


def parse(changes: dict[str, Any]) -> TrainConfig:
    return parse_config({**CONFIG, "batch_size": BATCH, **changes})


def _bare(config: TrainConfig, version: Version, cache: Path, steps: int) -> float:
    """Forward, backward, clip, update of the same model on batches that lie ready."""
    torch.manual_seed(0)
    model = config.model.build(config.image_size)
    data = open_data(config, [version.place], cache, model)
    objective = build_objective(model, config)
    loader = Loader(data.reader, model, data.columns, config, torch.device("cpu"))
    batches = [loader.ready(n, data.reader.raw(n)).pieces[0] for n in range(steps)]
    optimizer = Engine(objective, config, torch.device("cpu")).optimizer
    began = 0.0
    for number, batch in enumerate(batches):
        if number == 2:
            began = time.thread_time()
        optimizer.zero_grad(set_to_none=True)
        loss: Any = objective(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        loss.item()
    return (time.thread_time() - began) / (steps - 2)


def _looped(version: Version, cache: Path, folder: Path, steps: int) -> float:
    """The same through `train_worker`: loader, learning rate, log, digests (checkpoints only at the end)."""
    times: list[float] = []

    def note(_: Metrics) -> None:
        times.append(time.thread_time())

    spec = {**CONFIG, "batch_size": BATCH, "steps": steps, "checkpoint_every": steps + 1}
    train_worker(Job(spec, (version.place,), str(folder), str(cache)), note)
    return (times[-1] - times[1]) / (steps - 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--short-side", type=int, default=256, help="of the stored pictures; 0: as they came (0.6 Mpx)")
    parser.add_argument("--corpus", type=Path, help="pictures to make collages of; by default shapes with grain")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = web_pictures.make(folder / "web", arguments.pictures, arguments.corpus)
        datas = [stored(path, arguments.short_side or None) for path in made]
        texts = [f"picture number {n} of a benchmark" for n in range(len(datas))]
        paths = [folder / "files" / f"{n:05d}.jpg" for n in range(len(datas))]
        paths[0].parent.mkdir()
        for path, data in zip(paths, datas, strict=True):
            path.write_bytes(data)
        with wds.TarWriter(str(folder / "shard.tar")) as tar:
            for n, (data, text) in enumerate(zip(datas, texts, strict=True)):
                tar.write({"__key__": f"{n:05d}", "jpg": data, "txt": text})
        version = seal(folder / "version", datas, texts)
        size = np.mean([len(data) for data in datas]) / 1e3
        load = Path("/proc/loadavg").read_text()[:4]
        print(f"{platform.machine()}, torch {torch.__version__}, webdataset {wds.__version__}, load average {load}")
        print(f"{len(datas)} JPEGs, mean {size:.0f} kB")
        cache = folder / "cache"
        config = parse({"steps": 1, "image_size": SIDE})
        source = open_data(config, [version.place], cache, config.model.build(SIDE)).reader.sources[0]
        readers = {kind: Reader([source], config, Shape(SIDE, "crop", kind)) for kind in ("bicubic", "bilinear")}
        for reader in readers.values():
            reader._threads = None
            reader._thread_pool = lambda: None  # type: ignore[method-assign]  # one thread, as the others
        seconds = in_turn(
            {
                "webdataset, Pillow, open_clip": lambda: cpu_of(webdataset_batches(folder / "shard.tar"), len(datas)),
                "DataLoader, torchvision": lambda: cpu_of(dataloader_batches(paths, texts), len(datas)),
                "tamis, bicubic": lambda: cpu_of(tamis_batches(readers["bicubic"]), len(datas)),
                "tamis, bilinear": lambda: cpu_of(tamis_batches(readers["bilinear"]), len(datas)),
                "decode only, OpenCV": lambda: cpu_of(decode_only(datas), len(datas)),
            },
            arguments.repeats,
        )
        slowest, torchvision = (seconds[name] for name in list(seconds)[:2])
        for name, each in seconds.items():
            print(f"{name:32} {each * 1e3:6.2f} ms/sample {1 / each:7,.0f}/core-s  {slowest / each:5.2f} x webdataset  "
                  f"{torchvision / each:5.2f} x DataLoader")  # fmt: skip
        wall, cpu = random_rows(map_rows(cache / "rows", version))
        print(f"random row: {wall:.4f} ms wall, {cpu:.4f} ms CPU")
        bare, ours = step_overhead(version, cache, folder, arguments.steps, 5)
        print(
            f"step: bare loop {bare * 1e3:.1f} ms, train_worker {ours * 1e3:.1f} ms: {100 * (ours / bare - 1):+.1f} %"
        )


if __name__ == "__main__":
    main()
