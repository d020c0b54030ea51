"""`download` of a recipe; in a file of its own, so that the workers that download need no more of a recipe."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from curation.media.av_types import AvLimits
from curation.media.decode import DecodeLimits
from curation.media.image_output import ImageOutput
from curation.step import Step
from pipelines.fetch_options import FetchOptions


class Download(Step):
    """Limits on what is fetched and decoded, and what is stored of it."""

    fetch: FetchOptions = FetchOptions()
    decode: DecodeLimits = DecodeLimits()
    av: AvLimits = AvLimits()
    """Of video and audio; the stages `download`, `segment` and `score` decode within them."""
    image: ImageOutput = ImageOutput()
    engine: Literal["tamis", "img2dataset"] = "tamis"
    """img2dataset: its `Downloader` fetches and resizes, for those who must match an older corpus bit for bit."""
    allow_unguarded: bool = False
    """Has to be set for `engine: img2dataset`, which connects to private addresses, opens `file:` URLs, reads without a
    limit and decodes in the worker's own process."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.engine == "img2dataset" and not self.allow_unguarded:
            raise ValueError(
                "engine: img2dataset has no address guard, no byte limit and no isolated decoder; "
                "say `allow_unguarded: true` beside it, or take `engine: tamis`"
            )
        return self
