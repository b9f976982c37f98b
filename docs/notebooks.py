"""The course and the how-tos as executed notebooks, from their Markdown pages, which are the one source.

    python docs/notebooks.py             writes docs/notebooks/*.ipynb with the outputs that the pages quote;
                                         tables and pictures stay if neither code nor quotes have changed
    python docs/notebooks.py --execute   runs them, so that they also hold tables and pictures

The tests run every page and compare what it prints with what it quotes, so that both ways give the same text.
jupytext reads the pages; cells that only a notebook needs are added here.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat.v4 as notebook

DOCS = Path(__file__).resolve().parent
OUT = DOCS / "notebooks"
PAGES = [*sorted((DOCS / "course").glob("[0-9]-*.md")), *sorted((DOCS / "howto").glob("*.md"))]
SETUP = """\
# to the folder that holds data/: a checkout of hepml, from wherever inside it this notebook was opened
import os
from pathlib import Path

while not Path("data/toptag").exists() and Path.cwd() != Path.cwd().parent:
    os.chdir("..")"""
QUOTE = "```text\n"


def convert(page: Path) -> Any:
    """A page as a notebook: its Python blocks are cells, the text that it quotes below one is that one's
    output."""
    read = jupytext.reads(page.read_text(), fmt="md")
    cells: list[Any] = []
    for cell in read.cells:
        source = cell.source
        if (
            cell.cell_type == "markdown"
            and cells
            and cells[-1].cell_type == "code"
            and source.startswith(QUOTE)
        ):
            said, _, source = source.removeprefix(QUOTE).partition("```")
            cells[-1].outputs = [notebook.new_output("stream", name="stdout", text=said)]
            source = source.strip("\n")
        if cell.cell_type == "code":
            cells.append(notebook.new_code_cell(source))
        elif source.strip():
            cells.append(notebook.new_markdown_cell(_relinked(source, page)))
    first = next(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    cells.insert(first, notebook.new_code_cell(SETUP, metadata={"tags": ["setup"]}))
    for number, cell in enumerate(cells):
        # the same for the same page, so that nothing changes in vain
        cell["id"] = f"{page.stem[:40]}-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook.new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )


def execute(made: Any, folder: Path) -> Any:
    """Runs a notebook from a folder."""
    from nbclient import NotebookClient

    NotebookClient(
        made, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in made.cells:
        cell.get("metadata", {}).pop("execution", None)  # times of day
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
    return made


def code_of(made: Any) -> list[str]:
    """The cells of a notebook that come from its page."""
    return [
        c.source for c in made.cells if c.cell_type == "code" and "setup" not in c.metadata.get("tags", [])
    ]


def with_outputs_of(made: Any, path: Path) -> Any:
    """The notebook with the outputs of an executed one, if both have the same code and print the same."""
    if not path.exists():
        return made
    executed = jupytext.read(path)
    cells = [[c for c in n.cells if c.cell_type == "code"] for n in (made, executed)]
    if [(c.source, _printed(c)) for c in cells[0]] == [(c.source, _printed(c)) for c in cells[1]]:
        for new, old in zip(*cells, strict=True):
            new.outputs, new.execution_count = old.outputs, old.execution_count
        made.metadata = executed.metadata
    return made


def _printed(cell: Any) -> str:
    return "".join(out.get("text", "") for out in cell.outputs if out.output_type == "stream")


def write(page: Path, made: Any) -> Path:
    """A notebook into docs/notebooks."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{page.stem}.ipynb"
    nbformat_text = jupytext.writes(made, fmt="ipynb")
    path.write_text(nbformat_text if nbformat_text.endswith("\n") else nbformat_text + "\n")
    return path


def _relinked(text: str, page: Path) -> str:
    """Links between pages that are notebooks lead to notebooks, others to the pages."""
    names = {other.name: other.stem for other in PAGES}
    for name, stem in names.items():
        text = text.replace(f"({name})", f"({stem}.ipynb)").replace(f"(../course/{name})", f"({stem}.ipynb)")
        text = text.replace(f"(../howto/{name})", f"({stem}.ipynb)")
    return text.replace("(README.md)", f"(../{page.parent.name}/README.md)")


def main(words: list[str]) -> None:
    import tempfile

    named = [w for w in words if not w.startswith("-")]
    chosen = [p for p in PAGES if not named or any(w in p.stem for w in named)]
    for page in chosen:
        notebook = convert(page)
        if "--execute" in words:
            with tempfile.TemporaryDirectory() as folder:
                (Path(folder) / "data").symlink_to(DOCS.parent / "data")
                notebook = execute(notebook, Path(folder))
        else:
            notebook = with_outputs_of(notebook, OUT / f"{page.stem}.ipynb")
        print(write(page, notebook))


if __name__ == "__main__":
    main(sys.argv[1:])
