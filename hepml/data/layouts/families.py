"""The register of event layouts, and the search of a tree's branches for jet collections."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hepml.data.layouts import delphes, edm4hep, nanoaod, nested, physlite
from hepml.data.layouts.collections import Candidates, JetCollection
from hepml.errors import LayoutError, did_you_mean

Find = Callable[[Mapping[str, str]], list[JetCollection]]
Recognise = Callable[[Mapping[str, str]], bool]

# in the order in which they are tried
FAMILIES: dict[str, tuple[Recognise, Find]] = {
    "edm4hep": (edm4hep.recognises, edm4hep.find),
    "delphes": (delphes.recognises, delphes.find),
    "physlite": (physlite.recognises, physlite.find),
    "nanoaod": (nanoaod.recognises, nanoaod.find),
    "nested": (nested.recognises, nested.find),
}
ALIASES = {"pfnano": "nanoaod"}  # one reader; the spelling of the link tables is all that differs


def jet_collections(
    branches: Mapping[str, str], family: str | None = None, ids: Mapping[int, str] | None = None
) -> list[JetCollection]:
    """The jet collections of a tree, those of the first layout that recognises it.

    Args:
        branches: branch (sub-branches included) -> type.
        family: name of the layout, where it is known.
        ids: EDM4hep's collection ids, from the file's metadata.

    Raises:
        LayoutError: no such layout.
    """
    if family is not None:
        family = ALIASES.get(family, family)
        if family not in FAMILIES:
            raise LayoutError(f"unknown layout '{family}'", mend=did_you_mean(family, names()))
        tried = [family]
    else:
        tried = [name for name, (recognises, _) in FAMILIES.items() if recognises(branches)]
    for name in tried:
        collections = edm4hep.find(branches, ids) if name == "edm4hep" else FAMILIES[name][1](branches)
        if collections:
            return collections
    return []


def collection_named(family: str, name: str, branches: Mapping[str, str]) -> Candidates | None:
    """A collection by its name, with the units and conventions of a family; None where the family has none
    of its own, or where there is no such collection.

    Args:
        family: name of the layout.
        name: of the collection.
        branches: branch -> type.
    """
    finders = {
        "edm4hep": edm4hep.collection_named,
        "delphes": delphes.collection_named,
        "physlite": physlite.collection_named,
        "nanoaod": nanoaod.collection_named,
    }
    found = finders.get(ALIASES.get(family, family))
    return None if found is None else found(name, branches)


def names() -> list[str]:
    """Names of the event layouts that a user may write."""
    return [*FAMILIES, *ALIASES]
