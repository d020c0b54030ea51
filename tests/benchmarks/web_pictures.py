"""Pictures of web sizes for the benchmarks: collages or crops of a corpus, 400-1600 px on the longer side, JPEG q85."""

import io
import random
from pathlib import Path

from PIL import Image, ImageDraw

LONG_SIDES_PX = (400, 1600)
QUALITY = 85
NUM_CUT_OUTS = 120


def make(folder: Path, num: int, corpus: Path | None, seed: int = 1, crops: bool = False) -> list[Path]:
    """`num` JPEGs below `folder`, those that are there already kept; 0.6 Mpx on average. crops: 60 to 100% of a picture
    of the corpus each, which are photographs, in place of collages."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index:05d}.jpg" for index in range(num)]
    missing = [(index, path) for index, path in enumerate(paths) if not path.exists()]
    if missing:
        cut_outs = _cut_outs(corpus, random.Random(seed))
        one = _crop if crops else _collage
        for index, path in missing:
            path.write_bytes(one(cut_outs, random.Random(seed * 1_000_003 + index)))
    return paths


def _cut_outs(corpus: Path | None, rng: random.Random) -> list[Image.Image]:
    if corpus is None:
        return [_drawn(rng) for _ in range(NUM_CUT_OUTS)]
    files = sorted(path for path in corpus.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
    if not files:
        raise SystemExit(f"--corpus {corpus}: holds no PNG and no JPEG")
    return [Image.open(path).convert("RGBA") for path in rng.sample(files, min(NUM_CUT_OUTS, len(files)))]


def _drawn(rng: random.Random) -> Image.Image:
    """Shapes with grain: what there is without a corpus."""
    picture = Image.effect_noise((300, 300), 60).convert("RGBA")
    draw = ImageDraw.Draw(picture)
    for _ in range(30):
        x, y, size = rng.randrange(300), rng.randrange(300), rng.randrange(8, 120)
        color = tuple(rng.randrange(256) for _ in range(3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)((x, y, x + size, y + size), fill=color)
    return picture


def _size(rng: random.Random) -> tuple[int, int]:
    low, high = LONG_SIDES_PX
    long_side = int(low * (high / low) ** rng.random())
    short_side = int(long_side * rng.uniform(0.5, 0.95))
    return (long_side, short_side) if rng.random() < 0.7 else (short_side, long_side)


def _crop(pictures: list[Image.Image], rng: random.Random) -> bytes:
    size, picture = _size(rng), rng.choice(pictures)
    share = min(picture.width / size[0], picture.height / size[1]) * rng.uniform(0.6, 1.0)
    width, height = size[0] * share, size[1] * share
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    cut = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
    return _encoded(cut)


def _collage(cut_outs: list[Image.Image], rng: random.Random) -> bytes:
    size = _size(rng)
    long_side = max(size)
    canvas = Image.new("RGB", size, tuple(rng.randrange(120, 256) for _ in range(3)))
    for _ in range(rng.randint(8, 20)):
        cut = rng.choice(cut_outs)
        scale = rng.uniform(0.2, 0.7) * long_side / max(cut.size)
        cut = cut.resize((max(1, int(cut.width * scale)), max(1, int(cut.height * scale))))
        canvas.paste(cut, (rng.randrange(-cut.width // 3, size[0]), rng.randrange(-cut.height // 3, size[1])), cut)
    return _encoded(canvas)


def _encoded(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
