"""Faces in a version's pictures, blurred as it is packed (`pack.blur_faces`); the pool keeps the pictures as they are.

Which faces: the boxes that a signal stored, so a version says by the signal's key who found them. Only pictures with a
box are encoded anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.media.decoded import DecodeLimits
from curation.media.face_blur import VERSION, FaceBlurrer
from pipelines import database
from pipelines.recipe import FaceBlur
from pipelines.yaml_place import RecipeError

BOXES = "blur_boxes"
"""Column of the plan with the boxes of each sample's picture."""
COUNT = "num_blurred_faces"
"""Column of the shards that takes its place."""


def plan_field(settings: FaceBlur | None) -> str:
    """SQL: the plan's column of boxes, where there shall be one."""
    return f", k.{database.quoted(settings.boxes)} as {BOXES}" if settings is not None else ""


@dataclass
class Faces:
    """What a plan says of the faces in its pictures."""

    num_faces: int = 0
    num_samples: int = 0
    unknown: int = 0
    """Samples in whose picture nobody looked for faces, and the first of them."""
    first_unknown: str | None = None

    def add(self, plan: pa.Table) -> None:
        """Count those of some samples, if the plan has boxes."""
        if BOXES not in plan.column_names:
            return
        faces = pc.list_value_length(plan.column(BOXES))
        self.num_faces += pc.sum(faces).as_py() or 0
        self.num_samples += pc.sum(pc.greater(faces, 0)).as_py() or 0
        self.unknown += faces.null_count
        if self.unknown and self.first_unknown is None:
            self.first_unknown = plan.column("sample_uid").filter(pc.is_null(faces))[0].as_py()


def facts(settings: FaceBlur | None, faces: Faces) -> dict[str, Any]:
    """The manifest's entry `face_blur`; nothing where no faces are blurred.

    Raises RecipeError where the boxes of a picture are not known: nobody looked for faces in it.
    """
    if settings is None:
        return {}
    if faces.unknown:
        raise RecipeError(
            f"pack.blur_faces: {faces.unknown} kept samples have no {settings.boxes} (such as {faces.first_unknown}), "
            f"so their faces are not known: give the policy the rule `{settings.boxes} is not null`"
        )
    return {
        "face_blur": {
            **settings.model_dump(),
            "version": VERSION,
            "method": "Gaussian, arXiv 2103.06191",
            "num_faces": faces.num_faces,
            "num_samples": faces.num_samples,
        }
    }


@lru_cache(maxsize=1)
def _blurrer(limits: DecodeLimits) -> FaceBlurrer:
    """This process's child, started at first use."""
    return FaceBlurrer(limits)


def blur(
    plan: pa.Table, images: Sequence[bytes], quality: int, limits: DecodeLimits
) -> tuple[pa.Table, Sequence[bytes]]:
    """The plan with the number of faces in place of the boxes, and the pictures, those with faces encoded anew.

    Raises ValueError naming the sample whose picture cannot be decoded.
    """
    made, boxes = list(images), plan.column(BOXES).to_pylist()
    digests, formats = (plan.column(name).to_pylist() for name in ("image_sha256", "image_format"))
    for row, found in enumerate(boxes):
        if found:
            decoded = _blurrer(limits).blurred(made[row], found, quality)
            if decoded.stored is None:
                uid = plan.column("sample_uid")[row].as_py()
                raise ValueError(
                    f"the faces of sample {uid} cannot be blurred: {decoded.reason}, {decoded.detail}: keep it out of "
                    "the version by a rule, or fetch it again"
                )
            made[row], formats[row] = decoded.stored, decoded.out_format
            digests[row] = hashlib.sha256(decoded.stored).hexdigest()
    for name, values in (("image_sha256", digests), ("image_format", formats)):
        plan = plan.set_column(plan.column_names.index(name), name, pa.array(values, pa.string()))
    counts = pa.array([len(found) for found in boxes], pa.int32())
    return plan.drop_columns([BOXES]).append_column(COUNT, counts), made
