"""Steps that a recipe names by the import path of their class (`use`): signals and generators."""

from __future__ import annotations

import importlib
import inspect
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, SerializeAsAny, ValidationError

from curation.generator import Generator, generator_class
from curation.signal import Signal
from curation.step import Step, suggest

S = TypeVar("S", bound=Step)


def _import_signal(value: object) -> object:
    if isinstance(value, Signal):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("use"), str):
        raise ValueError("a signal is a mapping with `use`: the import path of its class")
    module_name, _, class_name = value["use"].rpartition(".")
    if not module_name.startswith("curation.signals."):
        choices = signal_paths()
        raise ValueError(f"use: {value['use']!r} is not below curation.signals; {suggest(value['use'], choices)}")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError):
        raise ValueError(f"use: there is no signal {value['use']!r}; {suggest(value['use'], signal_paths())}") from None
    if not (isinstance(found, type) and issubclass(found, Signal)) or inspect.isabstract(found):
        raise ValueError(f"use: {value['use']!r} is not a signal")
    return _made(found, value)


def signal_paths() -> list[str]:
    """Import paths of all signals that come with the project."""
    import pkgutil

    import curation.signals

    paths = []
    for module in pkgutil.iter_modules(curation.signals.__path__, "curation.signals."):
        members = vars(importlib.import_module(module.name)).values()
        paths += [
            f"{module.name}.{member.__name__}"
            for member in members
            if isinstance(member, type) and issubclass(member, Signal) and member.__module__ == module.name
        ]
    return sorted(paths)


def _made(cls: type[S], value: dict[str, object]) -> S:
    """Raises ValueError naming the field that is wrong."""
    try:
        return cls.model_validate({name: field for name, field in value.items() if name != "use"})
    except ValidationError as error:
        mistake = error.errors()[0]
        field = mistake.get("ctx", {}).get("field") or ".".join(map(str, mistake["loc"]))
        raise ValueError(f"{cls.__name__}{'.' if field else ''}{field}: {mistake['msg']}") from None


def _import_generator(value: object) -> object:
    if isinstance(value, Generator):
        return value
    if not isinstance(value, dict) or not isinstance(value.get("use"), str):
        raise ValueError("a generator is a mapping with `use`: the import path of its class")
    found = generator_class(value["use"])
    if inspect.isabstract(found):
        raise ValueError(f"use: {value['use']!r} is no generator: it has no method `write`")
    return _made(found, value)


UsedSignal = Annotated[SerializeAsAny[Signal], BeforeValidator(_import_signal)]
UsedGenerator = Annotated[SerializeAsAny[Generator], BeforeValidator(_import_generator)]
