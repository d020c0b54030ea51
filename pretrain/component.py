"""Components: the parts of a model, named in a config by import path (`use`) with their fields. No registry."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

C = TypeVar("C", bound="Component")
_IN_FOLDERS = ("model.safetensors", "config.json", "tokenizer.json")


class Component(BaseModel):
    """A part of a model: its fields are its parameters, `build` makes the torch module."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    files: ClassVar[tuple[str, ...]] = ()
    """Fields that name a file or folder of weights or tokens, or a hub's name: what these hold is in a run's key."""

    def places(self) -> list[str]:
        """What stands in its `files`."""
        return [place for name in self.files if (place := getattr(self, name)) is not None]


def import_path(component: Component) -> str:
    """What stands under `use` for this component."""
    cls = type(component)
    return f"{cls.__module__}.{cls.__qualname__}"


def to_spec(component: Component) -> dict[str, Any]:
    """The form in which a component stands in a config: `use` and all of its fields, defaults included."""
    fields = {name: getattr(component, name) for name in type(component).model_fields}
    return {"use": import_path(component), **component.model_dump(mode="json", include=set(fields))}


def files_of(part: object) -> list[str]:
    """What stands in the `files` of a component and of all components in it, in the order of their fields."""
    if isinstance(part, BaseModel):
        own = part.places() if isinstance(part, Component) else []
        return own + [place for name in type(part).model_fields for place in files_of(getattr(part, name))]
    parts = list(part.values()) if isinstance(part, dict) else list(part) if isinstance(part, tuple | list) else []
    return [place for each in parts for place in files_of(each)]


def rooted(part: Any) -> Any:
    """The same with the `files` of all components absolute where they are there; what is not is a hub's name."""
    if isinstance(part, BaseModel):
        changes = {name: rooted(getattr(part, name)) for name in type(part).model_fields}
        for name in part.files if isinstance(part, Component) else ():
            changes[name] = absolute(changes[name])
        return part.model_copy(update=changes)
    if isinstance(part, dict):
        return {name: rooted(value) for name, value in part.items()}
    return tuple(rooted(each) for each in part) if isinstance(part, tuple) else part


def absolute(place: str | None) -> str | None:
    """The absolute path of a file, or of a folder of weights or tokens; another name as it is."""
    if place is None:
        return None
    path = Path(place)
    is_there = path.is_file() or any((path / name).is_file() for name in _IN_FOLDERS)
    return str(path.resolve()) if is_there else place


def choices(base: type[Component], package: str) -> list[str]:
    """Import paths of all components of the kind `base` that stand in the modules of `package`, bases of others left
    out."""
    module = importlib.import_module(package)
    found = set()
    for info in pkgutil.iter_modules(module.__path__):
        member = importlib.import_module(f"{package}.{info.name}")
        for value in vars(member).values():
            if (
                isinstance(value, type)
                and issubclass(value, base)
                and value.__module__ == member.__name__
                and value.__name__[0] != "_"
                and not inspect.isabstract(value)
            ):
                found.add(f"{value.__module__}.{value.__qualname__}")
    return sorted(path for path in found if path != f"{base.__module__}.{base.__qualname__}")


def resolve(use: object, base: type[C], package: str) -> type[C]:
    """The class at the import path `use`. Raises ValueError, listing the valid choices, where there is none."""
    known = f"valid: {', '.join(choices(base, package))}, or the import path of any other {base.__name__}"
    if not isinstance(use, str) or "." not in use:
        raise ValueError(f"`use` must be an import path, not {use!r}; {known}")
    module_name, _, name = use.rpartition(".")
    try:
        value = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise ValueError(f"`use: {use}` cannot be imported ({error}); {known}") from error
    except AttributeError as error:
        raise ValueError(f"`use: {use}`: the module has no {name!r}; {known}") from error
    if not (isinstance(value, type) and issubclass(value, base)):
        raise ValueError(f"`use: {use}` is no {base.__name__}; {known}")
    return value


def parser(base: type[C], package: str, default: str | None = None) -> Callable[[object], C]:
    """A pydantic before-validator that turns `{use: ..., field: value}` into the component.

    `default` is the import path taken where `use` is absent.
    """

    def parse(spec: object) -> C:
        if isinstance(spec, base):
            return spec
        if not isinstance(spec, dict):
            raise ValueError(f"must be a mapping with `use` and fields, not {spec!r}")
        fields = dict(spec)
        cls = resolve(fields.pop("use", default), base, package)
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            raise ValueError("; ".join(describe(error, cls))) from error

    return parse


def optional(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function, for a part that may be absent: None stays None."""
    return lambda value: None if value is None else function(value)


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each fault: place, value, what is wrong, and the valid choices where there are any."""
    lines = []
    faults = error.errors(include_url=False)
    for fault in faults:
        if fault["type"] == "too_short" and any(_is_within(fault["loc"], other["loc"]) for other in faults):
            continue  # pydantic leaves out the items that are wrong and then finds too few
        place = ".".join(str(part) for part in _as_written(fault["loc"]))
        if not place and issubclass(model, Component):
            place = model.__name__
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = f"no such field; valid: {', '.join(_fields_at(model, fault['loc'][:-1]))}"
        value = "" if fault["type"] in ("value_error", "missing") else f" = {_short(fault['input'])}"
        lines.append(f"{place}{value}: {message}" if place else message)
    return lines


def _is_within(outer: tuple[int | str, ...], inner: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _as_written(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """In YAML a target's fields stand beside its weight, not under `target`."""
    return (*place[:2], *place[3:]) if place[:1] == ("targets",) and place[2:3] == ("target",) else place


def _fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that stands at `place` inside `model`."""
    here: Any = model
    for part in place:
        if isinstance(part, int):
            continue
        here = here.model_fields[part].annotation
        here = next((arg for arg in (here, *getattr(here, "__args__", ())) if hasattr(arg, "model_fields")), here)
    return sorted(field.alias or name for name, field in getattr(here, "model_fields", {}).items())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
