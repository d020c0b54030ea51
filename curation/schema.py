"""The two base tables of a pool, `media` and `texts`, and what their columns mean."""

from __future__ import annotations

import pyarrow as pa

LINKS = pa.schema(
    [
        ("media_uid", pa.string()),  # digest of role and canonical URL
        ("sample_uid", pa.string()),  # digest of the canonical URL
        ("role", pa.string()),  # primary: the medium that the texts describe
        ("modality", pa.string()),  # image
        ("url", pa.string()),  # as the link table has it, the first spelling seen
        ("url_canonical", pa.string()),  # what is fetched; null where the URL is refused
        ("url_reason", pa.string()),  # reason code of the refusal
        ("expected_hash", pa.string()),  # SHA-256 or MD5 in lower-case hex that the link table promises, or null
        ("held_in", pa.string()),  # JSON: where the bytes are already (`pipelines.img2dataset_folder`), or null
    ]
)
"""What ingest knows of each media item before anything is fetched."""

MEDIA = pa.schema(
    [
        ("media_uid", pa.string()),
        ("sample_uid", pa.string()),
        ("role", pa.string()),
        ("modality", pa.string()),
        ("url", pa.string()),
        ("final_url", pa.string()),  # after redirects
        ("status", pa.string()),  # ok | failed | refused
        ("reason", pa.string()),  # reason code (curation/reasons.py), null where ok
        ("detail", pa.string()),  # free text, bounded
        ("http_status", pa.int32()),
        ("content_type", pa.string()),  # as the server claims
        ("consent", pa.string()),  # what robots.txt, ai.txt and tdmrep.json of the last host said; null if not asked
        ("etag", pa.string()),  # as the server gave it with these bytes, for `tamis run --refresh`
        ("last_modified", pa.string()),  # the same
        ("replaced_sha256", pa.string()),  # of the bytes as they came before a refresh found others, or none
        ("size_bytes", pa.int64()),  # of `bytes`; where those are null, of the bytes as they came
        ("sha256", pa.string()),  # of the bytes as they came
        ("stored_sha256", pa.string()),  # of `bytes`: another than sha256 where the recipe had them encoded anew
        ("image_format", pa.string()),  # of `bytes`, by content: PNG, JPEG, WEBP, GIF
        ("width_px", pa.int32()),  # of `bytes`, after EXIF orientation
        ("height_px", pa.int32()),
        ("original_width_px", pa.int32()),  # as it came, after EXIF orientation
        ("original_height_px", pa.int32()),
        ("num_frames", pa.int32()),
        ("has_alpha", pa.bool_()),
        ("bytes", pa.binary()),  # the encoded medium as the recipe stores it, null unless ok
    ]
)
"""One row for each media item of the pool, whatever became of it."""

OUTCOME = ("media_uid", "status", "reason", "sha256", "stored_sha256", "width_px", "height_px")
"""What later steps depend on of a download: these columns give a media part its identity, detail and headers do not."""

TEXTS = pa.schema(
    [
        ("text_uid", pa.string()),  # digest of canonical URL and text
        ("sample_uid", pa.string()),
        ("text", pa.string()),  # as the link table has it
        ("text_source", pa.string()),  # the column it came from
        ("language_claimed", pa.string()),  # BCP 47, the first claim; null where the link table claims nothing
        ("languages_claimed", pa.list_(pa.string())),  # all claims for this very text, sorted
        ("position", pa.int32()),  # order of first appearance among the texts of its sample
    ]
)
"""One row for each text of the pool (a link without a text has one with a null text); link tables may add columns."""
