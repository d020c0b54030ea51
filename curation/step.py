"""Steps: anything with parameters whose result is stored under a name that proves how it was made."""

from __future__ import annotations

import difflib
import enum
import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

_PLAIN = frozenset({type(None), bool, int, str})
"""What is its own canonical form. Not its subclasses."""


def digest(*parts: object) -> str:
    """SHA-256 (64 hex digits) of a canonical JSON form of `parts`; floats by their shortest exact spelling.

    Raises TypeError for a value that has no canonical form, so that nothing is silently left out of a key.
    """
    return hashlib.sha256(json.dumps(canonical(parts), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def canonical(value: object) -> Any:
    """JSON-able form of `value` that names the class of every model in it.

    Fields are walked one by one: `model_dump` would leave out the fields that a nested model adds to the type that its
    field declares, so two different nested signals would share one key.
    """
    if type(value) in _PLAIN:  # the many: rows of a table come here value by value
        return value
    match value:
        case None | bool() | int() | str() | float():
            return value.hex() if isinstance(value, float) else value
        case enum.Enum():
            return canonical(value.value)
        case PurePath():
            return str(value)
        case Step():
            return value.key_material()
        case BaseModel():
            return _walk(value)
        case dict():
            return {str(key): item if type(item) in _PLAIN else canonical(item) for key, item in value.items()}
        case list() | tuple():
            return [item if type(item) in _PLAIN else canonical(item) for item in value]
        case set() | frozenset():
            return sorted(canonical(item) for item in value)
    raise TypeError(f"{type(value).__name__} has no canonical form for a key: {value!r}")


def _walk(model: BaseModel, leave_out: frozenset[str] = frozenset()) -> dict[str, Any]:
    cls = type(model)
    fields = {name: canonical(getattr(model, name)) for name in cls.model_fields if name not in leave_out}
    return {"class": f"{cls.__module__}.{cls.__qualname__}", "fields": fields}


class Step(BaseModel):
    """A pure computation with parameters (its fields) and a `version` that changes whenever its results change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    not_in_key: ClassVar[frozenset[str]] = frozenset()
    """Fields that cannot change the result (a path, a device); what they point at goes into `key_extras`."""

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, values: object) -> object:
        unknown = [name for name in values if name not in cls.model_fields] if isinstance(values, dict) else []
        if unknown:
            message = "no such field; {hint}"
            raise PydanticCustomError(
                "unknown_field",
                message,
                {"field": str(unknown[0]), "hint": suggest(str(unknown[0]), list(cls.model_fields))},
            )
        return values

    def key_extras(self) -> dict[str, object]:
        """What the result depends on beyond the fields, such as the digest of a model's weights or of a word list."""
        return {}

    def key_material(self) -> dict[str, Any]:
        """Everything that the key is a digest of."""
        material = _walk(self, self.not_in_key)
        return {**material, "version": self.version, "extras": canonical(self.key_extras())}

    def key(self) -> str:
        """64 hex digits: the same for equal steps in every process, different once anything that matters differs."""
        return digest(self.key_material())

    def changed(self, **fields: object) -> Self:
        """A copy with other field values, validated."""
        return type(self).model_validate({**{name: getattr(self, name) for name in type(self).model_fields}, **fields})


def suggest(name: str, choices: Sequence[str]) -> str:
    """`did you mean X? valid: ...` for a name that is none of `choices`."""
    close = difflib.get_close_matches(name, choices, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"valid: {', '.join(sorted(choices)) or 'none'}"
