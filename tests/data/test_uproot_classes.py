"""A damaged file spoils no good file that is read after it."""

from __future__ import annotations

from pathlib import Path

import pytest
import uproot

import hepml


def test_a_class_that_a_damaged_file_left_in_uproot_is_put_back(
    toptag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = uproot.classes["TBranch"].known_versions
    for number in list(versions):  # what uproot does when a file names a version that does not exist
        monkeypatch.setitem(versions, number, uproot.model.UnknownClassVersion)
    assert len(hepml.read_jets(str(toptag / "test.root"), entry_stop=5)) == 5
