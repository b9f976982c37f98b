"""The TTree of the ROOT files that hepml writes: the branches of JetClass, constituents as lists `part_*`.

`uproot` writes an RNTuple for `file["tree"] = …`; other tools of the field still expect a TTree, hence
`mktree`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TREE = "tree"


def make_tree(file: Any, branches: Mapping[str, Any]) -> Any:
    """An empty tree for branches like these.

    Args:
        file: the ROOT file, open for writing.
        branches: arrays by name, `part` a jagged record of constituents; it is counted by `npart`.
    """
    return file.mktree(
        TREE,
        {name: a.type.content if name == "part" else a.dtype for name, a in branches.items()},
        counter_name=lambda counted: "n" + counted,
        field_name=lambda outer, inner: f"{outer}_{inner}",
    )
