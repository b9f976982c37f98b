"""The register of taggers: what a model is called, where it was published, what it respects.

A model is a plain `nn.Module` with `forward(batch: JetBatch) -> Tensor[B, C]`. Its constructor is its whole
configuration. It enters the register by one decorator; `create` builds it by name and `registry` lists what
there is.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from hepml.errors import ConfigError, FileError, HepmlError, ModelError, did_you_mean
from hepml.models.identity import identify

Initialisation = Literal["scaled", "published"]
B = TypeVar("B", bound=Callable[..., nn.Module])
M = TypeVar("M", bound=nn.Module)

# Symmetries that a model may declare; one parametrised test measures every declared claim.
SYMMETRIES = ("permutation", "lorentz", "rotation", "azimuthal-rotation", "irc-safe", "energy-conserving")


@dataclass(frozen=True)
class Entry:
    """One registered system.

    Args:
        name: the name in configs.
        build: the constructor, or a function that returns a module.
        paper: arXiv id, as `arXiv:1902.08570`.
        symmetries: what the model respects, from `SYMMETRIES`.
        published: hyperparameters of the published configuration, where they are not the defaults.
        parameters: the published parameter count, or None where none is published.
        head_scale: what the last layer's weights are multiplied by at the start, where the published
            initialisation begins with logits of several units and a training loses its first epochs by it;
            `initialisation: published` leaves it out.

    Examples:
        >>> entry = hepml.models.entry('pelican')
        >>> entry.name, entry.paper
        ('pelican', 'arXiv:2307.16506')
    """

    name: str
    build: Callable[..., nn.Module]
    paper: str
    symmetries: tuple[str, ...]
    published: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    head_scale: float = 1.0

    @property
    def summary(self) -> str:
        """First line of the constructor's docstring."""
        return (inspect.getdoc(self.build) or "").partition("\n")[0]


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    paper: str,
    symmetries: tuple[str, ...] = (),
    published: Mapping[str, Any] | None = None,
    parameters: int | None = None,
    head_scale: float = 1.0,
) -> Callable[[B], B]:
    """Class or function decorator that enters a system in the register.

    Examples:
        >>> import torch
        >>> from torch import nn
        >>> @hepml.models.register('constant', paper='none', symmetries=('permutation',))
        ... class Constant(nn.Module):
        ...     '''Says the same of every jet.'''
        ...     inputs = hepml.data.Inputs()
        ...     def __init__(self, outputs: int = 2):
        ...         super().__init__()
        ...         self.bias = nn.Parameter(torch.zeros(outputs))
        ...     def forward(self, batch):
        ...         return self.bias.expand(len(batch), -1)
        >>> type(hepml.models.create('constant')).__name__
        'Constant'
    """
    unknown = set(symmetries) - set(SYMMETRIES)
    if unknown:
        raise ValueError(f"{name}: unknown symmetries {sorted(unknown)}; known: {SYMMETRIES}")

    def enter(build: B) -> B:
        if (
            name in _ENTRIES
            and _ENTRIES[name].build is not build
            and _ENTRIES[name].build.__module__ != build.__module__
        ):
            raise ValueError(f"two systems are called '{name}'")
        _ENTRIES[name] = Entry(
            name, build, paper, tuple(symmetries), dict(published or {}), parameters, head_scale
        )
        return build

    return enter


def variant(
    name: str,
    of: Callable[..., M],
    summary: str,
    *,
    published: Mapping[str, Any] | None = None,
    parameters: int | None = None,
    head_scale: float = 1.0,
    **differs: Any,
) -> Callable[..., M]:
    """Enters a registered system under another name, with other defaults; all else is as it stands there.

    Args:
        name: the name in configs.
        of: a class or function in the register.
        summary: what the variant is for, in a sentence or two: its docstring.
        published, parameters, head_scale: see `Entry`.
        differs: the hyperparameters whose defaults differ.

    Returns:
        a function that takes the hyperparameters of `of`.
    """
    base = next(known for known in _ENTRIES.values() if known.build is of)
    signature = inspect.signature(of)
    unknown = set(differs) - set(signature.parameters)
    if unknown:
        raise ValueError(f"{name}: {base.name} takes no {sorted(unknown)}")

    def build(*args: Any, **hyperparameters: Any) -> M:
        given = inspect.signature(build).bind(*args, **hyperparameters)
        return of(**{**differs, **given.arguments})

    build.__name__ = build.__qualname__ = name
    build.__module__ = of.__module__
    build.__doc__ = f"{summary}\n\nSymmetry, inputs and arguments as for `{of.__name__}`."
    annotated: Any = of
    build.__annotations__ = typing.get_type_hints(annotated.__init__ if isinstance(of, type) else of)
    changed = [p.replace(default=differs.get(p.name, p.default)) for p in signature.parameters.values()]
    build.__signature__ = signature.replace(parameters=changed)  # type: ignore[attr-defined]
    enter = register(
        name,
        paper=base.paper,
        symmetries=base.symmetries,
        published=published,
        parameters=parameters,
        head_scale=head_scale,
    )
    return enter(build)


