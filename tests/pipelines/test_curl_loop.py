"""How many files may be open: asked for where the system allows it, made do with where it does not."""

import subprocess
import sys

from tests.stores import environment

LIMITED = """
import resource
from pipelines.curl_loop import allow_files
resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard}))
print(allow_files({wanted}), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def allowed(wanted: int, hard: int) -> list[int]:
    code = LIMITED.format(wanted=wanted, hard=hard)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    return [int(word) for word in done.stdout.split()]


def test_the_limit_on_open_files_is_raised_as_far_as_it_may_be() -> None:
    assert allowed(wanted=32, hard=512) == [32, 64, 512]
    assert allowed(wanted=256, hard=512) == [256, 256, 512]
    assert allowed(wanted=4096, hard=512) == [512, 512, 512]
