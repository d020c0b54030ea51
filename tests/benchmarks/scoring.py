"""Scoring side by side with open_clip's usual loop, on this machine, in this run.

    python tests/benchmarks/scoring.py --pictures 400 --model ViT-B-32 [--corpus FOLDER [--crops]]

The usual loop: Pillow, open_clip's own transforms and a DataLoader, the model in fp32 eager; clip-retrieval's
inference does the same (its packages do not install beside this project's: it wants numpy < 2, pyarrow < 16,
open_clip < 3). Random weights, which take the same time as trained ones. Seconds are CPU seconds of the process and its
decoder's child, 1 thread; both ways in turn, medians of --repeats; the child's start is left out and reported.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import io
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import web_pictures  # noqa: E402

from curation.media.decode import DecodeLimits  # noqa: E402
from curation.media.views import DecodePool  # noqa: E402
from curation.schema import MEDIA  # noqa: E402
from curation.signals.image_embedding import ImageEmbedding  # noqa: E402
from curation.signals.perceptual_hash import PerceptualHash  # noqa: E402
from curation.signals.picture_statistics import PictureStatistics  # noqa: E402
from curation.table import write_part  # noqa: E402
from pipelines import picture_pass  # noqa: E402
from pretrain.embed import TwoTowerScorer, has_bfloat16  # noqa: E402
from pretrain.normalising import normalised  # noqa: E402

CHILD = HERE.parents[1] / "curation" / "media" / "decode_child.py"  # a file that runs by itself, no module
decode_child: Any = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("child", CHILD))
spec.loader.exec_module(decode_child)

BATCH = 64
WORDS = [
    "a",
    "an",
    "the",
    "of",
    "on",
    "in",
    "with",
    "and",
    "red",
    "green",
    "small",
    "large",
    "old",
    "wooden",
    "photo",
    "picture",
    "drawing",
    "dog",
    "cat",
    "house",
    "boat",
    "tree",
    "river",
    "street",
    "people",
    "table",
    "flower",
    "bird",
    "car",
    "bridge",
    "mountain",
    "beach",
    "window",
    "yellow",
    "sitting",
    "standing",
    "running",
    "near",
    "behind",
]


def captions(num: int, mean_words: float = 9.6) -> list[str]:
    """Captions of the usual length (mean 9.6 words, 4 to 22: lines of English, as in web captions)."""
    rng = np.random.default_rng(0)
    counts = np.clip(rng.gamma(4.0, mean_words / 4.0, num).round().astype(int), 4, 22)
    return [" ".join(rng.choice(WORDS, size=count)) for count in counts]


def cpu_s(child: int | None = None) -> float:
    """CPU seconds of this process so far, and of a child that still runs (Linux)."""
    own = time.process_time()
    return own if child is None else own + int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9


def in_turn(ways: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median seconds of each way; each is run once unmeasured first."""
    for way in ways.values():
        way()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats):
        for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            taken[name].append(ways[name]())
    return {name: statistics.median(each) for name, each in taken.items()}


