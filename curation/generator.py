"""Generators: what writes texts about samples, beside those that came with the links: templates, captioners.

A generator is a step, so its key is its revision: class, version, fields, and, of a model, its weights (`key_extras`).
The stage `enrich` runs it on every part, cuts what it wrote to the length of a parent where it is to be sheared, and
puts it among the pool's texts with where it is from (`GENERATED`). Nothing of the texts that came with the links is
changed: they are the rows where `generator` is null.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import StringConstraints

from curation.shearing import Tokenizer
from curation.step import Step, digest

GENERATED = pa.schema(
    [
        ("generator", pa.string()),  # import path of its class; null of a text that came with a link
        ("generator_revision", pa.string()),  # first digits of its key: class, version, fields, weights
        ("prompt_hash", pa.string()),  # first digits of the SHA-256 of the prompt or template
        ("parent_text_uid", pa.string()),  # the text that it was made from, or is to stand beside
        ("is_sheared", pa.bool_()),  # whether something was cut off
        ("num_tokens", pa.int32()),  # in `tokenizer`; null where nothing is sheared
        ("parent_num_tokens", pa.int32()),
        ("tokenizer", pa.string()),
        ("generated_for", pa.string()),  # media_uid of the medium that it is about
    ]
)
"""Columns that a pool's texts have beyond their own where generators write some of them."""
DIGITS = 16
"""Of a revision or a hash of a prompt."""
Source = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]


@dataclass(frozen=True)
class Sample:
    """What a generator sees of one sample whose medium is there.

    texts: rows of the table `texts` as they came with the links, in the order of their positions, null texts left out.
    links: the same with the null texts: of a picture without a caption, all that the link tables say of it.
    picture: uint8 (height, width, 3) where the generator asks for pictures and it decodes; of a segment one near its
    middle.
    """

    sample_uid: str
    texts: Sequence[Mapping[str, Any]]
    picture: np.ndarray | None = None
    links: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Written:
    """One text that a generator wrote.

    language: BCP 47. prompt: the template or prompt as the model got it; of which the hash is stored. parent: text_uid
    of the text that it was made from; None: of the sample as a whole (the parent is then its first text in that
    language, or its first one).
    """

    text: str
    language: str | None
    prompt: str
    parent: str | None = None


class Generator(Step, ABC):
    """Base of all generators. A recipe names one by its import path, with its fields:

    enrich:
      - {use: curation.generators.templates.Templates, source: tags, columns: [category]}
      - {use: my_package.captioner.Captioner, source: captioner, shear: clip}
    """

    short_side_px: ClassVar[int | None] = None
    """Pictures are given shrunk to this shorter side, never enlarged; None: it looks at none."""

    source: Source
    """`text_source` of its texts: what rules, reports and a training run's `texts: {sources: ...}` call them."""
    shear: Tokenizer | None = None
    """A text is cut to as many tokens of this tokenizer as its parent has: written captions are longer than real ones
    and would teach another style (arXiv 2311.18765). None: it stays as it was written."""

    def reads(self) -> tuple[str, ...]:
        """Columns of the link tables (`source.columns.extra`) that it needs."""
        return ()

    def needs_model(self) -> bool:
        """Whether it runs a neural network: then it goes to workers that hold a GPU where there is one."""
        return False

    @abstractmethod
    def write(self, samples: Sequence[Sample]) -> list[list[Written]]:
        """The texts for each sample, any number. A sample's texts depend on that sample alone."""

    def import_path(self) -> str:
        """What stands under `use`."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def revision(self) -> str:
        """16 hex digits: another where anything that could change a text is another."""
        return self.key()[:DIGITS]


def prompt_hash(prompt: str) -> str:
    """16 hex digits."""
    return digest("prompt", prompt)[:DIGITS]


def generator_class(use: str) -> type[Generator]:
    """The class at an import path. Raises ValueError where there is none, or it is no generator."""
    module_name, _, name = use.replace(":", ".").rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name) if module_name else None
    except (ImportError, AttributeError) as error:
        raise ValueError(f"use: {use!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Generator)) or found is Generator:
        raise ValueError(
            f"use: {use!r} is no generator: it wants the import path of a subclass of curation.generator.Generator, "
            "such as curation.generators.templates.Templates"
        )
    return found