def load_plugin(name: str) -> None:
    """Imports a module, or a Python file, that registers systems of the user's own.

    Args:
        name: `package.module`, or a path that ends in `.py`; imported once.

    Raises:
        FileError: no such file.
        ConfigError: no such module, or one whose import fails; says why.

    Examples:
        >>> from pathlib import Path
        >>> size = Path('mine.py').write_text('import hepml')  # a file that registers models of yours
        >>> hepml.models.load_plugin('mine.py')
    """
    where = f"plugin {name}"
    try:
        if not name.endswith(".py"):
            importlib.import_module(name)
            return
        path = Path(name).resolve()
        if not path.is_file():
            raise FileError(
                "no such file", where=where, mend="give the path of a Python file, or the name of a module"
            )
        alias = f"hepml_plugin_{path.stem}_{abs(hash(str(path))):x}"
        if alias in sys.modules:
            return
        spec = importlib.util.spec_from_file_location(alias, path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[alias] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[alias]
            raise
    except HepmlError:
        raise
    except Exception as problem:
        raise ConfigError(
            f"the plugin cannot be imported ({type(problem).__name__}: {problem})",
            where=where,
            mend="try it with `python -c 'import …'`; it runs when the config is read",
        ) from problem


def registry() -> dict[str, Entry]:
    """All registered systems by name, in alphabetical order.

    Every module of `hepml.models` is imported once, and the plugins that $HEPML_PLUGINS names, one behind the
    other as in $PATH.

    Examples:
        >>> hepml.models.registry()['particlenet'].paper
        'arXiv:1902.08570'
    """
    package = importlib.import_module("hepml.models")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"hepml.models.{module.name}")
    for name in filter(None, os.environ.get("HEPML_PLUGINS", "").split(os.pathsep)):
        load_plugin(name)
    return dict(sorted(_ENTRIES.items()))


def entry(name: str) -> Entry:
    """The registered system of that name.

    Raises:
        ModelError: no such system; names the nearest.

    Examples:
        >>> hepml.models.entry('lorentznet').symmetries
        ('permutation', 'lorentz')
    """
    if name not in _ENTRIES:
        known = registry()
        if name not in known:
            raise ModelError(
                f"unknown model '{name}'", mend=did_you_mean(name, known, noun="registered models")
            )
    return _ENTRIES[name]


def create(name: str, *, initialisation: Initialisation | None = None, **hyperparameters: Any) -> nn.Module:
    """Builds a registered system.

    Args:
        name: a name from `registry()`.
        initialisation: "published" for that of the paper, also where a training begins far off with it (see
            `Entry.head_scale`).
        hyperparameters: constructor arguments; `outputs` is the number of columns of the result.

    Raises:
        ModelError: no such system.
        ConfigError: a hyperparameter that its constructor does not take; names the nearest.

    Examples:
        >>> model = hepml.models.create('pfn', outputs=3, phi=(8,), f=(8,))
        >>> model.inputs.features[0]
        'pt_fraction'
    """
    registered = entry(name)
    build = registered.build
    parameters = inspect.signature(build).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        for key in hyperparameters:
            if key not in parameters:
                raise ConfigError(
                    f"model '{name}' takes no '{key}'", mend=did_you_mean(key, parameters, noun="it takes")
                )
    model = build(**hyperparameters)
    if registered.head_scale != 1 and initialisation != "published":
        _scale_head(model, registered.head_scale)
    return identify(model, name=name, hyperparameters=dict(hyperparameters))


def _scale_head(model: nn.Module, factor: float) -> None:
    """Multiplies weights and biases of the last linear layer."""
    linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if linear:
        with torch.no_grad():
            for parameter in linear[-1].parameters():
                parameter.mul_(factor)


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters.

    Examples:
        >>> model = hepml.models.create('perceptron', outputs=1, observables=('jet_mass',))
        >>> hepml.models.count_parameters(model)
        2
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
