"""Which samples a step of a run saw: computed from the config and the version, and checked against the run's log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pretrain.config import ConfigError, parse_config
from pretrain.data import Reader
from pretrain.dataset import open_data
from pretrain.keyed import key
from pretrain.loop import METRICS_FILE, read_lines


@dataclass(frozen=True)
class SeenSample:
    """One sample of a step: its version, row there, uid, epoch, and the texts that were drawn (none where the
    model reads no texts)."""

    version: str
    row: int
    sample_uid: str
    epoch: int
    texts: tuple[str, ...]


@dataclass(frozen=True)
class _Moved:
    """A store that lay at `old` when a run was trained in it, and lies at `new` now: moved, renamed or copied."""

    old: Path
    new: Path

    def place(self, name: str) -> str:
        """Where this file or folder is now: a run that was taken out of its store has left it where it was."""
        is_in_it = Path(name).is_relative_to(self.old) and (self.new / "versions").is_dir()
        return str(self.new / Path(name).relative_to(self.old)) if is_in_it else name


class SeenSamples:
    """The samples of any step of a run, whose folder must hold `config.json` and `data.json`.

    versions: other places of its versions, where they have moved without the run. Raises ConfigError where the folder
    is no run.
    """

    def __init__(self, run: Path, versions: list[str] | None = None) -> None:
        try:
            config = parse_config(json.loads((run / "config.json").read_text(encoding="utf-8")), str(run))
            where = json.loads((run / "data.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(f"{run} is no run: it has no {Path(error.filename).name}") from error
        config = config.model_copy(update={"decontamination": "waived"})  # it was asked when the run began
        cache = Path(where["cache"])
        moved = _Moved(cache.parent, run.resolve().parent.parent)
        places: list[Path | str] = list(versions or map(moved.place, where["versions"]))
        model = config.model.without_weights().build(config.image_size)
        self._reader: Reader = open_data(config, places, Path(moved.place(str(cache))), model).reader
        self._logged = {line["step"]: line for line in map(json.loads, read_lines(run / METRICS_FILE))}
        self._run = run

    def steps(self) -> list[int]:
        """Steps that the log tells of, counted from 1 as there."""
        return sorted(self._logged)

    def of(self, step: int) -> list[SeenSample]:
        """What step `step` (1, 2, ...) saw, in the order of the global batch.

        Raises ConfigError where the run did not come so far, or its log says that it saw other samples.
        """
        if step not in self._logged:
            last = max(self._logged, default=0)
            raise ConfigError(f"{self._run.name} has no step {step} in its log: it holds the steps 1 to {last}")
        found = []
        total = 0
        reads_texts = "text" in self._reader.shape.sources
        for number, epoch, row in zip(*(each.tolist() for each in self._reader.positions(step - 1)), strict=True):
            source = self._reader.sources[number]
            uid = source.rows.uid(row)
            drawn = source.draw_texts(epoch, row, uid) if reads_texts else ()
            texts = tuple(source.rows.text(text) for text in drawn)
            found.append(SeenSample(source.rows.version.name, row, uid, epoch, texts))
            total += int(key(uid, epoch))
        logged = self._logged[step].get("samples_digest")
        if logged != total % (1 << 64):
            raise ConfigError(f"{self._run.name}: the log of step {step} says that other samples were seen than these")
        return found

    def places(self, step: int) -> np.ndarray:
        """(source, epoch, row) of each sample of a step, (3, batch)."""
        return np.stack(self._reader.positions(step - 1))
