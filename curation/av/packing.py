"""What a packed segment holds: its bytes by modality."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from curation.media.av_decode import AvDecoder
from curation.media.av_types import Cutting
from curation.step import Step

CODECS = {"opus": "libopus", "flac": "flac"}


class PackMedia(Step):
    """Which bytes of a segment travel with a version. A modality that a segment lacks is null in its row."""

    version: ClassVar[int] = 2

    video: bool = True
    """The segment as it was cut, its sound included."""
    audio: Literal["opus", "flac", "none"] = "opus"
    """Its sound alone, in Ogg: packets as they are where the codec is this one already and nothing is missing, else
    encoded anew. It begins when the segment does, with silence where the sound begins later."""
    image: bool = True
    """The picture in its middle, JPEG; of a sound the picture that goes with it, as it was stored."""
    row_group_rows: int = Field(default=16, ge=1, le=1000)
    """Segments of a row group: what a loader reads at least to get at one of them."""


@dataclass(frozen=True)
class Packed:
    """The bytes of one segment."""

    video: bytes | None
    audio: bytes | None
    image: bytes | None


class SoundLost(RuntimeError):
    """The sound of a stored segment, which was decoded when it was cut, cannot be written."""


def packed(
    decoder: AvDecoder, body: bytes, frame: bytes | None, has_video: bool, has_audio: bool, wanted: PackMedia
) -> Packed:
    """The bytes of a segment by modality. Raises SoundLost."""
    audio = _sound(decoder, body, wanted.audio) if has_audio and wanted.audio != "none" else None
    return Packed(body if has_video and wanted.video else None, audio, frame if wanted.image else None)


def _sound(decoder: AvDecoder, body: bytes, codec: str) -> bytes:
    length_s = decoder.limits.max_duration_s
    cutting = Cutting(container="ogg", audio_codec=CODECS[codec], streams="audio")  # type: ignore[arg-type]
    outcome, (made,) = decoder.cut(body, [(0.0, length_s)], cutting)
    if made.body is None:
        raise SoundLost(f"{made.reason or outcome.reason}: {made.detail or outcome.detail}")
    return made.body
