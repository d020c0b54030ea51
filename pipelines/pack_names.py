"""Names that a version's rows and their texts have of their own, which no column that travels with them can take."""

from __future__ import annotations

from collections.abc import Collection

OF_SAMPLES = frozenset(
    ["image", "video", "audio", "image_sha256", "media_sha256", "has_video", "has_audio", "has_text", "texts",
     "position", "blur_boxes", "num_blurred_faces"]
)  # fmt: skip
"""Those that are no columns of media (these a version has in any case), and what packing itself calls its columns."""
OF_TEXTS = frozenset(["text_uid", "text", "language", "languages"])
OF_SOURCED_TEXTS = OF_TEXTS | {"source"}
"""Where generators wrote texts, or there are segments."""
OF_TIMED_TEXTS = OF_SOURCED_TEXTS | {"start_s", "end_s"}


def own_name(kind: int | str, name: str, columns: Collection[str]) -> str | None:
    """What is wrong with a column that is to travel, if the version's own would hide it.

    kind: `columns` or `text_columns` of `pack`. columns: names of all columns of the store.
    """
    if kind == "columns" and name in OF_SAMPLES:
        return f"the rows of a version have {name!r} of their own: rename the column of the link table, or leave it out"
    if kind == "text_columns" and name in _of_texts(columns):
        return f"the texts of a version have {name!r} of their own: leave it out"
    return None


def _of_texts(columns: Collection[str]) -> frozenset[str]:
    if "source_uid" in columns:
        return OF_TIMED_TEXTS
    return OF_SOURCED_TEXTS if "generated_for" in columns else OF_TEXTS
