"""A model of the user's own, in a file beside the config, trains, is saved and is read back like any
other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import hepml
from hepml.errors import ConfigError, FileError, ModelError
from hepml.models import catalogue
from hepml.training.benchmark.board import gather
from hepml.training.benchmark.plan import plan, prepare
from hepml.training.benchmark.workers import measure
from hepml.training.run import train
from hepml.training.run_config import RunConfig, load_run_config

Tiny = Callable[..., RunConfig]

PLUGIN = '''
import torch
from hepml.data.inputs import Inputs
from hepml.models import register
from hepml.packed.segments import segment_mean

@register("users_own", paper="none", symmetries=("permutation",))
class UsersOwn(torch.nn.Module):
    """A mean and a linear map."""

    def __init__(self, outputs: int = 2, scale: float = 1.0) -> None:
        super().__init__()
        self.inputs = Inputs(("log_pt", "delta_r"))
        self.scale, self.map = scale, torch.nn.Linear(2, outputs)

    def forward(self, batch):
        return self.scale * self.map(segment_mean(batch.select(self.inputs.features), batch.offsets))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)
    yield path
    catalogue._ENTRIES.pop("users_own", None)


def forget() -> None:
    """As in a process that has not imported the plugin."""
    import sys

    catalogue._ENTRIES.pop("users_own", None)
    for name in [n for n in sys.modules if n.startswith("hepml_plugin_mine")]:
        del sys.modules[name]


def test_a_model_in_a_file_of_ones_own_trains_and_is_read_back(
    tiny: Tiny, plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(f"plugins=['{plugin}']", "model={name: users_own, scale: 2.0}", "training.epochs=1")
    train(config, tmp_path / "run")
    forget()
    with pytest.raises(ModelError, match=r"registered by .*mine.py, which is not imported.*HEPML_PLUGINS="):
        hepml.load_model(tmp_path / "run")
    monkeypatch.setenv("HEPML_PLUGINS", str(plugin))
    model = hepml.load_model(tmp_path / "run")
    assert isinstance(model, torch.nn.Module)
    assert model.scale == 2.0


def test_a_benchmark_trains_measures_and_boosts_a_model_of_ones_own(
    toy_files: dict[str, Path], plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a process that has not imported the plugin, and elsewhere; that of the measurements is a real
    one."""
    monkeypatch.chdir(plugin.parent)
    source = tmp_path / "own.yaml"
    source.write_text(
        "plugins: [mine.py]\ndata: "
        f"{{train: {toy_files['train']}, val: {toy_files['val']}, test: {toy_files['test']}}}\n"
        "model: {name: users_own, scale: 2.0}\ntracking: {enabled: false}\n"
        "training: {epochs: 1, batch_size: 50, device: cpu, threads: 1}\n"
    )
    (planned,) = plan([source], tmp_path / "board")
    assert prepare(planned) == "new"
    monkeypatch.chdir(toy_files["train"].parent)
    forget()
    train(load_run_config(planned.config_file), planned.folder)
    forget()
    words = ["--cost", "--betas", "0,0.5", "--seconds", "0.05", "--device", "cpu"]
    measure([planned.folder], words, "boost.json", tmp_path / "measure.log")
    board = gather([tmp_path / "board"])
    (row,), (scan,) = board["taggers"], board["boost"]
    assert not board["remarks"]
    assert row["model"] == "users_own"
    assert row["flops"] == 2 * 2 * 2  # a map from two features to two outputs
    assert 0 < row["training_share_of_matmul"] < 1
    assert scan["accuracy"][0]["mean"] == pytest.approx(row["accuracy"]["mean"])
    assert len(scan["accuracy"]) == 2


def test_hyperparameters_of_a_plugin_are_checked_like_any_other(tiny: Tiny, plugin: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'scale'"):
        tiny(f"plugins=['{plugin}']", "model={name: users_own, scal: 2.0}")


def test_a_plugin_that_is_absent_or_broken_is_named(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no such file .*nowhere\.py"):
        tiny("plugins=['nowhere.py']")
    with pytest.raises(ConfigError, match="No module named 'nowhere_at_all'"):
        tiny("plugins=[nowhere_at_all]")
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"cannot be imported \(ZeroDivisionError"):
        tiny(f"plugins=['{broken}']")
