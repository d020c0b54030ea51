"""Runs: one config trained on one dataset version, in a folder named by what it was made from."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from curation.file_digest import file_digest
from curation.step import digest
from curation.table import replace_text
from pretrain.component import absolute, files_of, rooted, to_spec
from pretrain.config import ConfigError, TrainConfig
from pretrain.dataset import open_data, open_sources
from pretrain.launch import check_workers, launch
from pretrain.loop import METRICS_FILE, WEIGHTS_FILE, Job, Metrics, choose_device, read_lines
from pretrain.lora import is_adapter
from pretrain.model import Model
from pretrain.notes import unmet_names
from pretrain.preflight import check_batch, check_run, find_versions
from pretrain.version import Version

CODE_VERSION = 6
"""Changes whenever the same config on the same version would give other weights."""
FORMAT = "tamis.run/1"
RESULT_FILE = "result.json"
KEY_DIGITS = 12
PROGRESS_S = 5.0
"""Seconds between lines of progress."""


@dataclass(frozen=True)
class RunResult:
    """A finished run. key: 64 hex digits; reused: whether it was there already; metrics: of the last step."""

    folder: Path
    key: str
    version_digest: str
    weights_sha256: str
    num_steps: int
    seconds: float
    metrics: Metrics
    reused: bool
    cpu_s: float = 0.0
    """CPU-seconds of the workers over the whole run."""


def run_key(config: TrainConfig, version_digest: str, mixture_digests: tuple[str, ...] = ()) -> str:
    """Digest of everything that the run's weights depend on."""
    matters = {name: getattr(config, name) for name in TrainConfig.model_fields if name not in TrainConfig.not_in_key}
    matters["model"] = to_spec(config.model)
    matters["targets"] = [[to_spec(each.target), each.weight] for each in config.targets]
    matters["where"] = [clause.model_dump() for clause in config.where]
    matters["texts"] = config.texts.model_dump()
    matters["views"] = None if config.views is None else config.views.model_dump()
    matters["lora"] = None if config.lora is None else config.lora.model_dump()
    files = [_file_digest(each) for each in (config.init, config.subset)]
    files += [_content_digest(each) for each in files_of(config.model)]
    mixed = [
        [digest_, each.share, [clause.model_dump() for clause in each.where], _file_digest(each.subset)]
        for each, digest_ in zip(config.mixture, mixture_digests, strict=True)
    ]
    return digest("train", CODE_VERSION, version_digest, matters, files, mixed)


def _content_digest(place: str) -> str | None:
    """Digest of a file, of a run's weights, or of the weights, tokens and settings in another folder; None for a hub's
    name, which tells what it is."""
    path = Path(place)
    if not path.is_dir() or (path / RESULT_FILE).is_file():
        return _file_digest(place)
    kept = sorted(each for each in path.iterdir() if each.suffix in (".json", ".safetensors") and each.is_file())
    return digest([[each.name, file_digest(each)] for each in kept])


def _file_digest(place: str | None) -> str | None:
    """SHA-256 of a file (a run's folder: of its weights); None where it is none (a hub's tag names itself)."""
    if place is None:
        return None
    path = Path(place) / WEIGHTS_FILE if Path(place).is_dir() else Path(place)
    return file_digest(path) if path.is_file() else None


def train(
    config: TrainConfig, store: Path, address: str | None = "local", progress: Callable[[str], None] = print
) -> RunResult:
    """Train `config` on its version of the store, or return the run that did so before.

    Writes STORE/models/<name>-<12 digits of the key>/ with config.json, metrics.jsonl, model.safetensors and, last,
    result.json. A run that was cut off goes on from its newest checkpoint. address: see `pretrain.launch.launch`.
    Raises ConfigError, VersionError, or RuntimeError where training failed.
    """
    versions = find_versions(store, config)
    key = run_key(config, versions[0].digest, tuple(each.digest for each in versions[1:]))
    folder = store.resolve() / "models" / f"{config.name}-{key[:KEY_DIGITS]}"
    finished = open_run(folder)
    if finished is None:
        check_workers(config, address)
        model = check_run(config, versions)  # what cannot be used ends here, before data are read or a worker starts
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            finished = open_run(folder)  # another process may have done it meanwhile
            if finished is None:
                return _train(config, model, versions, folder, key, address, progress)
    progress(f"train: {folder.name} is there already, reused ({finished.num_steps} steps)")
    return finished


def _rooted(config: TrainConfig) -> TrainConfig:
    """The same config with absolute paths: Ray's workers, and `tamis seen` and `tamis eval` later on, run in other
    folders."""
    mixture = tuple(each.model_copy(update={"subset": absolute(each.subset)}) for each in config.mixture)
    changes = {"init": absolute(config.init), "subset": absolute(config.subset), "mixture": mixture}
    return config.model_copy(update={**changes, "model": rooted(config.model)})


