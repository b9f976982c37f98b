"""Damaged files of every kind: read as they were, refused in one line, or damaged where no checksum tells."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos.damage import Format, outcomes
from chaos.formats import FORMATS

QUICK, MANY = 42, 460


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_damaged_files_are_right_or_refused(kind: Format, tmp_path: Path) -> None:
    counts, wrong = outcomes(kind, tmp_path, range(QUICK))
    assert not wrong, "\n".join(wrong)
    assert counts.total() == QUICK


@pytest.mark.chaos
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_many_damaged_files_are_right_or_refused(
    kind: Format, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, wrong = outcomes(kind, tmp_path, range(1_000, 1_000 + MANY))
    told = [str(counts[outcome]) for outcome in ("same", "refused", "payload", "wrong")]
    with capsys.disabled():
        print(f"\n| {kind.name} | {counts.total()} | " + " | ".join(told) + " |")
    assert not wrong, "\n".join(wrong)
