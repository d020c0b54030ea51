"""Read the pictures, captions and spoken captions of the unpacked Tux Paint stamps.

A stamp is NAME.png with NAME.txt: the first line is the English caption, the others `lang_REGION@variant.utf8=caption`.
NAME_desc.ogg is the English caption spoken, NAME_desc_LANG.ogg another; NAME.ogg is the sound of what is shown (of
symbols it is their name, spoken, and no such sound). Stamps drawn as SVG only, and the few without a
caption file (mirror images), are left out.
"""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from package import STAMPS
from picture import Picture, join_families
from PIL import Image

CAPTION_LINE = re.compile(r"^([A-Za-z]{2,3}(?:_[A-Z]{2})?(?:@[a-z]+)?)\.utf8=(.*)$")
AUDIO_NAME = re.compile(r"^(?P<stamp>.+)_desc(?:_(?P<tag>[a-z]{2,3}(?:_[A-Z]{2})?(?:@[a-z]+)?))?$")
# POSIX variants that are not BCP 47 subtags as they stand (registry: IANA language-subtag-registry).
VARIANTS = {"latin": "Latn", "cyrillic": "Cyrl", "devanagari": "Deva"}

# Two stamps are alike where their thumbnails, on white, differ on average by less than this share of their contrast
# (standard deviation, of the fainter: plain differences would join all pale drawings). Looking at the pairs: 0.25 joins
# b and d, stop lights, sad and happy faces, bass and treble clefs; 0.3 begins to join fruits, coins and cymbals.
ALIKE_SHARE_OF_CONTRAST = 0.25
THUMBNAIL_PX = 24


def bcp47(locale: str) -> str:
    """BCP 47 tag of a POSIX locale name: pt_BR -> pt-BR, sr@latin -> sr-Latn, ca@valencia -> ca-valencia."""
    language, _, variant = locale.partition("@")
    language = language.replace("_", "-")
    return f"{language}-{VARIANTS.get(variant, variant)}" if variant else language


def read_captions(path: Path) -> dict[str, str]:
    """{BCP 47 tag: caption} of one caption file; empty captions are left out."""
    first, *others = path.read_text(encoding="utf-8").splitlines() or [""]
    captions = {"en": first.strip()}
    for line in others:
        if match := CAPTION_LINE.match(line):
            captions[bcp47(match[1])] = match[2].strip()
    return {tag: text for tag, text in captions.items() if text}


def family_of(name: str) -> str:
    """What a stamp shows, told from its name: dreydl-nun and dreydl-hay, fireman240a in two folders, x and x_mirror,
    and the forms of one letter are each one family."""
    folder, _, base = name.rpartition("/")
    stem = base.lower().removesuffix("_mirror").split("-")[0]
    stem = re.sub(r"_(filled|outline)$", "", stem)
    stem = re.sub(r"\d+[a-z]?$", "", stem).strip("_") or base.lower()
    if folder.startswith("symbols/alphabets/"):
        return f"letter/{'asl/' if '/asl' in folder else ''}{stem}"
    return stem if len(stem) > 1 else f"{folder}/{stem}"


def thumbnail(data: bytes) -> NDArray[np.float32]:
    """[THUMBNAIL_PX, THUMBNAIL_PX, 3] in [0, 1], alpha composed on white, aspect ratio not kept."""
    with Image.open(io.BytesIO(data)) as image:
        rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    small = Image.alpha_composite(white, rgba).convert("RGB").resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255.0


def alike_pairs(pictures: list[Picture]) -> list[tuple[str, str]]:
    """Pairs of names whose pictures look alike, as they are or with one mirrored."""
    thumbs = np.stack([thumbnail(picture.data) for picture in pictures])
    flat, mirrored = thumbs.reshape(len(thumbs), -1), thumbs[:, :, ::-1].reshape(len(thumbs), -1)
    contrast = flat.std(1)
    pairs = []
    for i in range(len(pictures) - 1):
        apart = np.minimum(np.abs(flat[i + 1 :] - flat[i]).mean(1), np.abs(flat[i + 1 :] - mirrored[i]).mean(1))
        near = np.flatnonzero(apart < ALIKE_SHARE_OF_CONTRAST * np.minimum(contrast[i + 1 :], contrast[i]))
        pairs += [(pictures[i].name, pictures[i + 1 + int(j)].name) for j in near]
    return pairs


def read_stamps(package: Path) -> list[Picture]:
    """All stamps that have a PNG file and a caption, by name. Raises FileNotFoundError where there are none."""
    root = package / STAMPS
    spoken: dict[str, dict[str, Path]] = {}
    for path in sorted([*root.rglob("*.ogg"), *root.rglob("*.wav")]):
        if match := AUDIO_NAME.match(path.relative_to(root).with_suffix("").as_posix()):
            spoken.setdefault(match["stamp"], {})[bcp47(match["tag"] or "en")] = path
    pictures = []
    for path in sorted(root.rglob("*.png")):
        name, text = path.relative_to(root).with_suffix("").as_posix(), path.with_suffix(".txt")
        captions = read_captions(text) if text.exists() else {}
        if captions:
            category, audio = name.rpartition("/")[0], spoken.get(name, {})
            effect: Path | None = path.with_suffix(".ogg")
            if effect is not None and (category.startswith("symbols") or not effect.exists()):
                effect = None
            pictures.append(Picture(name, category, family_of(name), path.read_bytes(), captions, audio, effect))
    if not pictures:
        raise FileNotFoundError(f"no stamps with captions under {root}")
    family = join_families(pictures, alike_pairs(pictures))
    return [dataclasses.replace(picture, family=family[picture.name]) for picture in pictures]
