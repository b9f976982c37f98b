"""`Layout`: which branches of a tree are a jet.

A layout maps a file's branches onto the names that features and models use; a flat ntuple is mapped in a few
lines of YAML (docs/data-layouts.md). Which layouts there are is in `layouts.py`. A column is a branch or a
number, with an optional transform out of `TRANSFORMS`, a shift, a scale and a clip; formulas stand in
`define` (`hepml.data.reading.expressions`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hepml.config import read_yaml
from hepml.data.reading.columns import (
    Column,
    checked,
    columns_of,
    event_columns_of,
    mapping_of,
    names_of,
    text_of,
)
from hepml.data.reading.event_numbers import numbers_of
from hepml.data.reading.expressions import Definitions, Expression, definitions
from hepml.errors import ConfigError, FileError, LayoutError, did_you_mean

FLAT_NAMES = ("salt", "umami", "toptagging", "jetnet", "lhco", "energyflow")  # known by their content

MOMENTUM_FORMS = (("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "delta_eta", "delta_phi"))


@dataclass(frozen=True)
class Collection:
    """Branches that together hold one kind of constituent, one list a jet.

    Args:
        columns: by name; the four-momentum as px, py, pz | pt, eta, phi | pt, delta_eta, delta_phi (relative
            to the jet's axis), with `energy` or `mass` (massless without either), and any raw columns or
            features (`hepml.data.features`).
        optional: columns that a file may lack.
    """

    columns: Mapping[str, Column]
    optional: frozenset[str] = frozenset()

    @property
    def momentum_form(self) -> tuple[str, ...]:
        """Which three columns carry the momentum."""
        for form in MOMENTUM_FORMS:
            if all(name in self.columns for name in form):
                return form
        return ()


@dataclass(frozen=True)
class Layout:
    """How a tree's branches make jets, one jet an entry.

    Args:
        name: what `inspect` and errors call it.
        constituents: collections, merged into one pT-ordered list a jet where there are several.
        tree: name of the tree, or None for the only one in the file.
        jet: the jet's own `pt`, `eta`, `phi` and `energy` or `mass`; what is missing is taken from the
            constituents.
        columns: further jet columns by name; every scalar branch is at hand under its own name in any case.
        labels: class name -> branch that is 1 for jets of this class (one-hot).
        label: branch with an integer class, where there is no one-hot.
        classes: names of the integer classes.
        label_prefix: one-hot branches are all those beginning so, besides `labels`.
        weight: branch of event weights, or the name of one of `columns`.
        event: run, luminosity block and event number, name -> branch, by which jets of one event stay in one
            part of a split; where left out, branches with a usual name; empty for none.
        unlabelled: `refuse` or `drop` jets of no class.
        standardise: `auto` or `none`: whether columns without a published standardisation get one from the
            training jets; `auto` where left out.
        define: columns computed from branches, which stand for branches everywhere in the layout.
        selection: expression on jet columns that the jets of a training must fulfil.
        test_selection: the same for test jets; `selection` where left out.
        collections: further collections, by name, that a model may take as inputs of their own.
        features: the constituent features of a model whose config names none.
        collection_features: the features that such a model takes of each further collection.
        max_constituents: the leading constituents of such a model.
        reweight: how training jets are weighted (`hepml.data.sampling`), where the config does not say.
    """

    name: str
    constituents: tuple[Collection, ...]
    tree: str | None = None
    jet: Mapping[str, Column] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    classes: tuple[str, ...] = ()
    label_prefix: str | None = None
    weight: str | None = None
    event: Mapping[str, str] | None = None
    unlabelled: str = "refuse"
    standardise: str | None = None
    define: Mapping[str, Expression] = field(default_factory=dict)
    selection: str | None = None
    test_selection: str | None = None
    collections: Mapping[str, Collection] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    collection_features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_constituents: int | None = None
    reweight: Mapping[str, Any] | None = None

    @property
    def definitions(self) -> Definitions:
        """The computed columns, in the order in which they can be."""
        return definitions(tuple(self.define.items()))

    def label_branches(self, branches: Iterable[str]) -> dict[str, str]:
        """One-hot labels that this file has: class name -> branch, in the layout's order, then the file's."""
        branches = list(branches)
        at_hand = set(branches)
        labels = {name: branch for name, branch in self.labels.items() if branch in at_hand}
        if self.label_prefix:
            p = self.label_prefix
            labels.update({b[len(p) :]: b for b in branches if b.startswith(p) and b[len(p) :] not in labels})
        return labels

    def check(self, branches: Iterable[str], where: str, *, momenta_only: bool = False) -> None:
        """Refuses a tree that lacks a branch which this layout needs.

        Args:
            momenta_only: other columns may be missing, where other files of the list have them.

        Raises:
            LayoutError: names the branch, the tree and the nearest branches.
        """
        at_hand = set(branches)
        if not self.constituents:
            raise LayoutError(
                f"no file of the format '{self.name}'", where=where, mend="leave out the layout"
            )
        wanted = [
            c.branch
            for g in (*self.constituents, *self.collections.values())
            for n, c in g.columns.items()
            if n not in g.optional and (not momenta_only or n in (*g.momentum_form, "energy", "mass"))
        ]
        if self.label_prefix is None and not momenta_only:
            wanted += [c.branch for c in (*self.jet.values(), *self.columns.values())]
            wanted += [*self.labels.values(), self.label, *(self.event or {}).values()]
            wanted.append(None if self.weight in self.columns else self.weight)
        for branch in self.definitions.branches([b for b in wanted if b is not None]):
            if branch not in at_hand:
                raise missing_branch(branch, at_hand, where)

    @classmethod
    def parse(cls, value: Any, key: str = "layout") -> Layout:
        """A layout from YAML: a built-in name, a YAML file, or a mapping.

        Raises:
            ConfigError, LayoutError: an unknown key, a collection without a momentum, an unknown name.
        """
        if isinstance(value, cls):
            return value
        for kind in OTHER_KINDS:
            if kind.fits(value):
                return kind.parse(value, key)
        if isinstance(value, str | Path):
            text = str(value)
            if text in FLAT_NAMES:
                return cls(name=text, constituents=())
            if OTHER_NAMES.get(text, text) in BUILT_IN:
                return BUILT_IN[OTHER_NAMES.get(text, text)]
            if text.endswith((".yaml", ".yml")):
                loaded = _load_yaml(Path(text))
                if (
                    isinstance(loaded, Mapping)
                    and set(loaded) == {"layout"}
                    and isinstance(loaded["layout"], Mapping)
                ):
                    loaded = loaded["layout"]  # a file that begins as a config does
                within = (
                    loaded.get("data") if isinstance(loaded, Mapping) else None
                )  # a run's config, which has one inside
                if isinstance(within, Mapping) and within.get("layout") is not None:
                    inner = within["layout"]
                    beside = Path(text).parent / str(inner)
                    return cls.parse(
                        str(beside) if isinstance(inner, str) and beside.is_file() else inner,
                        key=f"{text}: data.layout",
                    )
                return cls.parse(loaded, key=text)
            other_names = [name for kind in OTHER_KINDS for name in kind.names]
            raise LayoutError(
                f"unknown layout '{text}'",
                mend=f"{did_you_mean(text, [*BUILT_IN, *other_names])} Or give a mapping or a YAML file "
                "(docs/data-layouts.md)",
            )
        fields = checked(value, cls, key)
        fields.setdefault("name", "inline")
        groups = fields.get("constituents")
        if groups is None:
            raise ConfigError(
                "a layout needs `constituents`",
                where=key,
                mend="map px, py, pz, energy (docs/data-layouts.md)",
            )
        if not isinstance(groups, list | tuple):
            groups = [groups]
        fields["constituents"] = tuple(
            _collection(g, f"{key}.constituents[{i}]") for i, g in enumerate(groups)
        )
        fields["collections"] = {
            name: _collection(item, f"{key}.collections.{name}")
            for name, item in mapping_of(fields.get("collections"), f"{key}.collections").items()
        }
        for taken in ("constituents", "momentum", "label", "weight"):
            if taken in fields["collections"]:
                raise ConfigError(
                    f"'{taken}' means something else", where=f"{key}.collections", mend="choose another name"
                )
        fields["collection_features"] = {
            name: names_of(item, f"{key}.collection_features.{name}")
            for name, item in mapping_of(
                fields.get("collection_features"), f"{key}.collection_features"
            ).items()
        }
        for name in ("jet", "columns"):
            fields[name] = columns_of(fields.get(name), f"{key}.{name}")
        labels = mapping_of(fields.get("labels"), f"{key}.labels")
        fields["labels"] = {name: str(branch) for name, branch in labels.items()}
        for name in ("tree", "label", "label_prefix", "selection", "test_selection"):
            fields[name] = text_of(fields.get(name), f"{key}.{name}")
        if fields.get("reweight") is not None:
            fields["reweight"] = mapping_of(fields["reweight"], f"{key}.reweight")
        if fields.get("event") is not None:
            named = event_columns_of(fields["event"], f"{key}.event")
            fields["event"] = numbers_of(named)
            if named and "event" not in fields["event"]:
                raise ConfigError(
                    f"no event number among {', '.join(named)}",
                    where=f"{key}.event",
                    mend="event: {run: BRANCH, luminosityBlock: BRANCH, event: BRANCH}, or [] for none",
                )
        weight = fields.get("weight")
        if weight is not None and not isinstance(weight, str):  # a column, which the name stands for
            fields["columns"]["weight"] = Column.parse(weight, f"{key}.weight")
            fields["weight"] = "weight"
        if isinstance(fields.get("classes"), int):  # so many, without names
            fields["classes"] = range(fields["classes"])
        if "classes" in fields:
            fields["classes"] = names_of(fields["classes"], f"{key}.classes")
        fields["define"] = {
            name: Expression(item, f"{key}.define.{name}")
            for name, item in mapping_of(fields.get("define"), f"{key}.define").items()
        }
        fields["features"] = names_of(fields.get("features"), f"{key}.features")
        Definitions(fields["define"])
        if fields.get("unlabelled", "refuse") not in ("refuse", "drop"):
            raise ConfigError(
                f"unlabelled is '{fields['unlabelled']}'", where=f"{key}.unlabelled", mend="refuse or drop"
            )
        fields["standardise"] = checked_standardise(fields.get("standardise"), f"{key}.standardise")
        return cls(**fields)


class Kind(NamedTuple):
    """A kind of layout besides the flat one, as `Layout.parse` needs to know it.

    Args:
        names: of its built-in layouts.
        fits: whether a value from YAML is one.
        parse: value and key -> layout.
    """

    names: tuple[str, ...]
    fits: Callable[[Any], bool]
    parse: Callable[[Any, str], Layout]


# The register that `layouts.py` fills: built-in layouts, further names of theirs, and other kinds.
BUILT_IN: dict[str, Layout] = {}
OTHER_NAMES: dict[str, str] = {}
OTHER_KINDS: list[Kind] = []


def checked_standardise(value: Any, key: str) -> str | None:
    """`auto`, `none` or None, of what YAML has.

    Raises:
        ConfigError: anything else.
    """
    choice: str | None = {True: "auto", False: "none", None: None}.get(value, value)
    if choice not in ("auto", "none", None):
        raise ConfigError(f"standardise is '{value}'", where=key, mend="auto or none")
    return choice


def missing_branch(branch: str, at_hand: Iterable[str], where: str) -> LayoutError:
    """The error for a branch that is not there, naming the nearest ones."""
    return LayoutError(
        f"branch '{branch}' not found",
        where=where,
        mend=did_you_mean(branch, at_hand, noun="branches at hand"),
    )


def _collection(value: Any, key: str) -> Collection:
    if not isinstance(value, Mapping):
        raise ConfigError(
            "a collection is a mapping of columns to branches", where=key, mend="docs/data-layouts.md"
        )
    columns = columns_of(value, key)
    collection = Collection(columns)
    if not collection.momentum_form:
        raise ConfigError(
            f"no momentum among the columns {', '.join(columns)}",
            where=key,
            mend="map px, py, pz or pt, eta, phi or pt, delta_eta, delta_phi",
        )
    return collection


def load_mapping(path: str | Path) -> dict[str, Any]:
    """A layout file's mapping, taken out of a config that has one inside.

    Raises:
        FileError: no such file. ConfigError: not YAML, or no mapping.
    """
    loaded = _load_yaml(Path(path))
    for key in ("data", "layout"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise ConfigError("expected a mapping", where=str(path), mend="see docs/data-layouts.md")
    return dict(loaded)


def _load_yaml(path: Path) -> Any:
    if not path.is_file():
        raise FileError(f"no such layout file: {path}", mend="check the path")
    return read_yaml(path)
