"""Every page of docs/course runs as it stands and prints what it quotes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pages import agrees, run

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "course"
PAGES = sorted(FOLDER.glob("[0-9]-*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_page_runs_and_prints_what_it_quotes(
    page: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    with torch.random.fork_rng():
        ran = run(page)
    assert len(ran) >= 4
    for block in ran:
        assert agrees(block.quoted or "", block.printed), (
            f"{block.code}\nprinted:\n{block.printed}\nquoted:\n{block.quoted}"
        )


def test_the_contents_name_every_page() -> None:
    contents = (FOLDER / "README.md").read_text()
    assert len(PAGES) == 6
    for page in PAGES:
        assert f"({page.name})" in contents


def test_outputs_are_compared_to_the_last_digit_shown() -> None:
    assert agrees("auc 0.912 of 3,000 jets\n", "auc 0.915 of 3,000 jets\n")
    assert not agrees("auc 0.912 of 3,000 jets\n", "auc 0.916 of 3,000 jets\n")
    assert not agrees("auc 0.912 of 3,000 jets\n", "auc 0.912 of 3,001 jets\n")
    assert not agrees("auc 0.912\n", "AUC 0.912\n")
    assert not agrees("1 of 2", "1.0 of 2")
