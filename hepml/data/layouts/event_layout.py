"""`EventLayout`: a layout of files with many jets an entry, as a user names or writes it.

It says which jet collection is meant, which of its jets, and what travels with them; the branches follow from
the file (`families.py`), or from the layout itself where it spells out the constituents and their link.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hepml.data.layouts.families import ALIASES, FAMILIES, names
from hepml.data.reading.columns import Column, columns_of, event_columns_of, mapping_of, text_of
from hepml.data.reading.layout import Kind, Layout, checked_standardise, load_mapping
from hepml.errors import ConfigError, LayoutError, did_you_mean

_KEYS = (
    "name",
    "layout",
    "tree",
    "jets",
    "constituents",
    "event",
    "labels",
    "match",
    "overlap",
    "collections",
    "weight",
    "unlabelled",
    "standardise",
    "columns",
    "jet",
)


@dataclass(frozen=True)
class OwnLink:
    """A link that the layout spells out.

    Args:
        collection: the candidates' collection.
        kind: table, element, reference, object or nested.
        branches: the link's branches by part (`jet` and `index` of a table, `branch` of element links and
            references, `begin`, `end`, `index`, `id` of object ids).
        columns: constituent columns, where they do not follow from the collection's name.
    """

    collection: str
    kind: str
    branches: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=dict)


@dataclass(frozen=True)
class Match:
    """A truth match: jets with such a particle within `dr` get the class.

    Args:
        particles: collection of generator particles.
        select: expression on their columns.
        dr: largest distance in the plane of eta and phi.
        inside: how many of them must lie within.
    """

    particles: str
    select: str | None = None
    dr: float = 0.8
    inside: int = 1


@dataclass(frozen=True)
class Overlap:
    """Jets to leave out: those within `dr` of an object of another collection."""

    collection: str
    dr: float
    select: str | None = None


@dataclass(frozen=True)
class Beside:
    """A further collection of each jet: by a link, or all objects within `dr`."""

    collection: str
    link: OwnLink | None = None
    dr: float | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)


@dataclass(frozen=True)
class EventLayout(Layout):
    """How an event file's branches make jets, many jets an entry.

    Args:
        family: name of the layout (`nanoaod`, `delphes` …), or None to recognise it.
        collection: name of the jet collection; the widest with constituents where left out.
        select: expression on the jets' columns.
        leading: only the leading so many jets of an event, by pT, after the selection.
        link: how constituents are found, where it does not follow from the file.
        event: event columns carried to each jet: name -> branch; the layout's own where empty.
        cuts: class name -> expression on the jets' columns.
        match: class name -> truth match.
        overlap: objects that remove jets.
        beside: further collections by name, inputs of their own.
    """

    family: str | None = None
    collection: str | None = None
    select: str | None = None
    leading: int | None = None
    link: OwnLink | None = None
    event: Mapping[str, str] = field(default_factory=dict)
    cuts: Mapping[str, str] = field(default_factory=dict)
    match: Mapping[str, Match] = field(default_factory=dict)
    overlap: tuple[Overlap, ...] = ()
    beside: Mapping[str, Beside] = field(default_factory=dict)

    def check(self, branches: Iterable[str], where: str, *, momenta_only: bool = False) -> None:
        """Nothing: what is needed is known once the collection is chosen (`hepml.data.formats.events`)."""

    def label_branches(self, branches: Iterable[str]) -> dict[str, str]:
        """None: labels of event files are expressions and matches."""
        return {}

    @classmethod
    def parse(cls, value: Any, key: str = "layout") -> EventLayout:
        """An event layout from the name of one or from a mapping with `jets`.

        Raises:
            ConfigError, LayoutError: an unknown key or name, or a wrong type.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(name=value, constituents=(), family=_family(value, key))
        return _parse(value, key)


def is_event_layout(value: Any) -> bool:
    """Whether this is the name of an event layout, or a mapping that chooses a jet collection."""
    if isinstance(value, str):
        return value in FAMILIES or value in ALIASES
    return isinstance(value, Mapping) and ("jets" in value or value.get("layout") in names())


