from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits
from tests.curation.av import media


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="the states of processes are Linux's")
def test_a_child_without_time_is_not_one_that_hangs() -> None:
    with AvDecoder(AvLimits(stall_s=1.0)) as decoder:
        decoder.probe(media.small("wav", 0.2))
        child = decoder._child
        assert child is not None
        until(lambda: (child._usage() or ("", 0.0))[0] == "S")
        assert not child._is_starved()  # it sleeps: nobody keeps it from working
        os.kill(child._process.pid, signal.SIGSTOP)
        until(lambda: (child._usage() or ("", 0.0))[0] == "T")
        assert not child._is_starved()
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            child._process, own = busy, child._process
            child._cpu_at_sign_s = 0.0
            until(lambda: (child._usage() or ("", 0.0))[1] >= 0.5)
            assert not child._is_starved()  # it has had its time and gave no sign
        finally:
            child._process = own
            busy.kill()
            busy.wait()