def _train(
    config: TrainConfig,
    model: Model,
    versions: list[Version],
    folder: Path,
    key: str,
    address: str | None,
    progress: Callable[[str], None],
) -> RunResult:
    began = time.monotonic()
    places = [version.place if "://" in version.place else str(version.folder.resolve()) for version in versions]
    cache = (folder.parent.parent / "cache").resolve()
    try:
        sources = open_sources(config, list(places), cache, model, progress)
    except (OSError, pa.ArrowException):  # bytes that cannot be read: say which shard is damaged, if one is
        for version in versions:
            version.verify()
        raise
    check_batch(config, [len(each) for each in sources])
    for note in unmet_names(config, versions, sources):
        progress(f"train: note: {note}")
    for version in versions:
        version.verify()
    data = open_data(config, list(places), cache, model, progress)
    size = sum(parameter.numel() for name, parameter in model.named_parameters() if not is_adapter(name))
    source, num_texts = data.reader.sources[0], data.num_texts
    progress(
        f"train: {folder.name} on {versions[0].folder.name}: {len(source):,} samples, {num_texts:,} texts, "
        f"{size:,} parameters, {config.num_steps(len(source)):,} steps, {config.num_workers} worker(s)"
        + (f"; {data.num_undecodable} pictures could not be decoded" if data.num_undecodable else "")
    )
    written = _rooted(config).model_dump(mode="json")
    replace_text(folder / "config.json", json.dumps(written, indent=1) + "\n")
    replace_text(folder / "data.json", json.dumps({"versions": places, "cache": str(cache)}, indent=1) + "\n")
    job = Job(written, tuple(places), str(folder), str(cache))
    use_gpu = choose_device(config.device).type == "cuda"
    launch(job, config.num_workers, use_gpu, address, _reporter(progress), config.min_workers)
    log = [json.loads(line) for line in read_lines(folder / METRICS_FILE)]
    last = log[-1]
    if not any(line["grad_norm"] for line in log):
        progress(
            f"train: note: the gradient was 0 at every step, so nothing was learned: no row counted in any loss; "
            f"{METRICS_FILE} says how many pictures, sounds or films were missing"
        )
    facts: dict[str, Any] = {
        "format": FORMAT,
        "key": key,
        "code_version": CODE_VERSION,
        "version": versions[0].folder.name,
        "version_digest": versions[0].digest,
        "mixed_versions": [{"version": each.folder.name, "digest": each.digest} for each in versions[1:]],
        "decontamination": versions[0].decontamination,
        "weights_sha256": file_digest(folder / WEIGHTS_FILE),
        "init": config.init,
        "init_sha256": _file_digest(config.init),
        "num_samples": len(source),
        "num_texts": num_texts,
        "num_parameters": size,
        "num_steps": last["step"],
        "seconds": round(time.monotonic() - began, 1),
        "cpu_s": round(sum(line.get("cpu_s", 0.0) for line in log), 3),
        "samples_seen": last["samples_seen"],
        "seed": config.seed,
        "torch": torch.__version__,
        "metrics": last,
    }
    replace_text(folder / RESULT_FILE, json.dumps(facts, indent=1) + "\n")
    for leftover in ("checkpoints", "ray"):
        shutil.rmtree(folder / leftover, ignore_errors=True)
    progress(f"train: done in {facts['seconds']:.0f} s, loss {last['loss']:.3f}: {folder}")
    return _result(folder, facts, reused=False)


def open_run(folder: Path) -> RunResult | None:
    """The finished run in `folder`; None where it is not finished or its weights are not those that it wrote."""
    path = folder / RESULT_FILE
    if not path.is_file() or not (folder / WEIGHTS_FILE).is_file():
        return None
    facts = json.loads(path.read_text(encoding="utf-8"))
    if facts.get("format") != FORMAT:
        raise ConfigError(f"{path}: format {facts.get('format')!r}, this program reads {FORMAT!r}")
    if file_digest(folder / WEIGHTS_FILE) != facts["weights_sha256"]:
        return None
    return _result(folder, facts, reused=True)


def _result(folder: Path, facts: dict[str, Any], reused: bool) -> RunResult:
    names = ("key", "version_digest", "weights_sha256", "num_steps", "seconds", "metrics")
    cpu_s = facts.get("cpu_s", 0.0)  # older runs did not count
    return RunResult(folder=folder, reused=reused, cpu_s=cpu_s, **{name: facts[name] for name in names})


def _reporter(progress: Callable[[str], None]) -> Callable[[Metrics], None]:
    last = 0.0

    def report(metrics: Metrics) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= PROGRESS_S or metrics["step"] in (1, metrics["num_steps"]):
            last = now
            progress(
                f"train: step {metrics['step']:,}/{metrics['num_steps']:,}  loss {metrics['loss']:.3f}  "
                f"lr {metrics['lr']:.1e}  {metrics['samples_per_s']:.0f} samples/s"
            )

    return report


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the run's lock: a second process that trains the same waits, and then reuses the result."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
