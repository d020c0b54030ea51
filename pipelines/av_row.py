"""What a fetched video or sound is: columns of its row of `media`, found by its header and first frames in a limited
child. Whether all of it can be decoded shows when it is cut into segments."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from curation.media.av_decode import AvDecoder
from curation.media.av_types import AvLimits, AvProbe
from curation.reasons import Reason
from pipelines.fetched import Fetched


@lru_cache(maxsize=2)
def av_prober(limits: AvLimits) -> AvDecoder:
    """This process's audio-visual decoder child, started at first use."""
    return AvDecoder(limits)


def quarantine_av(limits: AvLimits, fatal: Mapping[str, tuple[str, str | None]]) -> None:
    """Let this process's decoder answer for bytes with these SHA-256 with the reason and detail given, unseen."""
    av_prober(limits).fatal.update(fatal)


def looked_at_av(fetched: Fetched, modality: str, limits: AvLimits) -> dict[str, Any]:
    """Columns of a medium; takes the body. modality: `video`, `audio`, or `av` for either."""
    source = fetched.body_path or fetched.body or b""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if size > limits.max_bytes:
        fetched.drop_body()
        return _failed(Reason.DL_TOO_LARGE.value, f"more than {limits.max_bytes} bytes", size)
    seen = av_prober(limits).probe(source)
    columns = {"width_px": seen.width_px, "height_px": seen.height_px}
    columns |= {"original_width_px": seen.width_px, "original_height_px": seen.height_px}
    reason, detail = _objection(seen, modality)
    if reason is not None:
        fetched.drop_body()
        return columns | _failed(reason, detail, size)
    body = _mapped(source) if isinstance(source, Path) else source
    fetched.drop_body()  # of a mapped file its name; its content lasts as long as the mapping
    found = {"modality": "video" if seen.has_video else "audio", "bytes": body, "size_bytes": size}
    return {**columns, **found, "stored_sha256": fetched.sha256}


def _objection(seen: AvProbe, modality: str) -> tuple[str | None, str | None]:
    if seen.reason is not None:
        return seen.reason, seen.detail
    if (modality == "video" and not seen.has_video) or (modality == "audio" and not seen.has_audio):
        return Reason.AV_NO_STREAM.value, f"no {modality} in it"
    return None, None


def _failed(reason: str, detail: str | None, size: int) -> dict[str, Any]:
    return {"status": "failed", "reason": reason, "detail": detail, "size_bytes": size}


def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
