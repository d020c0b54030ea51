"""Fields that stand twice in a YAML file: of two equal keys YAML keeps the last and forgets the first silently."""

from __future__ import annotations

import yaml


def refuse_repeated_keys(node: yaml.Node | None, place: object) -> None:
    """`node`: what `yaml.compose` makes of the file `place`. Raises ValueError with file, line and name of a field that
    stands in the same mapping before."""
    _look_through(node, place, set())


def _look_through(node: yaml.Node | None, place: object, seen: set[int]) -> None:
    if node is None or id(node) in seen:  # an alias stands for a node that has been looked at
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in lines:
                    raise ValueError(
                        f"{place}:{line}: {key.value}: this field stands in line {lines[key.value]} already"
                    )
                lines[key.value] = line
            _look_through(value, place, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _look_through(value, place, seen)
