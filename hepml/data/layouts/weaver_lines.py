"""Lines of a YAML file by key, and how a layout is written as YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def lines_of(node: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """The line of every key, and of every item of a list by its (first) value."""
    out: dict[tuple[str, ...], int] = {}
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = str(key.value)
            out[(*path, name)] = key.start_mark.line + 1
            inner = path if name == "vars" else (*path, name)
            out.update(lines_of(value, inner))
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            first = item.value[0] if isinstance(item, yaml.SequenceNode) and item.value else item
            if isinstance(first, yaml.ScalarNode):
                out.setdefault((*path, str(first.value)), item.start_mark.line + 1)
    return out


def nearest_line(lines: Mapping[tuple[str, ...], int], key: tuple[str, ...]) -> int | None:
    """The line of a key, or of the nearest above it."""
    return next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), lines.get(()))


class Dumper(yaml.SafeDumper):
    """Columns and lists of numbers on one line, the rest in blocks."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> Any:
        node = super().represent_mapping(tag, mapping, flow_style)
        node.flow_style = "branch" in mapping
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> Any:
        node = super().represent_sequence(tag, sequence, flow_style)
        node.flow_style = True
        return node

    def ignore_aliases(self, data: Any) -> bool:
        return True
