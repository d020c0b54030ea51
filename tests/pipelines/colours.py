"""A captioner for tests: it looks at the picture and says its average colour, at length."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from curation.generator import Generator, Sample, Written

PROMPT = "Which colour has this picture?"


class Colours(Generator):
    """One English text a picture, in place of a network on a GPU: the stage treats both alike."""

    short_side_px: ClassVar[int | None] = 32

    def write(self, samples: Sequence[Sample]) -> list[list[Written]]:
        return [[] if each.picture is None else [Written(caption(each.picture), "en", PROMPT)] for each in samples]


class Forgetful(Colours):
    """One that loses a sample."""

    def write(self, samples: Sequence[Sample]) -> list[list[Written]]:
        return super().write(samples)[1:]


def caption(picture: np.ndarray) -> str:
    red, green, blue = picture.reshape(-1, 3).mean(axis=0)
    name = max(("red", red), ("green", green), ("blue", blue), key=lambda each: each[1])[0]
    shade = int(picture.mean()) // 16
    return f"a picture that is {name} more than anything else and of the brightness {shade} out of sixteen"
