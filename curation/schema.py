"""The base tables of a pool, `media` and `texts`, those of an evaluation, and what their columns mean."""

from __future__ import annotations

import pyarrow as pa

LINKS = pa.schema(
    [
        ("media_uid", pa.string()),  # digest of role and canonical URL
        ("sample_uid", pa.string()),  # digest of the canonical URL
        ("role", pa.string()),  # primary: the medium that the texts describe; picture: the one beside a sound
        ("modality", pa.string()),  # as the recipe has it: image, video, audio, av (video or audio)
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
        ("modality", pa.string()),  # image, video or audio; of what is not there as the recipe has it
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
        ("image_format", pa.string()),  # of `bytes`, by content: PNG, JPEG, WEBP, GIF; null of video and audio
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

SEGMENTS = pa.schema(
    [
        *MEDIA,
        ("source_uid", pa.string()),  # media_uid of the medium that it is cut from
        ("start_s", pa.float64()),  # where it begins in the source; of a copy, its key frame
        ("end_s", pa.float64()),  # as decided
        ("cut_mode", pa.string()),  # copy | exact
        ("duration_s", pa.float64()),
        ("container", pa.string()),  # FFmpeg's demuxer
        ("video_codec", pa.string()),
        ("audio_codec", pa.string()),
        ("frame_rate_hz", pa.float64()),
        ("sample_rate_hz", pa.int32()),
        ("num_channels", pa.int32()),
        ("picture_uid", pa.string()),  # of a sound: media_uid of the picture that goes with it; null without one
        ("frame", pa.binary()),  # for signals of pictures: one near its middle, JPEG; of a sound the one beside it
        ("picture_track", pa.binary()),  # figures of its frames: `curation.av.picture_track`; null where not looked at
        ("motion_track", pa.binary()),
        ("subtitles", pa.list_(pa.struct([  # of the source's own text tracks, those that lie in it; from its start
            ("start_s", pa.float64()), ("end_s", pa.float64()), ("text", pa.string()), ("language", pa.string()),
        ]))),
    ]
)  # fmt: skip
"""`media` of a pool of video and audio: one row for each segment, and one for each source that has none."""
UNSEEN = ("frame", "picture_track", "motion_track", "subtitles")
"""Columns of segments that no rule reads."""

SEGMENT_TEXTS = pa.schema(
    [
        *TEXTS,
        ("source_text_uid", pa.string()),  # text_uid in the pool; null of a subtitle from within the medium
        (
            "text_start_s",
            pa.float64(),
        ),  # when it is said, from the segment's start; null: it is about all of it
        ("text_end_s", pa.float64()),
    ]
)
"""`texts` of such a pool: each text of the source on each of its segments, subtitles on the segments they lie in."""

FIGURES = pa.schema(
    [("run", pa.string()), ("version", pa.string()), ("suite", pa.string()), ("direction", pa.string()),
     ("metric", pa.string()), ("language", pa.string()), ("value", pa.float64()), ("lo", pa.float64()),
     ("hi", pa.float64()), ("chance", pa.float64()), ("n", pa.int64()), ("num_candidates", pa.int64())]
)  # fmt: skip
"""version: what was evaluated on. direction: `text_to_image` ..., null where there is none. language: null for all of a
suite. lo, hi: 95% interval of a bootstrap over samples. chance: what a model that knows nothing gets."""
OUTCOMES = pa.schema(
    [("run", pa.string()), ("version", pa.string()), ("suite", pa.string()), ("direction", pa.string()),
     ("measure", pa.string()), ("item", pa.string()), ("cluster", pa.string()), ("languages", pa.list_(pa.string())),
     ("value", pa.float64())]
)  # fmt: skip
"""measure: `rank` (of the best positive, from 1), or the metric that is the mean of the values. item: the query, a
text or the uid of a sample. cluster: uid of the sample that the query belongs to; the bootstrap draws these."""
FORGETTING = pa.schema(
    [("run", pa.string()), ("stage", pa.string()), ("number", pa.int64()), ("stage_run", pa.string()),
     ("version", pa.string()), ("learned_in", pa.string()), ("suite", pa.string()), ("direction", pa.string()),
     ("metric", pa.string()), ("value", pa.float64()), ("lo", pa.float64()), ("hi", pa.float64()),
     ("chance", pa.float64()), ("change", pa.float64()), ("change_lo", pa.float64()), ("change_hi", pa.float64())]
)  # fmt: skip
"""One cell of a forgetting matrix and one figure: the model after `stage` (number 1 ...) on `version`. run: of the last
stage. learned_in: the stage that trained on that version, null if none did; change: what has come of the figure since
then, null before."""