def with_jets(layout: Any, jets: str | None) -> Any:
    """A layout that reads this jet collection: the collection's name goes into the layout, so that a run and
    a checkpoint carry both as one.

    Raises:
        ConfigError: a layout of one jet an entry, which has no collections.
    """
    if jets is None:
        return layout
    if layout is None:
        return {"jets": {"collection": jets}}
    if isinstance(layout, str) and (layout in FAMILIES or layout in ALIASES):
        return {"layout": layout, "jets": {"collection": jets}}
    if isinstance(layout, Mapping) and is_event_layout(layout):
        own = layout.get("jets") or {}
        own = {"collection": own} if isinstance(own, str) else mapping_of(own, "layout.jets")
        return {**layout, "jets": {**own, "collection": jets}}
    if isinstance(layout, str) and layout.endswith((".yaml", ".yml")):
        return with_jets(load_mapping(layout), jets)
    if isinstance(layout, EventLayout):
        return replace(layout, collection=jets)
    raise ConfigError(
        f"the layout has one jet an entry, and so no jet collection '{jets}'", mend="leave out `jets`"
    )


def _parse(value: Any, key: str) -> EventLayout:
    if not isinstance(value, Mapping):
        raise ConfigError(f"expected a mapping, found {type(value).__name__}", where=key)
    for name in value:
        if name not in _KEYS:
            raise ConfigError(f"unknown key '{name}'", where=key, mend=did_you_mean(str(name), _KEYS))
    jets = value.get("jets")
    jets = {"collection": jets} if isinstance(jets, str) else mapping_of(jets, f"{key}.jets")
    _known(jets, ("collection", "select", "leading"), f"{key}.jets")
    leading = jets.get("leading")
    if leading is not None and (isinstance(leading, bool) or not isinstance(leading, int) or leading < 1):
        raise ConfigError(
            f"leading is {leading!r}", where=f"{key}.jets.leading", mend="give a number from 1 on"
        )
    family = value.get("layout")
    unlabelled = value.get("unlabelled", "refuse")
    if unlabelled not in ("refuse", "drop"):
        raise ConfigError(f"unlabelled is '{unlabelled}'", where=f"{key}.unlabelled", mend="refuse or drop")
    columns = columns_of(value.get("columns"), f"{key}.columns")
    weight = value.get("weight")
    if weight is not None and not isinstance(weight, str):  # a column of its own, which the name stands for
        columns["weight"], weight = Column.parse(weight, f"{key}.weight"), "weight"
    return EventLayout(
        name=str(value.get("name", family or "events")),
        constituents=(),
        tree=text_of(value.get("tree"), f"{key}.tree"),
        jet=columns_of(value.get("jet"), f"{key}.jet"),
        columns=columns,
        weight=weight,
        unlabelled=unlabelled,
        standardise=checked_standardise(value.get("standardise"), f"{key}.standardise"),
        family=None if family is None else _family(str(family), f"{key}.layout"),
        collection=text_of(jets.get("collection"), f"{key}.jets.collection"),
        select=text_of(jets.get("select"), f"{key}.jets.select"),
        leading=leading,
        link=_link(value.get("constituents"), f"{key}.constituents"),
        event=event_columns_of(value.get("event"), f"{key}.event"),
        cuts=_texts(value.get("labels"), f"{key}.labels"),
        match={
            str(k): _match(v, f"{key}.match.{k}")
            for k, v in mapping_of(value.get("match"), f"{key}.match").items()
        },
        overlap=_overlap(value.get("overlap"), f"{key}.overlap"),
        beside={
            str(k): _beside(v, f"{key}.collections.{k}")
            for k, v in mapping_of(value.get("collections"), f"{key}.collections").items()
        },
    )


def _family(name: str, key: str) -> str:
    if name not in FAMILIES and name not in ALIASES:
        raise LayoutError(f"unknown layout '{name}'", where=key, mend=did_you_mean(name, names()))
    return name


