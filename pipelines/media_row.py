"""One row of `media`: what a link gave, looked at in a limited child."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

from curation.media.decode import DecodeLimits, Decoder
from curation.media.image_output import ImageOutput
from curation.reasons import Reason
from curation.schema import MEDIA
from pipelines.deny import expected_digest_differs
from pipelines.download_options import Download
from pipelines.fetched import Fetched

MAX_DETAIL_CHARS = 300
_NAMES = MEDIA.names  # pyarrow makes a new list each time
UNCHANGED = "unchanged"
"""Status of a row that never stands in a table: the server says that the bytes are those it gave before."""


@lru_cache(maxsize=4)
def decoder(limits: DecodeLimits, output: ImageOutput | None = None) -> Decoder:
    """This process's decoder child, started at first use."""
    return Decoder(limits, output=output)


def unfetched_row(link: dict[str, Any]) -> dict[str, Any]:
    """The row of a link that is not asked for because its URL is refused; and what all rows begin with."""
    row: dict[str, Any] = dict.fromkeys(_NAMES)
    row |= {name: link[name] for name in ("media_uid", "sample_uid", "role", "modality", "url")}
    return row | {"status": "refused", "reason": link["url_reason"]}


def fetched_row(link: dict[str, Any], fetched: Fetched, settings: Download) -> dict[str, Any]:
    """The row of a link that the fetcher is done with; takes the body."""
    row = unfetched_row(link) | {
        "final_url": fetched.final_url,
        "status": fetched.status,
        "reason": fetched.reason,
        "detail": fetched.detail,
        "http_status": fetched.http_status,
        "content_type": fetched.content_type,
        "consent": fetched.consent,
        "sha256": fetched.sha256,
    }
    if fetched.is_unchanged:
        return row | {"status": UNCHANGED}
    if fetched.status == "ok":
        promised = link["expected_hash"]
        differs = None if promised is None else expected_digest_differs(fetched, promised)
        body = fetched.take_body() or b""
        row |= {"etag": fetched.etag, "last_modified": fetched.last_modified}
        row |= looked_at(body, fetched.sha256, settings)
        if differs is not None:
            reason = Reason.POLICY_HASH_MISMATCH.value
            row |= {"status": "failed", "reason": reason, "detail": f"{differs} differs"}
            row |= {"bytes": None, "stored_sha256": None, "size_bytes": len(body)}
    if row["detail"]:
        row["detail"] = row["detail"][:MAX_DETAIL_CHARS]
    return row


def looked_at(body: bytes, sha256: str | None, settings: Download) -> dict[str, Any]:
    """Columns of the picture, its bytes as they are stored among them; fully decoded once, so that a truncated picture
    is found here. sha256: of the body."""
    seen = decoder(settings.decode, settings.image).convert(body)
    columns: dict[str, Any] = {
        "image_format": seen.out_format or seen.format,
        "width_px": seen.out_width_px or seen.width_px,
        "height_px": seen.out_height_px or seen.height_px,
        "original_width_px": seen.width_px,
        "original_height_px": seen.height_px,
        "num_frames": seen.num_frames,
        "has_alpha": seen.has_alpha,
    }
    if seen.reason is not None:
        return columns | {"status": "failed", "reason": seen.reason, "detail": seen.detail, "size_bytes": len(body)}
    stored = seen.stored or body
    stored_sha256 = sha256 if stored is body else hashlib.sha256(stored).hexdigest()
    return columns | {"bytes": stored, "size_bytes": len(stored), "stored_sha256": stored_sha256}
