"""The canary of a store: each model signal's answer to a few known inputs, kept by the first worker that ran it."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path

from curation.canary import canary_of, difference
from curation.reasons import Reason
from curation.signal import Signal
from curation.table import part_path, read_part, write_part

_checked: set[tuple[Path, str]] = set()
"""Folder and key of what this process has seen agree."""


class CanaryFailed(RuntimeError):
    """This worker's model does not say of the known inputs what the store's first one did."""


def check_canaries(signals: Sequence[Signal], folder: Path) -> None:
    """Compute the known examples of every signal with a model, once per process, and compare with those in `folder`.

    The first worker's answers become the store's. Raises CanaryFailed.
    """
    for signal in signals:
        key = signal.key() if signal.needs_model() else ""
        if not key or (folder, key) in _checked:
            continue
        now = canary_of(signal)
        if now is not None:
            path = part_path(folder / signal.table_name(), 0, key)
            write_part(path.parent, 0, key, now)  # the first one's stays
            found = difference(read_part(path), now)
            if found is not None:
                raise CanaryFailed(
                    f"{Reason.SCORE_CANARY_FAILED.value}: {signal.table_name()} on {platform.node()}: the known "
                    f"examples do not get the results that they had: {found}. The scores would not be comparable with "
                    "those that are stored. Look for another version of torch or open_clip, another kind of processor "
                    "or GPU (`precision: fp32` in the recipe makes them agree) or faulty hardware; if the stored "
                    f"results are the wrong ones, delete {path} and that signal's parts."
                )
        _checked.add((folder, key))
