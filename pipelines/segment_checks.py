"""Checks of a recipe's segments, with the place in the YAML of every mistake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from curation.av.cutting_up import SegmentOptions
from curation.av.segment_signal import SegmentSignal
from curation.signals.media_fingerprint import MediaFingerprint
from curation.step import suggest
from pipelines.yaml_place import Places, RecipeError

if TYPE_CHECKING:
    from pipelines.recipe import Recipe

MAX_BODY_BYTES = (1 << 31) - (1 << 20)
"""Of one medium: a value of a Parquet column of bytes."""


def check_segments(recipe: Recipe, places: Places) -> None:
    """Raises RecipeError where the source's modality, the stage `segment`, the signals and the searches do not fit."""
    modality, options = recipe.source.modality, recipe.segment
    if recipe.source.columns.picture is not None and modality not in ("audio", "av"):
        raise RecipeError(
            f"{places('source', 'columns', 'picture')}: a picture beside each medium is for sounds; say "
            f"`source: {{modality: audio}}` (value of modality: {modality!r}), or leave `picture` out"
        )
    if options is None:
        if modality != "image":
            raise RecipeError(
                f"{places('source', 'modality')}: {modality!r} needs the field `segment`: how a medium becomes "
                "segments, such as `segment: {by: shots}`, `{by: speech}` or `{by: whole}`"
            )
        _refuse_what_needs_segments(recipe, places)
        return
    if modality == "image":
        raise RecipeError(
            f"{places('segment')}: pictures are not cut into segments; say `source: {{modality: video}}` "
            "(or audio, or av: either), or leave `segment` out"
        )
    _check_options(recipe, places)


def _refuse_what_needs_segments(recipe: Recipe, places: Places) -> None:
    lists = [(("signals",), recipe.signals)]
    lists += [(("rounds", r, "signals"), each.signals) for r, each in enumerate(recipe.rounds)]  # type: ignore[misc]
    for where, signals in lists:
        for position, signal in enumerate(signals):
            if isinstance(signal, SegmentSignal):
                raise RecipeError(
                    f"{places(*where, position)}: {type(signal).__name__} is a signal of segments, but the recipe "
                    "makes none; say `source: {modality: video}` (or audio, or av) and `segment: {by: shots}`"
                )
    if recipe.duplicates.segments is not None:
        raise RecipeError(f"{places('duplicates', 'segments')}: the recipe makes no segments; see the field `segment`")


def _check_options(recipe: Recipe, places: Places) -> None:
    options, fetch = recipe.segment, recipe.download.fetch
    assert options is not None
    if options.by == "shots" and recipe.source.modality == "audio":
        raise RecipeError(f"{places('segment', 'by')}: sound has no shots (value: 'shots'); valid: speech, whole")
    if options.streams == "audio" and recipe.source.modality == "video":
        raise RecipeError(
            f"{places('segment', 'streams')}: the source is to have pictures, and its segments none (value: 'audio'); "
            "say `source: {modality: audio}`, or leave `streams` out"
        )
    _check_models(options, places)
    for name in options.subtitles:
        if name not in recipe.source.columns.text:
            raise RecipeError(
                f"{places('segment', 'subtitles')}: {name!r} is no text column of the source; "
                f"{suggest(name, recipe.source.columns.text)}"
            )
    if fetch.max_bytes > MAX_BODY_BYTES:
        raise RecipeError(
            f"{places('download', 'fetch', 'max_bytes')}: at most {MAX_BODY_BYTES} bytes of one medium can be stored "
            f"(value: {fetch.max_bytes})"
        )
    if recipe.download.engine != "tamis":
        raise RecipeError(
            f"{places('download', 'engine')}: img2dataset fetches pictures only (value: {recipe.download.engine!r}); "
            "valid: tamis"
        )
    if recipe.pack.blur_faces is not None:
        raise RecipeError(f"{places('pack', 'blur_faces')}: faces are blurred in pictures, not in video; leave it out")
    signals = recipe.signals_until(len(recipe.all_rounds()) - 1)
    if recipe.duplicates.segments is not None and not any(isinstance(each, MediaFingerprint) for each in signals):
        raise RecipeError(
            f"{places('duplicates', 'segments')}: copies of segments are found by their fingerprints, which needs the "
            "signal curation.signals.media_fingerprint.MediaFingerprint"
        )


def _check_models(options: SegmentOptions, places: Places) -> None:
    """The models of the shots are loaded here, so that a missing one is told before any worker starts."""
    shots = options.shots
    for name, part in (("network", shots.network), ("stitching", shots.stitching)):
        if part is None:
            continue
        if options.by != "shots":
            raise RecipeError(
                f"{places('segment', 'shots', name)}: shots are looked for by `segment: {{by: shots}}` only (value of "
                f"by: {options.by!r}); leave `{name}` out"
            )
        try:
            part.loaded()
        except ValueError as error:
            raise RecipeError(f"{places('segment', 'shots', name)}: {error}") from error
