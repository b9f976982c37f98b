"""Efficiency and rejection in bins against counts by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hepml.errors import DataError
from hepml.evaluation import background_rejection
from hepml.evaluation.binned import in_bins
from hepml.evaluation.plots.bins import plot_bins
from hepml.evaluation.plots.style import save


def _jets(jets: int = 6000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(2)
    labels, pt = draw.integers(0, 2, jets), draw.uniform(500, 1000, jets)
    return labels, labels * (pt / 500) + draw.normal(size=jets), pt


def test_bins_are_counts_at_the_cut_of_all_jets() -> None:
    labels, scores, pt = _jets()
    cut = background_rejection(labels, scores, 0.5).threshold
    edges = [500, 600, 800, 1000]
    for entry in in_bins(labels, scores, pt, 0.5, edges=edges):
        jets = (pt >= entry["low"]) & (pt < entry["high"])
        for name, k in (("signal", 1), ("background", 0)):
            members = jets & (labels == k)
            share = (scores[members] >= cut).mean()
            assert entry[f"{name}_jets"] == members.sum()
            assert entry[f"{name}_efficiency"] == pytest.approx(share)
            error = math.sqrt(share * (1 - share) / members.sum())
            assert entry[f"{name}_efficiency_error"] == pytest.approx(error)
        assert entry["rejection"] == pytest.approx(1 / entry["background_efficiency"])


def test_all_jets_are_in_bins_of_equal_numbers_and_the_efficiency_rises_with_pt() -> None:
    labels, scores, pt = _jets()
    found = in_bins(labels, scores, pt, 0.5)
    assert sum(b["signal_jets"] + b["background_jets"] for b in found) == 6000
    assert {b["signal_jets"] + b["background_jets"] for b in found} == {1000}
    efficiencies = [b["signal_efficiency"] for b in found]
    assert efficiencies == sorted(efficiencies)


def test_one_bin_of_all_jets_has_the_rejection_of_all() -> None:
    labels, scores, pt = _jets()
    (whole,) = in_bins(labels, scores, pt, 0.3, edges=[0, 2000])
    assert whole["rejection"] == pytest.approx(background_rejection(labels, scores, 0.3).value)


def test_bins_without_background_that_passes_have_a_limit_and_empty_ones_nothing(tmp_path: Path) -> None:
    labels = np.array([0, 0, 1, 1] * 10)
    found = in_bins(labels, labels + 0.0, np.tile([1.0, 1.0, 1.0, 3.0], 10), 0.5, edges=[0, 2, 4, 6])
    assert found[0]["lower_limit"]
    assert found[0]["rejection"] == pytest.approx(1 / (1 - 0.1 ** (1 / 20)))
    assert found[1]["rejection"] is None
    assert found[2]["signal_efficiency"] is None
    save(plot_bins({"one": found}, "pt"), tmp_path / "bins.png")
    assert (tmp_path / "bins.png").stat().st_size > 1000


def test_values_that_are_no_numbers_are_refused() -> None:
    labels, scores, pt = _jets(10)
    with pytest.raises(DataError, match="finite number"):
        in_bins(labels, scores, np.where(pt > 600, np.nan, pt))
    with pytest.raises(DataError, match="rise"):
        in_bins(labels, scores, pt, edges=[2, 1])


def test_the_command_shows_and_draws_bins_of_jets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import json

    from toys import write_toy_jets

    from hepml.cli.main import main
    from hepml.models import create
    from hepml.training.checkpoints import AtomicCheckpointIO

    model = create("pfn", outputs=2, phi=[8], f=[8])
    content = {
        "state_dict": {f"model.{name}": tensor for name, tensor in model.state_dict().items()},
        "hepml": {"name": "pfn", "hyperparameters": dict(model.hepml_hyperparameters), "layout": "jetclass",
                  "classes": ["label_QCD", "label_Tbqq"]},
    }  # fmt: skip
    AtomicCheckpointIO().save_checkpoint(content, tmp_path / "x.ckpt")
    jets = write_toy_jets(tmp_path / "jets.root", 200)
    words = ["evaluate", str(tmp_path / "x.ckpt"), str(jets), "--bins", "pt=550:600:650,eta", "-q"]
    assert main([*words, "--json", "--plot", str(tmp_path / "roc.png")]) == 0
    (report,) = json.loads(capsys.readouterr().out).values()
    assert [b["low"] for b in report["bins"]["pt"]] == [550, 600]
    assert sum(b["signal_jets"] + b["background_jets"] for b in report["bins"]["eta"]) == 200
    assert (tmp_path / "roc_pt.png").is_file()
    assert (tmp_path / "roc_eta.png").is_file()
    assert main(words) == 0
    assert "ε_B" in capsys.readouterr().out
    assert main([*words[:-2], "mass"]) == 2
