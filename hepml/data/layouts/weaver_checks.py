"""What a data YAML of weaver must look like before it is translated: sections of the right kind, inputs that
have names and numbers; and what a file must have for it. Whatever else is in a section is named as not
translated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hepml.data.layouts.weaver_lines import nearest_line
from hepml.errors import ConfigError, nearest

_MAPPING, _LIST, _TEXT = (Mapping, "a mapping"), (list, "a list"), (str, "an expression")
_SECTIONS: dict[tuple[str, ...], tuple[type, str]] = {
    ("selection",): _TEXT,
    ("test_time_selection",): _TEXT,
    ("new_variables",): _MAPPING,
    ("preprocess",): _MAPPING,
    ("preprocess", "params"): _MAPPING,
    ("labels",): _MAPPING,
    ("observers",): _LIST,
    ("monitor_variables",): _LIST,
    ("weights",): _MAPPING,
    ("weights", "reweight_vars"): _MAPPING,
    ("weights", "reweight_classes"): _LIST,
    ("weights", "class_weights"): _LIST,
    ("weights", "weight_branches"): _LIST,
    ("weights", "reweight_hists"): _MAPPING,
}
_KEYS = {
    "preprocess": ("method", "data_fraction", "params"),
    "labels": ("type", "value"),
    "inputs": ("length", "pad_mode", "pad_value", "vars"),
}


class Checks:
    """The checks of one YAML.

    Args:
        where: the file.
        lines: of its keys.
    """

    def __init__(self, where: str, lines: Mapping[tuple[str, ...], int]) -> None:
        self.where, self.lines = where, lines

    def sections(self, content: Mapping[str, Any]) -> None:
        """Refuses a section of another kind.

        Raises:
            ConfigError: names the section and its line.
        """
        for key, (kind, words) in _SECTIONS.items():
            value: Any = content
            for part in key:
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None and not isinstance(value, kind):
                raise self.problem(key, f"{'.'.join(key)} is {value!r:.60}, where {words} belongs")
        for name, group in content["inputs"].items():
            if isinstance(group, Mapping) and group.get("length") is not None:
                length = group["length"]
                if isinstance(length, bool) or not isinstance(length, int) or length < 1:
                    raise self.problem(("inputs", str(name)), f"length of {name} is {length!r}", "1 or more")
            entries = group.get("vars") if isinstance(group, Mapping) else None
            for entry in entries if isinstance(entries, list) else ():
                first = entry[0] if isinstance(entry, list) and entry else entry
                if not isinstance(first, str):
                    raise self.problem(
                        ("inputs", str(name)), f"an input of {name} is {entry!r:.60}", "[NAME, centre, scale]"
                    )

    def unknown(self, content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
        """Keys within sections that mean nothing to weaver either, with a sentence."""
        for section in ("preprocess", "labels"):
            for word in content.get(section) or {}:
                if word not in _KEYS[section]:
                    yield (section, str(word)), f"unknown key '{word}' of {section}"
        method = (content.get("preprocess") or {}).get("method", "manual")
        if method not in ("manual", "auto"):
            yield ("preprocess", "method"), f"method {method}: taken for manual"
        for name, group in content["inputs"].items():
            for word in group if isinstance(group, Mapping) else ():
                if word not in _KEYS["inputs"]:
                    yield ("inputs", str(name), str(word)), f"unknown key '{word}' of {name}"

    def numbers(
        self, key: tuple[str, ...], name: str, centre: Any, scale: Any, bounds: tuple[Any, Any]
    ) -> tuple[float, float, list[float]]:
        """Centre, scale and bounds of an input as numbers.

        Raises:
            ConfigError: one that is none, a scale of zero, bounds that fall.
        """
        found = []
        for word, value in zip(
            ("centre", "scale", "lower bound", "upper bound"), (centre, scale, *bounds), strict=True
        ):
            try:
                number = math.nan if isinstance(value, bool) else float(value)
            except (TypeError, ValueError):
                number = math.nan
            if math.isnan(number):
                raise self.problem(key, f"{word} of {name} is {value!r:.60}", "give a number")
            found.append(number)
        if found[1] == 0 or found[2] >= found[3]:
            what = "scale is 0" if found[1] == 0 else f"bounds are {found[2]:g} and {found[3]:g}"
            raise self.problem(key, f"{name} would be one number: its {what}", "[NAME, centre, scale]")
        return found[0], found[1], found[2:]

    def problem(self, key: tuple[str, ...], what: str, mend: str = "write it as weaver does") -> ConfigError:
        """The error at a key, with its line."""
        at = nearest_line(self.lines, key)
        return ConfigError(what, where=self.where if at is None else f"{self.where}, line {at}", mend=mend)


def missing_branches(layout: Mapping[str, Any], branches: Iterable[str]) -> list[str]:
    """What a translated layout needs and a file lacks, each with the nearest names."""
    from hepml.data.reading.layouts import Layout

    parsed, at_hand = Layout.parse(dict(layout)), set(branches)
    wanted = [c.branch for g in parsed.constituents for c in g.columns.values() if c.branch]
    wanted += [c.branch for c in parsed.jet.values() if c.branch]
    wanted += [*parsed.labels.values(), *([parsed.label] if parsed.label else []), *parsed.define]
    out = []
    for name in dict.fromkeys(parsed.definitions.branches(wanted)):
        if name not in at_hand:
            close = nearest(name, at_hand)
            out.append(f"{name}" + (f" (nearest: {', '.join(close)})" if close else ""))
    return out