def _link(value: Any, key: str) -> OwnLink | None:
    if value is None:
        return None
    if isinstance(value, str):
        return OwnLink(value, "")
    value = mapping_of(value, key)
    _known(value, ("collection", "link", "columns"), key)
    if "collection" not in value:
        raise ConfigError(
            "constituents need a collection", where=key, mend="constituents: {collection: PFCands}"
        )
    columns = columns_of(value.get("columns"), f"{key}.columns")
    link = value.get("link")
    if link is None:
        return OwnLink(str(value["collection"]), "", columns=columns)
    if link == "nested":
        return OwnLink(str(value["collection"]), "nested", columns=columns)
    link = {str(k): str(v) for k, v in mapping_of(link, f"{key}.link").items()}
    kinds = {
        "table": ("table", "jet", "index"),
        "element": ("element",),
        "reference": ("reference",),
        "object": ("object", "begin", "end"),
    }
    kind = next((k for k in kinds if k in link), None)
    if kind is None:
        raise ConfigError(
            f"no kind of link among {', '.join(link) or 'nothing'}",
            where=f"{key}.link",
            mend="table (with jet and index), element, reference, object (with begin and end), or 'nested'",
        )
    _known(link, kinds[kind], f"{key}.link")
    return OwnLink(str(value["collection"]), kind, link, columns)


def _beside(value: Any, key: str) -> Beside:
    value = mapping_of(value, key)
    _known(value, ("collection", "link", "dr", "columns"), key)
    if ("link" in value) == ("dr" in value):
        raise ConfigError(
            "a further collection hangs on jets by a link or by a distance",
            where=key,
            mend="{collection: SV, dr: 0.4} or {collection: SV, link: {table: JetSVs, jet: …, index: …}}",
        )
    link = _link({k: v for k, v in value.items() if k != "dr"}, key)
    assert link is not None
    dr = None if "dr" not in value else _distance(value["dr"], key)
    return Beside(link.collection, link, dr, link.columns)


def _match(value: Any, key: str) -> Match:
    value = mapping_of(value, key)
    _known(value, ("particles", "select", "dr", "inside"), key)
    if "particles" not in value:
        raise ConfigError(
            "a match needs `particles`", where=key, mend="match: {top: {particles: GenPart, …}}"
        )
    inside = value.get("inside", 1)
    if isinstance(inside, bool) or not isinstance(inside, int) or inside < 1:
        raise ConfigError(f"inside is {inside!r}", where=f"{key}.inside", mend="give a number from 1 on")
    dr = _distance(value.get("dr", 0.8), key)
    return Match(str(value["particles"]), text_of(value.get("select"), f"{key}.select"), dr, inside)


def _distance(value: Any, key: str) -> float:
    """A distance in eta and phi.

    Raises:
        ConfigError: no number above zero.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"dr is {value!r}", where=f"{key}.dr", mend="give a number above 0")
    return float(value)


def _overlap(value: Any, key: str) -> tuple[Overlap, ...]:
    items = [] if value is None else [value] if isinstance(value, Mapping) else list(value)
    out = []
    for item in items:
        item = mapping_of(item, key)
        _known(item, ("collection", "dr", "select"), key)
        if "collection" not in item or "dr" not in item:
            raise ConfigError("an overlap needs `collection` and `dr`", where=key)
        select = text_of(item.get("select"), f"{key}.select")
        out.append(Overlap(str(item["collection"]), _distance(item["dr"], key), select))
    return tuple(out)


def _texts(value: Any, key: str) -> dict[str, str]:
    return {str(k): str(v) for k, v in mapping_of(value, key).items()}


def _known(value: Mapping[str, Any], keys: Sequence[str], where: str) -> None:
    for name in value:
        if name not in keys:
            raise ConfigError(f"unknown key '{name}'", where=where, mend=did_you_mean(str(name), keys))


EVENT_LAYOUTS = Kind(tuple(names()), is_event_layout, EventLayout.parse)
