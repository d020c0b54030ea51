"""Checks of signals that compare vectors of two models: both must be of one space, which no number of theirs tells."""

from __future__ import annotations

from collections.abc import Sequence

from curation.scorers import UNTRAINED, ModelFields, SoundModelFields
from curation.signal import Signal
from curation.signals.sound_picture_similarity import SoundPictureSimilarity
from pipelines.yaml_place import Places, RecipeError

Model = ModelFields | SoundModelFields


def check_spaces(signals: Sequence[Signal], where: Sequence[tuple[int | str, ...]], places: Places) -> None:
    """Raises RecipeError where a signal compares vectors that are not said to be of one space. where: the place of each
    signal in the recipe. Each column that is read must have a signal that writes it (`column_types`)."""
    writers: dict[str, object] = {name: signal for signal in signals for name in signal.writes().names}
    for position, signal in enumerate(signals):
        if not isinstance(signal, SoundPictureSimilarity):
            continue
        one, other = (writers[name] for name in signal.reads())
        if not isinstance(one, Model) or not isinstance(other, Model):
            strange = one if not isinstance(one, Model) else other
            raise RecipeError(f"{places(*where[position])}: {type(strange).__name__} is no signal of a model's vectors")
        why = _apart(one, other)
        if why is not None:
            raise RecipeError(f"{places(*where[position])}: {type(signal).__name__} compares vectors of {why}")


def _apart(one: Model, other: Model) -> str | None:
    """What keeps the vectors of two signals from being compared; None where nothing does."""
    named = f"{type(one).__name__} (model {one.model!r}) and {type(other).__name__} (model {other.model!r})"
    if one.space != other.space:
        return (
            f"{named}, which are of different spaces: {one.space!r} and {other.space!r}; say the same `space` of both"
        )
    if UNTRAINED in (one.model[: len(UNTRAINED)], other.model[: len(UNTRAINED)]):  # a round's model is not there yet
        is_one = one.model == other.model
    else:
        dims = one.loaded().embed_dim, other.loaded().embed_dim
        if dims[0] != dims[1]:
            return f"{named}, which have {dims[0]} and {dims[1]} dimensions: they are not of one space"
        is_one = one.loaded().weights_digest == other.loaded().weights_digest
    if is_one or one.space is not None:
        return None
    return (
        f"{named}, which are different models and nothing says that they share a space; where one was trained into the "
        "space of the other, say `space: NAME` of both signals"
    )
