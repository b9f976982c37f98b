"""Every page of docs/course and docs/howto runs as it stands, prints what it quotes, and is a notebook."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pages import agrees, run

DOCS = Path(__file__).resolve().parents[2] / "docs"
FOLDER = DOCS / "course"
PAGES = sorted(FOLDER.glob("[0-9]-*.md"))
HOWTOS = sorted((DOCS / "howto").glob("*.md"))
NOTEBOOKS = DOCS / "notebooks"


# one page exports to ONNX, which takes as long as all others together
RUN = [
    pytest.param(p, marks=pytest.mark.slow if p.stem == "root-to-tagger" else ()) for p in (*PAGES, *HOWTOS)
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("page", RUN, ids=lambda p: p.stem)
def test_the_page_runs_and_prints_what_it_quotes(
    page: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(repository / "data")
    monkeypatch.chdir(tmp_path)
    if page in HOWTOS:  # their own figures are drawn; those of a run folder have tests of their own
        monkeypatch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
    with torch.random.fork_rng():
        ran = run(page)
    assert len(ran) >= 4
    for block in ran:
        assert agrees(block.quoted or "", block.printed), (
            f"{block.code}\nprinted:\n{block.printed}\nquoted:\n{block.quoted}"
        )


def test_the_contents_name_every_page() -> None:
    contents = (FOLDER / "README.md").read_text()
    assert (len(PAGES), len(HOWTOS)) == (6, 3)
    for page in PAGES:
        assert f"({page.name})" in contents


def test_the_first_how_to_has_ten_cells() -> None:
    page = DOCS / "howto" / "root-to-tagger.md"
    assert page.read_text().count("```python\n") == 10


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """docs/notebooks.py."""
    pytest.importorskip("jupytext")
    spec = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [*PAGES, *HOWTOS], ids=lambda p: p.stem)
def test_the_notebook_is_made_from_its_page_and_holds_its_outputs(page: Path, tool: ModuleType) -> None:
    path = NOTEBOOKS / f"{page.stem}.ipynb"
    kept, made = tool.jupytext.read(path), tool.convert(page)
    assert [(c.cell_type, c.source) for c in kept.cells] == [(c.cell_type, c.source) for c in made.cells], (
        f"python docs/notebooks.py {page.stem}"
    )
    for old, new in zip(kept.cells, made.cells, strict=True):
        if new.cell_type == "code":
            assert agrees(_said(new), _said(old)), "nox -s notebooks"
    assert path.stat().st_size < 400_000
    if page in HOWTOS:
        assert any("image/png" in out.get("data", {}) for c in kept.cells for out in c.get("outputs", []))


@pytest.mark.slow
@pytest.mark.parametrize("page", [*PAGES, *HOWTOS], ids=lambda p: p.stem)
def test_the_notebook_executes(page: Path, tool: ModuleType, repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    (tmp_path / "data").symlink_to(repository / "data")
    made = tool.execute(tool.convert(page), tmp_path)
    assert all(c.execution_count for c in made.cells if c.cell_type == "code")


def test_outputs_stay_where_only_words_change(tool: ModuleType) -> None:
    page = DOCS / "howto" / "root-to-tagger.md"
    made = tool.convert(page)
    kept = tool.with_outputs_of(made, NOTEBOOKS / f"{page.stem}.ipynb")
    pictures = [out for c in kept.cells for out in c.get("outputs", []) if "image/png" in out.get("data", {})]
    assert pictures
    changed = tool.convert(page)
    changed.cells[-2].source += "\nprint(1)"
    assert changed.cells[-2].cell_type == "code"
    again = tool.with_outputs_of(changed, NOTEBOOKS / f"{page.stem}.ipynb")
    assert not any("data" in out for c in again.cells for out in c.get("outputs", []))


def _said(cell: object) -> str:
    outputs = cell.get("outputs", [])  # type: ignore[attr-defined]
    return "".join(out.get("text", "") for out in outputs if out.get("output_type") == "stream")


def test_outputs_are_compared_to_the_last_digit_shown() -> None:
    assert agrees("auc 0.912 of 3,000 jets\n", "auc 0.915 of 3,000 jets\n")
    assert not agrees("auc 0.912 of 3,000 jets\n", "auc 0.916 of 3,000 jets\n")
    assert not agrees("auc 0.912 of 3,000 jets\n", "auc 0.912 of 3,001 jets\n")
    assert not agrees("auc 0.912\n", "AUC 0.912\n")
    assert not agrees("1 of 2", "1.0 of 2")
