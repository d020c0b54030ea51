"""One row of `media`: what a link gave, looked at in a limited child."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from curation.media.decode import Decoded, DecodeLimits, Decoder
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


def quarantine(settings: Download, fatal: Mapping[str, tuple[str, str | None]]) -> None:
    """Let this process's decoders answer for bytes with these SHA-256 with the reason and detail given, unseen."""
    of_av = {sha256: each for sha256, each in fatal.items() if each[0].startswith("av.")}
    if of_av:
        from pipelines.av_row import quarantine_av  # as in `_looked_at_av`

        quarantine_av(settings.av, of_av)
    known = decoder(settings.decode, settings.image).fatal
    for sha256 in fatal.keys() - of_av.keys():
        known[sha256] = Decoded(reason=fatal[sha256][0], detail=fatal[sha256][1])


def unfetched_row(link: dict[str, Any]) -> dict[str, Any]:
    """The row of a link that is not asked for because its URL is refused; and what all rows begin with."""
    row: dict[str, Any] = dict.fromkeys(_NAMES)
    row |= {name: link[name] for name in ("media_uid", "sample_uid", "role", "modality", "url")}
    return row | {"status": "refused", "reason": link["url_reason"]}


def fetched_row(link: dict[str, Any], fetched: Fetched, settings: Download) -> dict[str, Any]:
    """The row of a link that the fetcher is done with; takes the body."""
    return fetched_rows([link], [fetched], settings)[0]


def fetched_rows(
    links: Sequence[dict[str, Any]], fetched: Sequence[Fetched], settings: Download
) -> list[dict[str, Any]]:
    """`fetched_row` of each; the pictures among them are decoded together, which costs each of them less."""
    is_picture = [_has_body(each) and link["modality"] == "image" for link, each in zip(links, fetched, strict=True)]
    found = [
        (_about(link, each), each.num_bytes(), _differs(link, each)) for link, each in zip(links, fetched, strict=True)
    ]
    pictures = looked_at(
        [(each.take_body() or b"", each.sha256) for each, is_one in zip(fetched, is_picture, strict=True) if is_one],
        settings,
    )
    rows = []
    for (row, size, differs), link, each, is_one in zip(found, links, fetched, is_picture, strict=True):
        if is_one:
            row |= pictures.pop(0)
        elif _has_body(each):
            row |= _looked_at_av(each, link["modality"], settings)
        if differs is not None:
            reason = Reason.POLICY_HASH_MISMATCH.value
            row |= {"status": "failed", "reason": reason, "detail": f"{differs} differs"}
            row |= {"bytes": None, "stored_sha256": None, "size_bytes": size}
        if row["detail"]:
            row["detail"] = row["detail"][:MAX_DETAIL_CHARS]
        rows.append(row)
    return rows


def _has_body(fetched: Fetched) -> bool:
    return fetched.status == "ok" and not fetched.is_unchanged


def _about(link: dict[str, Any], fetched: Fetched) -> dict[str, Any]:
    """The row as far as the fetcher knows it."""
    row = unfetched_row(link) | {
        "final_url": fetched.final_url,
        "status": UNCHANGED if fetched.is_unchanged else fetched.status,
        "reason": fetched.reason,
        "detail": fetched.detail,
        "http_status": fetched.http_status,
        "content_type": fetched.content_type,
        "consent": fetched.consent,
        "sha256": fetched.sha256,
    }
    return row | {"etag": fetched.etag, "last_modified": fetched.last_modified} if _has_body(fetched) else row


def _differs(link: dict[str, Any], fetched: Fetched) -> str | None:
    """By which digest the body differs from what the list promised."""
    promised = link["expected_hash"]
    return None if promised is None or not _has_body(fetched) else expected_digest_differs(fetched, promised)


def _looked_at_av(fetched: Fetched, modality: str, settings: Download) -> dict[str, Any]:
    from pipelines.av_row import looked_at_av  # numpy and more, which workers that fetch pictures do without

    return looked_at_av(fetched, modality, settings.av)


def looked_at(bodies: Sequence[tuple[bytes, str | None]], settings: Download) -> list[dict[str, Any]]:
    """Columns of pictures, their bytes as they are stored among them; each fully decoded once, so that a truncated
    picture is found here. bodies: with the SHA-256 of each."""
    if not bodies:
        return []
    seen = decoder(settings.decode, settings.image).convert_several([body for body, _ in bodies])
    return [_columns(each, *body) for each, body in zip(seen, bodies, strict=True)]


def _columns(seen: Decoded, body: bytes, sha256: str | None) -> dict[str, Any]:
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
