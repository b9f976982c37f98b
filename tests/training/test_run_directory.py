"""What a run writes about itself is what it was told: its config read again is the config that was
checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepml.config import dump_yaml, parse_yaml
from hepml.models import catalogue
from hepml.training.run_config import RunConfig, load_run_config
from hepml.training.run_directory import CONFIG, RunDirectory

GIVEN = """
data: {{train: jets.root, val: 0.2, weights: {weights}, layout: {layout}, max_jets: null}}
model: {{name: part, max_constituents: null, head: [8]}}
objective: null
training: {{epochs: 3, early_stopping: null, gradient_clip: null, threads: 2}}
tracking: {{enabled: false, name: null}}
output: null
"""


def written(folder: Path, config: RunConfig) -> Path:
    place = RunDirectory(folder / "run")
    place.prepare(resume=False)
    place.write_config(config)
    return place.path / CONFIG


@pytest.mark.parametrize(("weights", "layout"), [("null", "null"), ("false", "{tree: null, label: null}")])
def test_a_runs_config_is_read_again_as_it_was_checked(tmp_path: Path, weights: str, layout: str) -> None:
    source = tmp_path / "given.yaml"
    source.write_text(GIVEN.format(weights=weights, layout=layout))
    config = load_run_config(source)
    again = load_run_config(written(tmp_path, config))
    assert again == config
    assert again.model == {"name": "part", "max_constituents": None, "head": [8]}


def test_a_null_that_was_set_is_written_and_one_that_was_not_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "given.yaml"
    source.write_text(GIVEN.format(weights="null", layout="null"))
    values = parse_yaml(written(tmp_path, load_run_config(source)).read_text(), "config.yaml")
    for block, key in (("data", "max_jets"), ("model", "max_constituents"), ("training", "gradient_clip")):
        assert key in values[block]
        assert values[block][key] is None
    assert "init_from" not in values["training"]
    assert "output" not in values


def test_a_hyperparameter_whose_default_is_not_null_stays_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        catalogue, "_ENTRIES", dict(catalogue._ENTRIES)
    )  # the test's own model is gone after it
    mine = tmp_path / "nullable.py"
    mine.write_text(
        "from torch import nn\n"
        "from hepml.models import register\n"
        "@register('nullable_for_a_test', paper='none')\n"
        "class Nullable(nn.Module):\n"
        "    def __init__(self, outputs: int = 2, depth: int | None = 5) -> None:\n"
        "        super().__init__()\n"
    )
    source = tmp_path / "given.yaml"
    source.write_text(
        f"plugins: ['{mine}']\ndata: {{train: jets.root}}\nmodel: "
        f"{{name: nullable_for_a_test, depth: null}}\n"
    )
    config = load_run_config(source)
    assert load_run_config(written(tmp_path, config)).hyperparameters == {"depth": None}


def test_configs_that_older_runs_wrote_without_nulls_are_read(tmp_path: Path) -> None:
    source = tmp_path / "given.yaml"
    source.write_text("data: {train: jets.root}\nmodel: {name: pfn}\n")
    config = load_run_config(source)
    old = tmp_path / "old.yaml"
    old.write_text(dump_yaml(config.model_dump(mode="json", exclude_none=True)))
    assert load_run_config(old).model_dump(exclude={"name"}) == config.model_dump(exclude={"name"})
