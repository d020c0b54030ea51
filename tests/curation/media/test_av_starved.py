from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits
from tests.curation.av import media


@pytest.mark.skipif(sys.platform != "linux", reason="the states of processes are Linux's")
def test_a_child_without_time_is_not_one_that_hangs() -> None:
    with AvDecoder(AvLimits(stall_s=1.0)) as decoder:
        decoder.probe(media.small("wav", 0.2))
        child = decoder._child
        assert child is not None
        waiting = child._usage()
        assert waiting is not None
        assert (waiting[0], child._is_starved()) == ("S", False)  # it sleeps: nobody keeps it from working
        os.kill(child._process.pid, signal.SIGSTOP)
        assert not child._is_starved()
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            child._process, own = busy, child._process
            child._cpu_at_sign_s = 0.0
            end = time.monotonic() + 60
            while (child._usage() or ("", 9.0))[1] < 0.5:
                assert time.monotonic() < end
                time.sleep(0.05)
            assert not child._is_starved()  # it has had its time and gave no sign
        finally:
            child._process = own
            busy.kill()
            busy.wait()
