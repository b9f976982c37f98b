"""One entry, one jet: a layout of flat branches must not be laid over a tree of events, whose lists hold
all particles of an event; an event would be read as one jet, and nothing would look wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping

from hepml.data.formats.event_scan import recognises
from hepml.data.reading.layouts import Layout
from hepml.errors import LayoutError

# A list of transverse momenta of jets: FatJet_pt, Jet.PT, AnalysisJetsAuxDyn.pt, ak4_jets_pt.
_JETS = re.compile(r"^(?P<name>(?!.*sub)\w*jets?(?:[^a-z]\w*|auxdyn|aux)?)[._](?:pt|p_?t)$", re.IGNORECASE)


def refuse_events(layout: Layout, branches: Mapping[str, str], where: str) -> None:
    """Refuses a tree that has lists of jets, entry by entry, under a layout of one jet an entry.

    Raises:
        LayoutError: names the collections, and how to read their jets.
    """
    collections = {
        match["name"]
        for name, kind in branches.items()
        if ("[" in kind or "vector<" in kind) and (match := _JETS.match(name))
    }
    if not collections and not recognises(branches):
        return
    known = ", ".join(sorted(collections)[:4]) or "see hepml inspect"
    raise LayoutError(
        f"an entry of this tree is an event with lists of jets ({known}), and the layout '{layout.name}' "
        "would read it as one jet",
        where=where,
        mend="name the jet collection (jets: NAME) and its link to the constituents (docs/data-layouts.md)",
    )
