"""uproot's own classes of ROOT objects, held against damaged files.

Where a file names a version of a class that does not exist (as one flipped bit does), uproot builds the class
from that file's description and keeps it under the newest version's number, in place of its own, for the rest
of the process: every good file that is opened afterwards is then read by it, and fails. So the versions that
uproot came with are put back before a file is opened.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from typing import Any

import uproot


def restore_classes() -> None:
    """Puts back the versions of ROOT classes that uproot came with; others stay."""
    for kind, versions in _own_versions():
        kind.known_versions.update(versions)


@cache
def _own_versions() -> list[tuple[Any, dict[int, Any]]]:
    """uproot's versions of each class, by the names they have in its own modules (`Model_TBranch_v13`)."""
    kinds = []
    for kind in uproot.classes.values():
        if not kind.__module__.startswith("uproot.models."):
            continue
        pattern = re.compile(rf"{re.escape(kind.__name__)}_v(\d+)$")
        models = vars(sys.modules[kind.__module__]).items()
        versions = {int(match[1]): model for name, model in models if (match := pattern.match(name))}
        if versions:
            kinds.append((kind, versions))
    return kinds
