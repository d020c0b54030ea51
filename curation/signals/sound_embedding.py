"""Embeddings of a segment's sound by a model of sounds and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyarrow as pa

from curation.av.segment_signal import DecodedSegment, SegmentSignal
from curation.scorers import SoundModelFields, embedding_array
from curation.signal import as_table


class SoundEmbedding(SoundModelFields, SegmentSignal):
    """The embedding of a segment's sound by the audio tower of a CLAP-like model.

    Column: `{name}_audio_embedding`, fixed-size list of float16, norm 1 (to the precision of float16); null without
    sound. Of the whole sound at 48 kHz, mono: what is longer than the model's window (10 s) is cut into windows of it,
    one after another and the last one up to the end, whose vectors are averaged. Unit: none. Model: as the recipe says;
    the digest of weights and preprocessing is in the key. Source: CLAP, arXiv 2211.06687, which takes a random window;
    a mean over all of them is the same in every run.
    """

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("wide",)

    def table_name(self) -> str:
        return f"{self.name}_audio_embedding"

    def writes(self) -> pa.Schema:
        return pa.schema({self.table_name(): self.embedding_type()})

    def of_segment(self, segment: DecodedSegment) -> dict[str, object]:
        return {self.table_name(): self.compute_segments([segment]).column(0)[0].as_py()}

    def compute_segments(self, segments: Sequence[DecodedSegment | None]) -> pa.Table:
        there = [each.wide if each is not None else None for each in segments]
        sounds = [None if each is None or not len(each.pcm) else each.pcm[:, 0] for each in there]
        return as_table({self.table_name(): embedding_array(*self.loaded().encode_sounds(sounds))}, self.writes())
