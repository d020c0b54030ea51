"""`engine: img2dataset`: its `Downloader` (1.47) run once for each part, its outcomes as rows of `media`.

For those who must match an older corpus bit for bit. None of tamis' guards hold here: see `Download.allow_unguarded`.
What it adds to img2dataset is the account: one row for each link (img2dataset drops a row whose writing fails), a
reason code in place of free text, digests, and parts that are whole or not there.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.media.image_output import ImageOutput
from curation.reasons import Reason
from pipelines.download_options import Download

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
DIRECTIVES = ("noai", "noimageai", "noindex", "noimageindex")
"""img2dataset's own list for its option `disallowed_header_directives`, which is off by default; here it is on."""
PNG_COMPRESSION = 6
"""Where `quality` is none of img2dataset's levels for PNG, 0-9."""
_KEY_DIGITS = 5
MAX_DETAIL = 300

# Its messages are those of urllib and of its resizer; the first pattern that is found counts.
_MESSAGES: tuple[tuple[str, Reason], ...] = (
    (r"disallowed by X-Robots-Tag", Reason.POLICY_X_ROBOTS),
    (r"hash mismatch", Reason.POLICY_HASH_MISMATCH),
    (r"infinite loop", Reason.HTTP_REDIRECT_LOOP),
    (r"HTTP Error (401|402|403|407|451)", Reason.HTTP_FORBIDDEN),
    (r"HTTP Error 429", Reason.HTTP_RATE_LIMITED),
    (r"HTTP Error (408|425|5\d\d)", Reason.HTTP_5XX),
    (r"HTTP Error 4\d\d", Reason.HTTP_4XX_GONE),
    (r"HTTP Error", Reason.HTTP_BAD_RESPONSE),
    (r"is not allowed|redirection to url", Reason.HTTP_REDIRECT_BLOCKED),
    (r"unknown url type", Reason.URL_BAD_SCHEME),
    (r"no host given", Reason.URL_BAD_HOST),
    (r"Errno -2\]|Errno -5\]|not known|No address associated", Reason.NET_DNS_NXDOMAIN),
    (r"Errno -3\]|Temporary failure in name", Reason.NET_DNS_SERVFAIL),
    (r"Connection refused|unreachable|No route", Reason.NET_CONNECT_REFUSED),
    (r"certificate has expired|not yet valid", Reason.NET_TLS_EXPIRED),
    (r"[Hh]ostname mismatch|IP address mismatch", Reason.NET_TLS_NAME),
    (r"CERTIFICATE_VERIFY_FAILED", Reason.NET_TLS_UNTRUSTED),
    (r"urlopen error .*timed out", Reason.NET_CONNECT_TIMEOUT),
    (r"timed out", Reason.DL_DEADLINE),
    (r"Connection reset|closed connection|Broken pipe", Reason.NET_RESET),
    (r"\bSSL\b|_ssl\.", Reason.NET_TLS_HANDSHAKE),
    (r"IncompleteRead", Reason.DL_LENGTH_MISMATCH),
    (r"got more than \d+ headers|header line", Reason.HTTP_HEADERS_TOO_LARGE),
    (r"image too small", Reason.IMG_TOO_SMALL),
    (r"image area too large", Reason.IMG_TOO_LARGE),
    (r"aspect ratio too large", Reason.IMG_ASPECT),
)


def reason_of_message(status: str, message: str) -> Reason:
    """The reason code of img2dataset's `status` and `error_message`."""
    for pattern, reason in _MESSAGES:
        if re.search(pattern, message):
            return reason
    return Reason.IMG_CORRUPT if status == "failed_to_resize" else Reason.HTTP_BAD_RESPONSE


