"""YAML with places: errors that say in which line of which file the offending value stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from curation.yaml_keys import refuse_repeated_keys

MAX_BYTES = 1_000_000
"""A recipe larger than this is no recipe; the bound keeps a hostile file from filling the memory."""
Model = TypeVar("Model", bound=BaseModel)


class RecipeError(ValueError):
    """A recipe that cannot be run: file, line, place, value and what would be valid."""


class Places:
    """Where each value of a YAML file stands."""

    def __init__(self, path: Path, root: yaml.Node | None) -> None:
        self.path, self.root = path, root

    def length(self, *location: int | str) -> int:
        """Number of items of the list at `location`; 0 where the file has no list there."""
        node = self.root
        for step in location:
            if isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == str(step)), None)
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return 0
        return len(node.value) if isinstance(node, yaml.SequenceNode) else 0

    def __call__(self, *location: int | str) -> str:
        """`recipe.yaml:12: policy[2].keep`; the line is that of the deepest step that the file has."""
        node, line, words = self.root, 0, ""
        for step in location:
            words += f"[{step}]" if isinstance(step, int) else f".{step}" if words else str(step)
            child = None
            if isinstance(node, yaml.MappingNode):
                key, child = next(((key, value) for key, value in node.value if key.value == str(step)), (None, None))
                line = key.start_mark.line if key else line
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                child = node.value[step]
                line = child.start_mark.line
            node = child
        return f"{self.path}:{line + 1}: {words or 'recipe'}"


def load(path: Path, model: type[Model]) -> tuple[Model, Places]:
    """Read a YAML file as `model`. Raises RecipeError with one line for each mistake."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise RecipeError(f"{path}: larger than {MAX_BYTES} bytes")
        text = data.decode("utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: cannot be read: it is not UTF-8 ({error.reason}): is it a YAML file?") from error
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
        places = Places(path, root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        said = ", ".join(each for each in (error.context, error.problem) if each)
        raise RecipeError(f"{path}{line}: is not valid YAML: {said}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{path}: is not valid YAML: {error}") from error
    try:
        refuse_repeated_keys(root, path)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    if not isinstance(values, dict):
        hint = ": rules stand under `policy:`" if isinstance(values, list) else ""
        raise RecipeError(f"{path}: a file of fields (`name: value`) is wanted, this is {type(values).__name__}{hint}")
    try:
        return model.model_validate(values), places
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(places, mistake) for mistake in error.errors())) from error


def _explain(places: Places, mistake: Any) -> str:
    location = without_tags(mistake["loc"])
    value = mistake.get("input")
    shown = f" (value: {value!r})" if isinstance(value, str | int | float | bool) else ""
    if mistake["type"] == "string_type" and isinstance(value, bool | int | float):
        shown += ": a word such as no, yes, on or off, or a number, is a text in quotes only"
    match mistake["type"]:
        case "unknown_field":
            return f"{places(*location, mistake['ctx']['field'])}: {mistake['msg']}"
        case "missing":
            return f"{places(*location)}: this field is required"
        case _:
            return f"{places(*location)}: {mistake['msg'].removeprefix('Value error, ')}{shown}"


def without_tags(location: Sequence[int | str]) -> list[int | str]:
    """`location` without the kinds of rule, which pydantic writes behind a rule's number; they are no places."""
    return [step for i, step in enumerate(location) if not (i >= 2 and location[i - 2] == "policy")]
