"""Configs: YAML files that compose, take overrides, and are checked against a schema before anything runs.

A config file may name a `base:` that it is laid over, and any key can be set on the command line as
`key.sub=value`. What comes out remembers where each value was written, so that an error names the file, the
key path and the nearest known key in one line. Schemas are pydantic models; that of a model's hyperparameters
is derived from its constructor's signature, so no hyperparameter is written twice.

Longer than other files because reading, merging, overriding and validating share one `Config`.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, PydanticUserError, ValidationError, create_model

from hepml.documents import LONGEST, Dumper, parse_yaml
from hepml.errors import ConfigError, did_you_mean, nearest
from hepml.paths import config_file, shipped_configs
from hepml.redaction import hide

T = TypeVar("T", bound=BaseModel)
KeyPath = tuple[str, ...]


class Schema(BaseModel):
    """Base of every schema: unknown keys are refused, values are not silently converted."""

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), validate_default=False, populate_by_name=True
    )


@dataclass
class Config:
    """A composed config.

    Args:
        values: the merged mapping.
        origins: for each key path that was set, the file or the command-line word that set it.
        file: the config file itself, or None.
    """

    values: dict[str, Any]
    origins: dict[KeyPath, str] = field(default_factory=dict)
    file: Path | None = None

    def where(self, path: Sequence[str]) -> str:
        """`FILE, key.path` or `command line, key.path` for an error message."""
        path = tuple(path)
        below = [origin for at, origin in self.origins.items() if path and at[: len(path)] == path]
        if path not in self.origins and below:
            return f"{below[-1]}, {'.'.join(path)}"
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return (
                    f"{self.origins[path[:length]]}, {'.'.join(path)}"
                    if path
                    else self.origins[path[:length]]
                )
        source = str(self.file) if self.file else "config"
        return f"{source}, {'.'.join(path)}" if path else source


def load(path: Path | str, overrides: Iterable[str] = (), *, kinds: Collection[str] = ()) -> Config:
    """Reads a config file, lays it over its `base:`, and applies overrides.

    Args:
        path: a YAML file.
        overrides: words `key.sub=value`; the value is read as YAML.
        kinds: top-level blocks whose `name` says what they are (a model, say): such a block may be written as
            the bare name, and one of another name replaces the block that it is laid over.

    Returns:
        the config; secrets in it are hidden (`hepml.redaction`), whoever needs one asks `reveal` for it.

    Raises:
        ConfigError: no such file, not YAML, a base that includes itself, or an override without `=`.
    """
    path = config_file(path)
    config = _load_file(path, (), kinds)
    config.file = path
    for word in overrides:
        _apply_override(config, word, kinds)
    config.values = hide(config.values)
    return config


def from_mapping(
    values: Mapping[str, Any], overrides: Iterable[str] = (), *, kinds: Collection[str] = ()
) -> Config:
    """A config from a mapping made in Python, whose `base` names a file or a config that comes with hepml;
    the other arguments are those of `load`."""
    config = _over_bases(Config({}), values, (), kinds)
    for word in overrides:
        _apply_override(config, word, kinds)
    config.values = hide(config.values)
    return config


def read_yaml(path: Path | str) -> Any:
    """The contents of a YAML file.

    Raises:
        ConfigError: no such file (names the nearest beside it), or not YAML (names line and column).
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:  # a device or a pipe may have no end
            text = file.read(4 * LONGEST + 1).decode()
    except FileNotFoundError:
        raise ConfigError(f"no config file '{path}'", mend=_mend_missing(path)) from None
    except IsADirectoryError:
        raise ConfigError(f"'{path}' is a folder, not a config file", mend="name a .yaml file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"cannot read config file '{path}' ({problem})") from None
    return parse_yaml(text, str(path))


def dump_yaml(values: Mapping[str, Any]) -> str:
    """YAML text that `parse_yaml` reads back to the same values."""
    return yaml.dump(
        plain(values),
        Dumper=Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=120,
    )


def plain_values(checked: BaseModel) -> dict[str, Any]:
    """A checked config as values for `dump_yaml`: what is null is left out where nobody set it, and stays
    where somebody did."""
    values = checked.model_dump(mode="json")
    for key in list(values):
        own = getattr(checked, key)
        if isinstance(own, BaseModel):
            values[key] = plain_values(own)
        elif isinstance(own, dict):
            values[key] |= {
                name: plain_values(part) for name, part in own.items() if isinstance(part, BaseModel)
            }
        elif own is None and key not in checked.model_fields_set:
            del values[key]
    return values


def validate(schema: type[T], config: Config, at: Sequence[str] = ()) -> T:
    """The part of the config at key path `at`, checked against a schema.

    Raises:
        ConfigError: an unknown key, a missing key or a wrong value, in one line with file, key path and mend.
    """
    values: Any = config.values
    for key in at:
        values = values.get(key, {}) if isinstance(values, Mapping) else {}
    _refuse_unknown_keys(schema, values, config, tuple(at))
    try:
        return schema.model_validate_json(json.dumps(plain(values)), strict=True)
    except ValidationError as problem:
        raise _one_line(problem, config, tuple(at), values) from None


def signature_schema(
    build: Callable[..., Any], name: str, *, leave_out: Iterable[str] = ()
) -> type[BaseModel]:
    """The schema of a constructor's keyword arguments, with the signature's own types and defaults.

    Args:
        build: a class or function.
        name: title of the schema.
        leave_out: parameters that are not the user's to set.
    """
    hints = _hints(build)
    skipped = {"self", *leave_out}
    fields: dict[str, Any] = {}
    for key, parameter in inspect.signature(build).parameters.items():
        if key in skipped or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[key] = (hints.get(key, Any), default)
    try:
        return create_model(name, __base__=Schema, **fields)
    except PydanticUserError:  # an annotation that has no schema, such as a module
        loose = {key: (_loose(hint), default) for key, (hint, default) in fields.items()}
        model: type[BaseModel] = create_model(name, __base__=Schema, **loose)  # type: ignore[call-overload]
        return model


def plain(value: Any) -> Any:
    """The value as YAML, JSON and checkpoints know it: numbers, words, lists and mappings."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(below) for below in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


# ------------------------------------------------------------------------------------------------------------
# helpers


def _load_file(path: Path, bases: tuple[Path, ...], kinds: Collection[str]) -> Config:
    here = path.resolve()
    if here in bases:
        raise ConfigError("config includes itself through `base:`", where=str(path))
    values = read_yaml(path)
    if values is None:
        values = {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            "a config is a mapping of keys to values", where=str(path), mend="see configs/quickstart.yaml"
        )
    return _over_bases(Config({}, {}, path), values, (*bases, here), kinds)


def _over_bases(
    config: Config, values: Mapping[str, Any], bases: tuple[Path, ...], kinds: Collection[str]
) -> Config:
    """Values of a file, or of a mapping, over what their `base` names: a path beside the file or a name."""
    source = str(config.file) if config.file else "config"
    base = values.get("base")
    for name in base if isinstance(base, list) else [] if base is None else [base]:
        if not isinstance(name, str):
            raise ConfigError(f"base should be a path, not {name!r}", where=f"{source}, base")
        beside = config.file.parent / name if config.file else Path(name)
        below = _load_file(beside if beside.is_file() else config_file(name), bases, kinds)
        _merge(config, below.values, functools.partial(_origin_in, below), kinds)
    own = {key: value for key, value in values.items() if key != "base"}
    _merge(config, own, lambda at: source, kinds)
    return config


def _origin_in(below: Config, at: KeyPath) -> str:
    """The file that a value of an underlying config came from."""
    return below.where(at).rpartition(", ")[0] or str(below.file)


def _merge(
    config: Config, values: Mapping[str, Any], origin: Callable[[KeyPath], str], kinds: Collection[str]
) -> None:
    def walk(into: dict[str, Any], new: Mapping[str, Any], at: KeyPath) -> None:
        for key, value in new.items():
            path = (*at, key)
            below = into.get(key)
            replaces = not at and key in kinds and _renames(below, value)
            if isinstance(value, Mapping) and isinstance(below, dict) and not replaces:
                walk(below, value, path)
                continue
            into[key] = _copy(value)
            config.origins[path] = origin(path)
            if isinstance(value, Mapping):
                for sub in _leaves(value, path):
                    config.origins[sub] = origin(sub)

    walk(config.values, values, ())


def _renames(below: Any, above: Any) -> bool:
    """Whether a block names another thing than the block that it is laid over: the other's hyperparameters
    mean nothing to it."""
    both = isinstance(below, Mapping) and isinstance(above, Mapping)
    return both and "name" in above and below.get("name") not in (None, above["name"])


def _apply_override(config: Config, word: str, kinds: Collection[str]) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key or any(not part for part in key.split(".")):
        raise ConfigError(f"'{word}' is not an override", where="command line", mend="write key.sub=value")
    value = parse_yaml(text, f"command line, {key}") if text else None
    path = tuple(key.split("."))
    _merge_override(config.values, path, value, kinds)
    config.origins[path] = "command line"
    if isinstance(value, Mapping):
        for sub in _leaves(value, path):
            config.origins[sub] = "command line"


def _merge_override(values: dict[str, Any], path: KeyPath, value: Any, kinds: Collection[str]) -> None:
    into = values
    for depth, part in enumerate(path[:-1]):
        below = into.get(part)
        if not isinstance(below, dict):
            # a block that is written as a bare name, `model: pfn`, may be refined by `model.width=3`
            below = {"name": below} if isinstance(below, str) and not depth and part in kinds else {}
            into[part] = below
        into = below
    into[path[-1]] = value


def _leaves(value: Mapping[str, Any], at: KeyPath) -> Iterable[KeyPath]:
    for key, below in value.items():
        path = (*at, str(key))
        yield path
        if isinstance(below, Mapping):
            yield from _leaves(below, path)


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(below) for key, below in value.items()}
    return [_copy(below) for below in value] if isinstance(value, list | tuple) else value


def _refuse_unknown_keys(schema: type[BaseModel], values: Any, config: Config, at: KeyPath) -> None:
    if not isinstance(values, Mapping):
        given = "nothing" if values is None else repr(values)
        raise ConfigError(f"expected a mapping, found {given}", where=config.where(at))
    if schema.model_config.get("extra") != "forbid":
        return
    known = {name: info.annotation for name, info in schema.model_fields.items()}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"unknown key '{key}'",
                where=config.where((*at, str(key))),
                mend=did_you_mean(str(key), known),
            )
        below = _schema_in(known[key])
        if below is None or not isinstance(value, Mapping):
            continue
        if typing.get_origin(known[key]) is dict:  # names of the user's own, each with such a block
            for name, block in value.items():
                _refuse_unknown_keys(below, block, config, (*at, key, str(name)))
        else:
            _refuse_unknown_keys(below, value, config, (*at, key))


def _schema_in(annotation: Any) -> type[BaseModel] | None:
    """The schema that a field holds, alone or in a union with None."""
    kinds = [annotation, *typing.get_args(annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _one_line(problem: ValidationError, config: Config, at: KeyPath, values: Any) -> ConfigError:
    errors = problem.errors(include_url=False)
    first = errors[0]
    path, value, known = [], values, True
    for part in first["loc"]:
        # pydantic adds the branch of a union to the location: keep what is a key of the config
        items = (
            value if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else {}
        )
        if part in items:
            value = items[part]
            path.append(str(part))
        elif first["type"] == "missing" and part == first["loc"][-1]:
            path.append(str(part))
            known = False
    where = config.where((*at, *path))
    if not known:
        return ConfigError(f"missing key '{path[-1]}'", where=where, mend="it has no default: give it")
    messages = list(
        dict.fromkeys(_phrase(e["msg"]) for e in errors if tuple(e["loc"])[:1] == tuple(first["loc"])[:1])
    )
    same_place = [m for m in messages if m] or ["is not valid"]
    text = " or ".join(same_place[:4])
    shown = json.dumps(plain(value)) if not isinstance(value, str) else repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    name = ".".join((*at, *path)) or "the config"
    mend = None
    expected = first.get("ctx", {}).get("expected")
    if first["type"] in ("literal_error", "enum") and isinstance(value, str) and isinstance(expected, str):
        close = nearest(value, re.findall(r"'([^']+)'", expected))
        mend = f"did you mean '{close[0]}'?" if close else None
    return ConfigError(f"{name} should be {text}, not {shown}", where=where, mend=mend)


def _phrase(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    text = text.removeprefix("Input should be ").removeprefix("Input should ").strip()
    return _PLAINLY.get(text, text)


_PLAINLY = {
    "an object": "a mapping",
    "a valid array": "a list",
    "a valid dictionary": "a mapping",
    "a valid string": "a text",
}


def _hints(build: Callable[..., Any]) -> dict[str, Any]:
    target = build.__init__ if inspect.isclass(build) else build
    try:
        return typing.get_type_hints(target)
    except (NameError, TypeError):  # names that only a type checker imports
        return {}


def _loose(hint: Any) -> Any:
    try:
        create_model("_probe", __base__=Schema, value=(hint, ...))
    except PydanticUserError:
        return Any
    return hint


def _mend_missing(path: Path) -> str:
    here = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    close = nearest(path.name, here)
    if close:
        return "did you mean " + " or ".join(f"'{path.parent / c}'" for c in close) + "?"
    named = nearest(path.with_suffix("").as_posix().removeprefix("configs/"), shipped_configs())
    if named:
        return "did you mean the config " + " or ".join(f"'{name}'" for name in named) + "? (hepml configs)"
    return "give the path of a .yaml file, or the name of a config that `hepml configs` lists"