def run_part(links: list[dict[str, Any]], settings: Download) -> list[dict[str, Any]]:
    """Columns of `media` for each row of links, in their order.

    Errors: RuntimeError if img2dataset's shard fails as a whole; ValueError for a promised digest that is no SHA-256.
    """
    if not links:
        return []
    urls, output = [link["url"] for link in links], settings.image
    if any(link["expected_hash"] is not None and len(link["expected_hash"]) != 64 for link in links):
        raise ValueError("engine: img2dataset verifies SHA-256 only; the link table promises other digests")
    with tempfile.TemporaryDirectory(prefix="img2dataset-") as work:
        folder, shard = Path(work, "out"), Path(work, "shard.feather")
        folder.mkdir()
        with pa.OSFile(str(shard), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("url", pa.string())])) as writer:
            writer.write_table(pa.table({"url": pa.array(urls, pa.string())}))
        is_whole, _ = _downloader(folder, len(urls), settings)((0, str(shard)))
        if not is_whole:
            raise RuntimeError("img2dataset gave up its shard; its message stands above")
        found = {
            int(row["key"]) % 10 ** _digits(len(urls)): row for path in folder.glob("*.parquet") for row in _rows(path)
        }
    return [_columns(found.get(index), link["expected_hash"], output) for index, link in enumerate(links)]


def _digits(count: int) -> int:
    """Digits of a row's number in its key: ceil(log10(number_sample_per_shard)), which is given as `_shard_size`."""
    return len(str(_shard_size(count))) - 1


def _shard_size(count: int) -> int:
    return int(10 ** max(1, len(str(count))))


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def _downloader(folder: Path, count: int, settings: Download) -> Any:
    os.environ.update(NO_ALBUMENTATIONS_UPDATE="1", WANDB_MODE="disabled")  # neither asks its maker's server
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import ParquetSampleWriter

    output, fetch = settings.image, settings.fetch
    format = encode_format(output)
    resizer = Resizer(
        image_size=output.image_size,
        resize_mode=output.resize_mode,
        resize_only_if_bigger=output.resize_only_if_bigger,
        encode_quality=output.quality if format != "png" or output.quality <= 9 else PNG_COMPRESSION,
        encode_format=format,
        skip_reencode=output.keep_original_bytes,
        min_image_size=output.min_image_size,
        max_image_area=float("inf") if output.max_image_area is None else output.max_image_area,
        max_aspect_ratio=float("inf") if output.max_aspect_ratio is None else output.max_aspect_ratio,
    )
    return Downloader(
        sample_writer_class=ParquetSampleWriter,
        resizer=resizer,
        thread_count=fetch.max_connections,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url"],
        timeout=fetch.first_byte_timeout_s,
        number_sample_per_shard=_shard_size(count),
        oom_shard_count=_KEY_DIGITS,
        compute_hash="sha256",
        verify_hash_type=None,
        encode_format=format,
        retries=fetch.retries,
        user_agent_token=fetch.user_agent_token,
        disallowed_header_directives=list(DIRECTIVES),
    )


def encode_format(output: ImageOutput) -> str:
    """jpg, png or webp; img2dataset knows no `keep`."""
    return "jpg" if output.format == "keep" else output.format


def _columns(row: dict[str, Any] | None, promised: str | None, output: ImageOutput) -> dict[str, Any]:
    """Columns of `media` for a row of img2dataset's table; None: it lost the row."""
    if row is None:
        return {"status": "failed", "reason": Reason.SYS_BUG.value, "detail": "img2dataset lost the row"}
    if row["status"] != "success":
        message = str(row["error_message"] or "")
        reason = reason_of_message(row["status"], message)
        is_refused = reason is Reason.POLICY_X_ROBOTS
        return {"status": "refused" if is_refused else "failed", "reason": reason.value, "detail": message[:MAX_DETAIL]}
    if promised is not None and promised.lower() != row["sha256"]:
        reason = Reason.POLICY_HASH_MISMATCH
        return {"status": "failed", "reason": reason.value, "detail": "sha256 differs", "sha256": row["sha256"]}
    stored = row[encode_format(output)]
    return {
        "status": "ok",
        "http_status": 200,
        "sha256": row["sha256"],
        "bytes": stored,
        "size_bytes": len(stored),
        "stored_sha256": hashlib.sha256(stored).hexdigest(),
        "image_format": FORMATS[encode_format(output)],
        "width_px": row["width"],
        "height_px": row["height"],
        "original_width_px": row["original_width"],
        "original_height_px": row["original_height"],
    }
