"""`download` of a recipe; in a file of its own, so that the workers that download need no more of a recipe."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

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

    outage_links: int = Field(default=20, ge=0)
    """A run that asked for at least so many links and reached (nearly) none ends red, as an outage, and the next run
    asks for them again. Fewer may all be of one host that is down, which says nothing about the others. 0: never."""
    outage_share: float = Field(default=0.95, gt=0, le=1)
    """Share of these links that must have failed on the way to their host. Not all: a mirror near by may still have
    answered, or a link that was fetched before the line went. Dead hosts alone keep far less of a crawl away."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.engine == "img2dataset" and not self.allow_unguarded:
            raise ValueError(
                "engine: img2dataset has no address guard, no byte limit and no isolated decoder; "
                "say `allow_unguarded: true` beside it, or take `engine: tamis`"
            )
        return self
