"""uproot's own classes of ROOT objects, held against damaged files.

Where a file names a version of a class that does not exist (as one flipped bit does), uproot builds the class
from that file's description and keeps it under the newest version's number, in place of its own, for the rest
of the process: every good file that is opened afterwards is then read by it, and fails. So the versions that
uproot came with are put back before a file is opened.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import uproot


def restore_classes() -> None:
    """Puts back the versions of ROOT classes that uproot came with; others stay."""
    for kind, versions in _own_versions():
        kind.known_versions.update(versions)


@cache
def _own_versions() -> list[tuple[Any, dict[int, Any]]]:
    """uproot's versions of each class: those that are defined in its own modules."""
    found = []
    for kind in uproot.classes.values():
        versions = {
            number: model
            for number, model in getattr(kind, "known_versions", {}).items()
            if model.__module__.startswith("uproot.models.")
        }
        if versions:
            found.append((kind, versions))
    return found


_own_versions()  # before any file could have changed them
