"""Draw pictures with captions, for tests and for machines that cannot have the Debian package.

Shapes in 10 kinds, 11 colours and 3 sizes on 7 backgrounds, one of them transparent, with captions in nine languages:
2,100 different captions a language, whose words stand for what is seen, so that a small model can learn from them. The
colours shade, the background is blotched and the shape is moved and turned, so that two pictures with the same caption
are not near-duplicates. A family is one colour of one shape: the held-out pictures pair words never seen together.
"""

import io
import itertools
import math

import numpy as np
from keyed import between, number, pick, ranked
from numpy.typing import NDArray
from picture import Picture
from PIL import Image, ImageDraw
from words import COLOURS, SHAPES, SIZES, Subject, captions

RGB = {
    "red": (214, 32, 36),
    "green": (34, 150, 60),
    "blue": (36, 74, 206),
    "yellow": (245, 214, 30),
    "orange": (242, 130, 22),
    "purple": (122, 44, 158),
    "pink": (246, 146, 188),
    "brown": (122, 74, 34),
    "black": (18, 18, 18),
    "grey": (132, 132, 132),
    "white": (250, 250, 250),
}
BACKGROUNDS = (None, "white", "black", "yellow", "blue", "green", "grey")
RADIUS = {"small": (0.13, 0.18), "medium": (0.25, 0.30), "large": (0.39, 0.46)}  # share of the shorter side
SIDES_PX = (96, 128, 160, 192, 224)
OVERSAMPLING = 2  # drawn so many times larger and shrunk, for smooth edges
BLOTCHES = 5  # the background's brightness is noise on a grid of so many points a side

Point = tuple[float, float]


def subjects() -> list[Subject]:
    """All that can be drawn, in a fixed order: no shape on a background of its own colour, no white on transparent."""
    return [
        Subject(colour, shape, size, background)
        for colour, shape, size, background in itertools.product(COLOURS, SHAPES, SIZES, BACKGROUNDS)
        if colour != (background or "white")
    ]


def _turn(points: list[Point], angle: float) -> list[Point]:
    cos, sin = math.cos(angle), math.sin(angle)
    return [(x * cos - y * sin, x * sin + y * cos) for x, y in points]


def _polar(corners: int, inner: float = 1.0) -> list[Point]:
    """Corners on the unit circle, one at the top; with `inner`, every second one at that radius."""
    radius = (1.0, inner)
    angles = [2 * math.pi * i / corners - math.pi / 2 for i in range(corners)]
    return [(radius[i % 2] * math.cos(a), radius[i % 2] * math.sin(a)) for i, a in enumerate(angles)]


def _heart() -> list[Point]:
    steps = [2 * math.pi * i / 72 for i in range(72)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 17)
        for t in steps
    ]


# Corners in a box of about [-1, 1], y downwards.
OUTLINES: dict[str, list[Point]] = {
    "circle": _polar(72),
    "ring": _polar(72),
    "moon": _polar(72),
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": _polar(3),
    "star": _polar(10, 0.42),
    "heart": _heart(),
    "cross": [
        (-0.28, -1), (0.28, -1), (0.28, -0.28), (1, -0.28), (1, 0.28), (0.28, 0.28),
        (0.28, 1), (-0.28, 1), (-0.28, 0.28), (-1, 0.28), (-1, -0.28), (-0.28, -0.28),
    ],
    "diamond": [(0, -1), (0.6, 0), (0, 1), (-0.6, 0)],
    "arrow": [(-1, -0.22), (0.15, -0.22), (0.15, -0.62), (1, 0), (0.15, 0.62), (0.15, 0.22), (-1, 0.22)],
}  # fmt: skip
HOLES: dict[str, list[Point]] = {
    "ring": [(0.6 * x, 0.6 * y) for x, y in _polar(72)],
    "moon": [(0.82 * x + 0.42, 0.82 * y) for x, y in _polar(72)],
}
# How far each may be turned, radians: a square turned by 45 degrees is a diamond, and an upside-down heart is not one.
TURN = dict.fromkeys(SHAPES, 0.3) | {"star": math.pi, "arrow": math.pi, "moon": math.pi, "diamond": 0.2}


def mask(shape: str, size: tuple[int, int], radius: float, *key: object) -> Image.Image:
    """The shape in white on black ("L"), moved and turned by `key`, wholly inside a picture of `size` pixels."""
    width, height = (side * OVERSAMPLING for side in size)
    r = radius * min(width, height)
    centre = (between(r, width - r, *key, "x"), between(r, height - r, *key, "y"))
    angle = between(-TURN[shape], TURN[shape], *key, "turn")
    image = Image.new("L", (width, height), 0)
    draw = ImageDraw.Draw(image)
    for points, colour in ((OUTLINES[shape], 255), (HOLES.get(shape), 0)):
        if points:
            draw.polygon([(centre[0] + r * x, centre[1] + r * y) for x, y in _turn(points, angle)], fill=colour)
    return image.resize(size, Image.Resampling.BOX)


def shading(size: tuple[int, int], points: int, depth: float, *key: object) -> NDArray[np.float32]:
    """Smooth brightness factors [height, width, 1] in about [1 - depth, 1 + depth / 4], from a grid of keyed values."""
    grid = [unit * 255 / 2**64 for unit in (number(*key, i) for i in range(points * points))]
    coarse = Image.fromarray(np.array(grid, dtype=np.float32).reshape(points, points))
    fine = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
    return (1.0 + depth * (1.25 * fine / 255.0 - 1.0))[:, :, None]


def render(subject: Subject, *key: object) -> bytes:
    """PNG bytes: RGBA where the background is transparent, else RGB."""
    size = (pick(SIDES_PX, *key, "width"), pick(SIDES_PX, *key, "height"))
    shape = mask(subject.shape, size, between(*RADIUS[subject.size], *key, "radius"), *key)
    colour = np.array(RGB[subject.colour], dtype=np.float32) * shading(size, 2, 0.35, *key, "shade")
    cover = np.asarray(shape, dtype=np.float32)[:, :, None] / 255.0
    if subject.background is None:
        pixels = np.concatenate([colour, 255.0 * cover], axis=2)
    else:
        behind = np.array(RGB[subject.background], dtype=np.float32)
        # near black a factor shows nothing: lift it first, so that the blotches are there too
        behind = np.maximum(behind, 60.0) * shading(size, BLOTCHES, 0.45, *key, "blotch")
        pixels = cover * colour + (1.0 - cover) * behind
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def draw_pictures(count: int, seed: str = "0") -> list[Picture]:
    """`count` pictures, by name; the first n of a seed are the same whatever `count`, and all subjects come in turn."""
    order = ranked(map(str, range(len(subjects()))), seed, "subject")
    known = subjects()
    pictures = []
    for i in range(count):
        subject = known[int(order[i % len(order)])]
        name, family = f"drawn/{i:05d}", f"{subject.colour} {subject.shape}"
        data = render(subject, seed, i)
        pictures.append(Picture(name, f"shapes/{subject.shape}", family, data, captions(subject)))
    return pictures
