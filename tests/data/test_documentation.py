"""What docs/data-layouts.md shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from hepml.data.reading.layouts import TRANSFORMS, Layout
from hepml.data.reading.selection import FUNCTIONS


@pytest.fixture
def page(repository: Path) -> str:
    return (repository / "docs" / "data-layouts.md").read_text()


def test_the_python_of_the_page_runs(page, repository, monkeypatch) -> None:
    monkeypatch.chdir(repository)
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict = {}
    exec(code, found)
    assert len(found["dataset"]) == 6000
    assert found["batch"].features.shape[1] == 17


def test_the_layout_of_the_page_parses(page) -> None:
    text, *_ = [
        t for t in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "uds:" in t and t.startswith("data:")
    ]
    layout = Layout.parse(yaml.safe_load(text)["data"]["layout"])
    assert len(layout.constituents) == 2
    assert list(layout.labels) == ["b", "c", "uds", "g"]


def test_the_page_names_every_transform_and_function(page) -> None:
    assert ", ".join(TRANSFORMS) in page
    assert " ".join(FUNCTIONS) in page
