"""The stages of video and audio on Ray's workers: the bytes of a serial run, whatever happens to a worker meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.pipelines.av_store import Finished
from tests.stores import LEDGER, command, digests, environment, leftovers, parts_run, rows, run, run_arguments

SECONDS_TO_START = 120.0


def decoding_worker(root: int) -> psutil.Process | None:
    """A worker of the run that has a decoder's child at work."""
    for each in psutil.Process(root).children(recursive=True):
        try:
            if any("av_child.py" in " ".join(child.cmdline()) for child in each.children()):
                return each
        except psutil.NoSuchProcess:
            continue
    return None


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kill_one", [False, True], ids=["undisturbed", "a worker killed in segment"])
def test_the_same_on_ray(av_finished: Finished, tmp_path: Path, kill_one: bool) -> None:
    store = tmp_path / "store"
    process = subprocess.Popen(
        command(*run_arguments(store, av_finished.recipe, *av_finished.sources, address="local")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(),
        start_new_session=True,
    )
    num_parts = len(list((av_finished.store / "tables").glob("media/[0-9]*.parquet")))
    end = time.monotonic() + SECONDS_TO_START
    killed = None
    while kill_one and killed is None and process.poll() is None:
        assert time.monotonic() < end, "no worker ever decoded"
        if len(list((store / "tables").glob("media/[0-9]*.parquet"))) == num_parts:  # `download` is behind us
            worker = decoding_worker(process.pid)
            if worker is not None and not list((store / "tables").glob("segment_texts/*.parquet")):
                os.kill(worker.pid, signal.SIGKILL)
                killed = worker.pid
        time.sleep(0.01)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    assert kill_one == (killed is not None)
    for folder in ("tables/segments", "tables/segment_texts", "tables/signal_media_fingerprint", "versions"):
        assert digests(store / folder) == digests(av_finished.store / folder), folder
    assert rows(store, LEDGER) == rows(av_finished.store, LEDGER)
    if kill_one:  # what the dead worker was writing goes with the next run
        run(store, av_finished.recipe, *av_finished.sources)
        assert set(parts_run(store).values()) == {0}
    assert leftovers(store) == []
