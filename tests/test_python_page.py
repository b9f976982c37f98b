"""docs/python.md: its blocks run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest


# Lightning's hints to whoever drives it, and what it says of itself
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_blocks_of_the_python_page_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").symlink_to(repository / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hepml.training.reporting.draw_figures", lambda *anything: None)
    blocks = re.findall(r"```python\n(.*?)```", (repository / "docs" / "python.md").read_text(), re.DOTALL)
    assert len(blocks) >= 4
    loop = next(block for block in blocks if "optimizer" in block)
    assert len(loop.splitlines()) <= 20
    space: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), space)
    assert len(space["probabilities"]) == len(space["jets"])  # type: ignore[arg-type]
