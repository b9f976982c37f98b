"""YAML documents as text: what may stand in one, read and written so that nothing changes on the way.

Beside YAML's own rules: `1e-3` is a number, a key given twice is refused, and so is what no config needs and
what takes a reader for ever: a value that contains itself, aliases that multiply, numbers of thousands of
digits, nesting without end, documents of many megabytes.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from hepml.errors import ConfigError

LONGEST = 1_000_000  # characters of a document
DEEPEST = 50  # levels of nesting
MOST = 200_000  # values, those behind aliases counted wherever they are used
_SMALLEST_INTEGER, _LARGEST_INTEGER = -(2**63), 2**64 - 1


def parse_yaml(text: str, source: str) -> Any:
    """A YAML document.

    Args:
        text: the document.
        source: where it stands, for errors.

    Raises:
        ConfigError: not YAML, or beyond the bounds above.
    """
    if len(text) > LONGEST:
        raise ConfigError(
            f"a document of {len(text):,} characters",
            where=source,
            mend=f"a config has at most {LONGEST:,}; name files by a pattern",
        )
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        at = f"{source}, line {mark.line + 1}, column {mark.column + 1}" if mark else source
        message = " ".join(str(problem.problem or problem.context).split())
        raise ConfigError(f"not valid YAML: {message[:200]}", where=at) from None
    except yaml.YAMLError as problem:
        raise ConfigError(f"not valid YAML: {' '.join(str(problem).split())[:200]}", where=source) from None
    except Exception as problem:  # dates that are none, and what else a constructor of PyYAML stumbles over
        message = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise ConfigError(f"not valid YAML: {message}", where=source) from None


class _Loader(yaml.SafeLoader):
    """SafeLoader within bounds, that reads 1e-3 as a number and refuses a key given twice."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._open: list[str | None] = []  # anchors of the values that are being read
        self._sizes: dict[int, tuple[int, int]] = {}  # of each node: values in it, levels below it

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        mark: Any = event.start_mark
        anchor = event.anchor if isinstance(event, yaml.events.NodeEvent) else None
        if isinstance(event, yaml.AliasEvent) and anchor in self._open:
            raise yaml.composer.ComposerError(None, None, f"the value '{anchor}' contains itself", mark)
        if len(self._open) >= DEEPEST:
            raise yaml.composer.ComposerError(
                None, None, f"values are nested more than {DEEPEST} levels deep", mark
            )
        self._open.append(None if isinstance(event, yaml.AliasEvent) else anchor)
        node = super().compose_node(parent, index)
        self._open.pop()
        self._measure(node)
        return node

    def _measure(self, node: Any) -> None:
        if node is None or id(node) in self._sizes:
            return
        children: list[Any] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        sizes = [self._sizes[id(child)] for child in children]
        values, levels = 1 + sum(size for size, _ in sizes), 1 + max((depth for _, depth in sizes), default=0)
        self._sizes[id(node)] = values, levels
        if values > MOST or levels > DEEPEST:
            excess = f"more than {MOST:,} values" if values > MOST else f"more than {DEEPEST} levels"
            raise yaml.composer.ComposerError(None, None, f"{excess} with all aliases", node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int | float | bool) and key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is given twice", key_node.start_mark
                )
            keys.add(key if isinstance(key, str | int | float | bool) else str(key))
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        value = None
        if len(node.value) <= 80:  # 64 binary digits, with underscores
            value = super().construct_yaml_int(node)
        if value is None or not _SMALLEST_INTEGER <= value <= _LARGEST_INTEGER:
            raise yaml.constructor.ConstructorError(
                None, None, f"the number {node.value[:12]}… does not fit into 64 bits", node.start_mark
            )
        return value

    def construct_yaml_float(self, node: Any) -> float:
        value = super().construct_yaml_float(node)
        if math.isinf(value) and "inf" not in node.value.lower():
            raise yaml.constructor.ConstructorError(
                None, None, f"the number {node.value[:12]} is beyond all bounds", node.start_mark
            )
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)

_FLOAT = re.compile(
    r"""^(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?
    |[-+]?(?:[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)
    |\.[0-9_]+(?:[eE][-+]?[0-9]+)?
    |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


class Dumper(yaml.SafeDumper):
    """SafeDumper with the same idea of a number as `parse_yaml`, so that a written config reads back as it
    was."""


for _kind in (_Loader, Dumper):
    # yaml keeps resolvers by first character in a table that subclasses share until they copy it
    _kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in pairs if tag != "tag:yaml.org,2002:float"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))
