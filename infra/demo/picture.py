"""What a source of pictures yields, and which pictures must not be told apart by a train/val split."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Picture:
    """One picture with its captions.

    name: unique in the corpus.  category: a topic, for reports.  family: pictures of one family look alike or mean the
    same, and fall on the same side of the split.  data: the bytes of a PNG file.  captions: {BCP 47 tag: caption}.
    audio: {BCP 47 tag: file with the spoken caption}.  effect: file with the sound of what is shown (a bark, a bell).
    """

    name: str
    category: str
    family: str
    data: bytes
    captions: Mapping[str, str]
    audio: Mapping[str, Path] = field(default_factory=dict)
    effect: Path | None = None


class Groups:
    """Names joined into groups (union-find); a group goes by its smallest name."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        root = name
        while (parent := self._parent.setdefault(root, root)) != root:
            root = parent
        while name != root:
            self._parent[name], name = root, self._parent[name]
        return root

    def join(self, a: str, b: str) -> None:
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low


def join_families(pictures: Sequence[Picture], alike: Sequence[tuple[str, str]] = ()) -> dict[str, str]:
    """{picture name: family}, where families that share a file byte for byte, or a pair of `alike` names, are one."""
    groups = Groups()
    first_with: dict[bytes, str] = {}
    family = {picture.name: picture.family for picture in pictures}
    for picture in pictures:
        content = hashlib.sha256(picture.data).digest()
        groups.join(first_with.setdefault(content, picture.family), picture.family)
    for a, b in alike:
        groups.join(family[a], family[b])
    return {name: groups.find(own) for name, own in family.items()}
