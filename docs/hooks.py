"""What the site adds to the pages, which stay plain Markdown in the repository.

Links to files outside docs/ (configs, data, tests) become links into the repository, where mkdocs.yml names
one in `repo_url`, and plain words otherwise. Pages that are also notebooks get a link to theirs, and below
each block the table or picture that it made when the notebook was executed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).resolve().parent / "notebooks"
BLOCK = re.compile(r"```python\n.*?```\n(?:\n```text\n.*?```\n)?", re.DOTALL)


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """MkDocs' event: a page's text before it is rendered."""
    up = "../" * page.file.src_uri.count("/")
    notebook = NOTEBOOKS / f"{Path(page.file.src_uri).stem}.ipynb"
    if notebook.is_file() and page.file.src_uri.startswith(("course/", "howto/")):
        markdown = with_outputs(markdown, json.loads(notebook.read_text(encoding="utf-8")))
        title, _, rest = markdown.partition("\n")
        markdown = f"{title}\n\n[This page as an executed notebook]({up}notebooks/{notebook.name})\n{rest}"
    outside = re.escape("../" * (page.file.src_uri.count("/") + 1))
    repository = (config.get("repo_url") or "").rstrip("/")
    link = rf"[\1]({repository}/blob/main/\2)" if repository else r"\1"
    return re.sub(rf"(?<!!)\[([^\]]*)\]\({outside}(?!\.\.)([^)\s]+)\)", link, markdown)


def with_outputs(markdown: str, notebook: dict[str, Any]) -> str:
    """The page with the tables and pictures of its notebook below the blocks that made them."""
    cells = [c for c in notebook["cells"] if c["cell_type"] == "code" and "setup" not in _tags(c)]
    blocks = list(BLOCK.finditer(markdown))
    if len(cells) != len(blocks):
        return markdown
    shown = iter(cells)
    return BLOCK.sub(lambda block: block[0] + _outputs(next(shown)), markdown)


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])  # type: ignore[no-any-return]


def _outputs(cell: dict[str, Any]) -> str:
    parts = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        if "image/png" in data:
            code = "".join(data["image/png"]).replace("\n", "")
            parts.append(f'<img alt="what this block draws" src="data:image/png;base64,{code}">')
        elif "text/html" in data:
            lines = [line for line in "".join(data["text/html"]).splitlines() if line.strip()]
            parts.append("\n".join(lines))  # a blank line would end the block of HTML
    return "".join(f"\n{part}\n" for part in parts)