class Encoded(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """The usual data set: bytes, opened by Pillow, through open_clip's transforms."""

    def __init__(self, datas: list[bytes], transform: Any) -> None:
        self.datas, self.transform = datas, transform

    def __len__(self) -> int:
        return len(self.datas)

    def __getitem__(self, at: int) -> torch.Tensor:
        found: torch.Tensor = self.transform(Image.open(io.BytesIO(self.datas[at])))
        return found


class Bench:
    """Both ways on the same pictures, captions and weights."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        paths = web_pictures.make(
            arguments.work / "pictures", arguments.pictures, arguments.corpus, crops=arguments.crops
        )
        self.datas = [path.read_bytes() for path in paths]
        self.texts = captions(arguments.texts)
        self.repeats = arguments.repeats
        self.fast = TwoTowerScorer(arguments.model, device="cpu")
        self.exact = TwoTowerScorer(arguments.model, device="cpu", precision="fp32")
        self.clip: Any = self.exact.model.clip
        self.tokenizer = open_clip.get_tokenizer(arguments.model)
        settings = open_clip.get_model_preprocess_cfg(self.clip)
        self.transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
        self.signal = ImageEmbedding(model=arguments.model)
        self.pool = DecodePool(1, DecodeLimits())
        view = self.signal.view()
        started = time.process_time()
        list(self.pool.map(self.datas[:1], [view], lambda _: 0, ahead=1))
        child = self.pool._decoders[0]._child
        assert child is not None
        self.child = child._process.pid
        self.start_s = time.process_time() - started + cpu_s(self.child) - time.process_time()

    def usual_preprocess(self) -> None:
        """Batch by batch, none of which outlasts the next: as where a model takes them."""
        for _ in torch.utils.data.DataLoader(Encoded(self.datas, self.transform), batch_size=BATCH):
            pass

    def our_preprocess(self) -> None:
        """The same, up to the tensor that goes into the model, as `TwoTowerScorer` makes it."""
        self._into_batches(self.squares())

    def without_a_child(self) -> None:
        """The same, decoded in this process, as the usual loop does: no command of tamis does that with what comes from
        the web. What the limited child costs is the difference."""
        self._into_batches(self._unguarded())

    def _into_batches(self, squares: Iterator[np.ndarray]) -> None:
        colours: Any = self.fast.model.normalise
        while batch := list(itertools.islice(squares, BATCH)):
            normalised(torch.from_numpy(np.stack(batch)), colours.mean, colours.std, torch.bfloat16)

    def _unguarded(self) -> Iterator[np.ndarray]:
        view, limits = self.signal.view(), dataclasses.asdict(DecodeLimits())
        asked, room = json.dumps([[view.short_side_px, view.exact]]), memoryview(bytearray(1 << 24))
        for data in self.datas:
            answer, _ = decode_child.decode(data, asked, decode_child.serving.VIEWS, room, limits)
            height, width = answer["view_sizes"][0]
            pixels = np.frombuffer(room, np.uint8, height * width * 3).reshape(height, width, 3)
            yield self.signal.prepare(pixels, answer["height_px"], answer["width_px"])

    def squares(self) -> Iterator[np.ndarray]:
        """Each picture as the scorer prepares it."""
        prepare = picture_pass.preparing([self.signal], [self.signal.view()])
        for seen in self.pool.map(self.datas, [self.signal.view()], prepare, ahead=BATCH):
            if seen is not None:
                yield seen[0]

    def timed(self, work: Callable[[], Any]) -> Callable[[], float]:
        def way() -> float:
            before = cpu_s(self.child)
            work()
            return cpu_s(self.child) - before

        return way

    @torch.inference_mode()
    def usual_vectors(self, batches: list[torch.Tensor]) -> torch.Tensor:
        return torch.cat([self.clip.encode_image(batch, normalize=True) for batch in batches])

    @torch.inference_mode()
    def usual_texts(self, texts: list[str]) -> torch.Tensor:
        steps = range(0, len(texts), BATCH)
        return torch.cat([self.clip.encode_text(self.tokenizer(texts[i : i + BATCH]), normalize=True) for i in steps])


def table(rows: list[tuple[str, float, float, float]], unit: str) -> None:
    print(f"\n| | open_clip's usual loop, {unit}/CPU-s | tamis | ratio | goal |\n|---|---|---|---|---|")
    for name, usual, ours, goal in rows:
        print(f"| {name} | {usual:.1f} | {ours:.1f} | {usual and ours / usual:.1f}x | {goal:g}x |", flush=True)


def speed(bench: Bench, num_modelled: int) -> None:
    num = len(bench.datas)
    decode = in_turn(
        {
            "usual": bench.timed(bench.usual_preprocess),
            "ours": bench.timed(bench.our_preprocess),
            "without a child": bench.timed(bench.without_a_child),
        },
        bench.repeats,
    )
    squares = list(itertools.islice(bench.squares(), num_modelled))
    batches = list(torch.stack([bench.transform(Image.fromarray(each)) for each in squares]).split(BATCH))
    model = in_turn(
        {
            "usual": bench.timed(lambda: bench.usual_vectors(batches)),
            "ours": bench.timed(lambda: bench.fast.encode_images(squares)),
        },
        bench.repeats,
    )
    text = in_turn(
        {
            "usual": bench.timed(lambda: bench.usual_texts(bench.texts)),
            "ours": bench.timed(lambda: bench.fast.encode_texts(bench.texts)),
        },
        bench.repeats,
    )
    per = {
        "preprocessing": (decode["usual"] / num, decode["ours"] / num, 4.0),
        "image tower": (model["usual"] / len(squares), model["ours"] / len(squares), 2.2),
        "text tower, tokens included": (text["usual"] / len(bench.texts), text["ours"] / len(bench.texts), 6.0),
    }
    rows = [(name, 1 / usual, 1 / ours, goal) for name, (usual, ours, goal) in per.items()]
    pair = [sum(each[way] for each in per.values()) for way in (0, 1)]
    bare = (
        "preprocessing, in one process as the usual loop",
        num / decode["usual"],
        num / decode["without a child"],
        4.0,
    )
    table([rows[0], bare, *rows[1:], ("pairs, all of it", 1 / pair[0], 1 / pair[1], 2.2)], "rows")
    for name, way in (("usual loop", 0), ("tamis", 1)):
        shares = [f"{label} {each[way] / pair[way]:.0%}" for label, each in per.items()]
        print(f"split of {name}'s time: {', '.join(shares)}")
    print(f"start of the decoder's child: {bench.start_s:.2f} CPU-s")


def agreement(bench: Bench, num: int) -> None:
    """Scores beside open_clip's in fp32: of the same pixels (bfloat16, trimming), and of the whole way from the bytes
    (decoding at a smaller scale and the filter, too)."""
    texts = bench.texts[:num]
    squares = list(itertools.islice(bench.squares(), num))
    fast = bench.fast.encode_images(squares)[0] @ bench.fast.encode_texts(texts)[0].T
    exact = bench.exact.encode_images(squares)[0] @ bench.exact.encode_texts(texts)[0].T
    with torch.inference_mode():
        batches = list(torch.stack([Encoded(bench.datas, bench.transform)[i] for i in range(num)]).split(BATCH))
    theirs = (bench.usual_vectors(batches) @ bench.usual_texts(texts).T).numpy()
    print(f"\nscores, {num} pictures x {num} texts, whose standard deviation is {theirs.std():.4f}; differences:")
    for name, apart in (("bfloat16, same pixels", fast - exact), ("the whole way", fast - theirs)):
        apart = np.abs(apart)
        share = (apart <= 0.005).mean()
        print(f"{name}: largest {apart.max():.4f}, mean {apart.mean():.5f}, within 0.005 {share:.2%}")


def one_pass(bench: Bench, folder: Path) -> None:
    """Embedding, perceptual hash and statistics of a part: in one pass, and one pass for each."""
    rows = [dict.fromkeys(MEDIA.names) | {"media_uid": f"m{i}", "bytes": d} for i, d in enumerate(bench.datas)]
    path = write_part(folder / "media", 0, "ab" * 32, pa.Table.from_pylist(rows, schema=MEDIA)).path
    signals = [bench.signal, PerceptualHash(), PictureStatistics()]
    limits = DecodeLimits()
    pool = picture_pass.decode_pool(limits, 1)
    list(pool.map(bench.datas[:1], [bench.signal.view()], lambda _: 0, ahead=1))
    child = pool._decoders[0]._child
    assert child is not None
    pid = child._process.pid

    def way(groups: list[list[Any]]) -> Callable[[], float]:
        def run() -> float:
            before, began = cpu_s(pid), time.monotonic()
            for group in groups:
                picture_pass.from_pictures(path, group, limits, 1)
            walls.append(time.monotonic() - began)
            return cpu_s(pid) - before

        return run

    walls: list[float] = []
    found = in_turn({"one": way([signals]), "apart": way([[each] for each in signals])}, 1)
    num = len(bench.datas)
    print(
        f"\nall signals of a part of {num}: one pass {found['one'] / num * 1000:.1f} CPU-ms a picture, "
        f"one pass for each signal {found['apart'] / num * 1000:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--modelled", type=int, default=128, help="pictures that go through the models")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--corpus", type=Path, help="folder of PNG and JPEG files to make collages of (default: drawn)")
    parser.add_argument("--crops", action="store_true", help="crops of the corpus, which are photographs; no collages")
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "tamis-benchmark")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    bench = Bench(arguments)
    sizes = [len(data) for data in bench.datas]
    print(
        f"{arguments.model}, precision {bench.fast.precision} (bfloat16 in hardware: {has_bfloat16()}); "
        f"{len(sizes)} JPEGs, mean {np.mean(sizes) / 1000:.0f} kB; {len(bench.texts)} captions"
    )
    speed(bench, arguments.modelled)
    agreement(bench, min(arguments.modelled, arguments.texts, len(sizes)))
    with tempfile.TemporaryDirectory(dir=arguments.work) as folder:
        one_pass(bench, Path(folder))
    bench.pool.close()


if __name__ == "__main__":
    main()
