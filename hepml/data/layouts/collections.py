"""The vocabulary of event layouts: jet collections, candidate collections, and the five kinds of link
between them, all in names of branches."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hepml.data.reading.columns import Column
from hepml.data.reading.event_numbers import usual_branches


@dataclass(frozen=True)
class TableLink:
    """An index table: branches with the number of the jet and of the candidate in the event, one row a
    link.

    Args:
        into: the collection that the candidates' numbers are of, where the file does not keep it.
    """

    jet: str
    index: str
    into: str | None = None


@dataclass(frozen=True)
class ElementLink:
    """A branch of element links, one list a jet.

    Args:
        branch: the branch, or the stem of its split parts `m_persKey` and `m_persIndex`.
        containers: key -> name of a candidate collection that the file keeps.
        names: key -> name of containers that are known to exist but not kept.
    """

    branch: str
    containers: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReferenceLink:
    """A branch of TRefArrays, one a jet."""

    branch: str


@dataclass(frozen=True)
class ObjectLink:
    """Ranges of a relation: branches with a jet's first and last row, and of the relation's rows.

    Args:
        containers: collection id -> name of a candidate collection that the file keeps.
        names: collection id -> name, for collections that it does not keep.
    """

    begin: str
    end: str
    index: str
    collection: str
    containers: Mapping[int, str] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class NestedLists:
    """The constituents' branches are lists within the jets' lists."""


Link = TableLink | ElementLink | ReferenceLink | ObjectLink | NestedLists


@dataclass(frozen=True)
class Candidates:
    """One collection of candidates.

    Args:
        name: what the file calls it.
        columns: canonical name (`hepml.data.features.RAW_COLUMNS`, or what `derive` needs) -> branch.
        derive: names in `hepml.data.layouts.derived.DERIVED`, applied after reading.
        further: short name -> branch, read only when asked for by name.
        ids: branch of unique ids, where links are references.
        truth: generator particles.
    """

    name: str
    columns: Mapping[str, Column]
    derive: tuple[str, ...] = ()
    further: Mapping[str, Column] = field(default_factory=dict)
    ids: str | None = None
    truth: bool = False


@dataclass(frozen=True)
class JetCollection:
    """One collection of jets.

    Args:
        name: what the file calls it.
        layout: the family it was recognised by.
        momentum: the jet's own momentum: pt, eta, phi and mass or energy, or px, py, pz and energy or mass.
        columns: branch -> short name, one number a jet each.
        candidates: the collections that its links may lead to; none where the file has no link.
        link: how they are found; None where the file has no link.
        radius: of the jet algorithm, where the name tells.
        truth: generator jets; never taken unless named.
        unit: what momenta are multiplied by to be GeV.
        event: column name -> branch, one number an event.
        labels: class name -> expression on the jet's columns.
        raw: column of the share by which a calibration has changed the momentum (`rawFactor`).
    """

    name: str
    layout: str
    momentum: Mapping[str, Column]
    columns: Mapping[str, str] = field(default_factory=dict)
    candidates: tuple[Candidates, ...] = ()
    link: Link | None = None
    radius: float | None = None
    truth: bool = False
    unit: float = 1.0
    event: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    raw: str | None = None

    @property
    def sources(self) -> tuple[Candidates, ...]:
        """The candidates whose columns constituents have, wherever the links of an event lead; generator
        particles count for generator jets, and where there are no others."""
        return tuple(c for c in self.candidates if self.truth or not c.truth) or self.candidates

    def with_(self, **changes: object) -> JetCollection:
        """The same with these fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]


def event_branches(branches: Mapping[str, str]) -> dict[str, str]:
    """Run, luminosity block, event number and generator weight under their usual names: name -> branch of one
    number an event."""
    numbers = [name for name, kind in branches.items() if _is_number(kind)]
    weight = {"genWeight": "genWeight"} if "genWeight" in numbers else {}
    return usual_branches(numbers) | weight


_RADIUS = (
    (re.compile(r"(?:AK|[Kk]t|CA|Kt)(\d{1,2})"), 10.0),
    (re.compile(r"Jets?(\d{2})(?!\d)"), 10.0),
)


def radius_of(name: str) -> float | None:
    """The radius that a collection's name tells: AK8, AntiKt10, Jet15, FatJet, LargeR …; 0.4 for a plain
    `Jet`."""
    for pattern, scale in _RADIUS:
        if match := pattern.search(name):
            return int(match[1]) / scale
    if re.search(r"Fat|LargeR|Large", name):
        return 1.0 if "Large" in name else 0.8
    return 0.4 if "Jet" in name or "jet" in name else None


_NUMBER = r"(?:std::)?(?:float|double|bool|u?int(?:8|16|32|64)(?:_t)?|(?:unsigned )?(?:int|char|short|long))"
_LIST = re.compile(
    rf"^(?:{_NUMBER}(?:\[\])+|(?:std::)?vector<{_NUMBER} ?>|(?:std::)?vector<std::{_NUMBER} ?>)$"
)
_NESTED = re.compile(rf"^(?:std::)?vector<(?:std::)?vector<{_NUMBER} ?> ?>$|^{_NUMBER}\[\]\[\]$")


def _is_number(kind: str) -> bool:
    """Whether a branch of this type holds one number an entry."""
    return bool(re.fullmatch(_NUMBER, kind))


def is_list(kind: str) -> bool:
    """Whether a branch of this type holds one list of numbers an entry."""
    return bool(_LIST.match(kind)) and not kind.endswith("[][]")


def is_nested(kind: str) -> bool:
    """Whether it holds lists of lists of numbers."""
    return bool(_NESTED.match(kind))


def list_columns(branches: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Branches of a collection with one number an object: branch -> name without the prefix."""
    return {
        name: name[len(prefix) :]
        for name, kind in branches.items()
        if name.startswith(prefix) and len(name) > len(prefix) and is_list(kind)
    }
