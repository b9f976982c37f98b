"""Side tasks, the mass penalty, masked-particle pretraining: what each learns, reports and leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cloud import cloud
from small_taggers import CASES, seen
from toys import toy_arrays, write_toy_jets

import hepml
from hepml import models
from hepml.data.dataset import JetDataset
from hepml.errors import ConfigError, ModelError
from hepml.packed.segments import rows_in_order
from hepml.training.checkpoints import read_checkpoint
from hepml.training.decorrelation import MOST, Decorrelation, distance_correlation
from hepml.training.pretraining import MaskedParticles, mask
from hepml.training.progress import Progress
from hepml.training.run import train
from hepml.training.run_config import RunConfig
from hepml.training.side_tasks import SideTasks, Task, find_layers

Tiny = Callable[..., RunConfig]
# taggers that keep a row for each constituent, on which pretraining and side tasks rely
CONSTITUENT_ROWS = (
    "dgcnn", "efn", "ensemble", "gat", "gcn", "graph_network", "hamiltonian_cloud", "lloca",
    "lloca_transformer", "lorentznet", "part", "particlenet", "particlenet_lite", "pfn", "residual_cloud",
    "transformer",
)  # fmt: skip
SMALL = "model={name: pfn, phi: [16, 16], f: [16]}"


def test_distance_correlation_is_zero_for_independent_columns_and_one_for_linear_ones() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(800, dtype=torch.float64), torch.rand(800, dtype=torch.float64)
    assert float(distance_correlation(x, 3 * x + 1)) == pytest.approx(1, abs=1e-9)
    assert float(distance_correlation(x, (x - 0.5).square())) > 0.15  # a correlation that is not linear
    assert float(distance_correlation(x, y)) < 0.02
    # a jet of weight two is the same jet twice, one of weight zero is not there
    twice = distance_correlation(torch.cat((x[:200], x[:100])), torch.cat((y[:200], y[:100])))
    weights = torch.cat((torch.full((100,), 2.0), torch.ones(100), torch.zeros(50)))
    torch.testing.assert_close(distance_correlation(x[:250], y[:250], weights), twice, rtol=0.02, atol=1e-4)


def test_the_penalty_is_of_background_jets_from_all_over_a_sorted_file() -> None:
    torch.manual_seed(0)
    apart = Decorrelation("jet_mass", 1.0, (0, 2))
    labels = torch.tensor([0] * (MOST + 10) + [1] * 10 + [2] * (MOST + 10))
    score, mass = torch.rand(len(labels)), torch.rand(len(labels))
    score[labels == 2] = mass[labels == 2]  # the second background alone knows the mass
    assert float(apart.of_jets(score, mass, labels, None)) > 0.1
    assert float(apart.of_jets(score, mass, torch.where(labels == 2, 1, labels), None)) < 0.02


def test_the_penalty_weighs_classes_as_the_likelihood_and_the_validation_do(
    toy_files: dict[str, Path],
) -> None:
    model = models.create("pfn", phi=[8], f=[8], outputs=3)
    jets = JetDataset.open(toy_files["train"], model.inputs).batch(np.arange(60))
    jets = replace(jets, labels=torch.arange(60) % 3)
    scale = torch.tensor([1.0, 1.0, 0.0])  # the second background weighs nothing
    settings = hepml.training.load_run_config("quickstart").training
    settings = settings.model_copy(update={"augment": [], "precision": "32-true", "accumulate": 1})
    head, apart = hepml.objectives.Categorical(3), Decorrelation("jet_mass", 5.0, (0, 2))
    module = hepml.training.TrainingModule(
        model, head, settings, total_steps=1, steps_per_epoch=1, class_scale=scale, apart=apart
    )
    module.trainer = SimpleNamespace(world_size=1)  # type: ignore[assignment]
    first = jets.labels == 0
    score = 1 - model(jets).softmax(dim=1)[:, [0, 2]].sum(dim=1)
    alone = distance_correlation(score[first], jets.select_jets(["jet_mass"])[first, 0])
    nll = (
        torch.nn.functional.cross_entropy(model(jets), jets.labels, reduction="none") * scale[jets.labels]
    ).mean()
    torch.testing.assert_close(module.training_step(jets, 0), nll + 5 * alone, rtol=1e-4, atol=1e-5)


def test_the_penalty_frees_the_background_of_the_mass(tiny: Tiny, tmp_path: Path) -> None:
    words = ("training.epochs=4", "training.learning_rate=0.01", "training.batch_size=200")
    plain = train(tiny(*words), tmp_path / "plain")
    apart = train(tiny(*words, "decorrelate.strength=20"), tmp_path / "apart")
    for run in (plain, apart):  # toy jets are told apart without an error: no background passes
        assert run["test"]["sculpting"]["0.5"]["passing"] >= 0
    history = hepml.open_run(tmp_path / "apart").history()
    assert history["val_distance_correlation"].iloc[-1] < history["val_distance_correlation"].max()
    last = history.iloc[-1]
    total = last["val_likelihood"] + 20 * last["val_distance_correlation"]
    assert last["val_loss"] == pytest.approx(total, rel=1e-6)
    assert 0 <= plain["test"]["calibration"]["ece"] <= 1
    assert plain["test"]["calibration"]["temperature"] > 0


def test_tasks_of_jets_and_constituents_are_learnt_and_told_apart(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(
        "auxiliary.mass={target: jet_mass, weight: 0.5}",
        "auxiliary.origin={target: charge, of: constituent, objective: categorical, classes: 2}",
        "training.epochs=4", "training.learning_rate=0.02",
    )  # fmt: skip
    summary = train(config, tmp_path / "run")
    figures = summary["auxiliary"]["test"]["auxiliary"]
    assert {"loss", "rmse", "bias"} == set(figures["mass"])
    assert 0.5 < figures["origin"]["accuracy"] <= 1  # of charges 0 and 1; -1 is not known
    history = hepml.open_run(tmp_path / "run").history()
    for figure in ("val_mass_loss", "val_mass_rmse", "val_origin_loss"):
        assert history[figure].iloc[-1] < history[figure].iloc[0], figure
    assert {"val_mass_rmse", "val_origin_accuracy", "val_auc"} <= set(history)
    model = hepml.load_model(tmp_path / "run")  # the tagger alone
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]


@pytest.mark.parametrize(
    "name", ["pfn", "particlenet_lite", "lorentznet", "transformer", "part", "pelican_small"]
)
def test_heads_find_their_layers(name: str, toy_files: dict[str, Path]) -> None:
    model = models.create(name)
    jets = JetDataset.open(toy_files["test"], model.inputs).batch(np.arange(6))
    found = find_layers(model, jets, 2)
    assert found["jet"].width == found["jet"].module.in_features
    assert ("constituent" in found) == (name not in ("pelican_small",))


@pytest.mark.parametrize("case", sorted(case for case in CASES if "beams" not in case))
def test_a_constituents_head_reads_the_row_of_its_constituent(case: str) -> None:
    """The jets of a batch in another order, and their constituents in another order, have the same rows."""
    model, jets = seen(case), cloud(seed=11)
    found = find_layers(model, jets.slice(0, 6), 2)
    if "constituent" not in found:
        assert CASES[case][0] not in CONSTITUENT_ROWS or "mlp" in case
        return
    task = Task("of_each", "pt", "constituent", hepml.objectives.Gaussian(), 1.0)
    side = SideTasks(model, [task], jets.slice(0, 6), 2).double()
    order = torch.tensor([6, 0, 4, 2, 7, 1, 3, 5])
    keys = torch.rand(len(jets.four_momenta), generator=torch.Generator().manual_seed(1))
    within = torch.argsort(keys + jets.jet_of)  # shuffled inside each jet
    shuffled, rows = jets.permute(within), []
    with torch.no_grad():
        for batch in (jets, shuffled.take(order)):
            model(batch)
            rows.append(side.parameters_of(task))
    expected = rows[0][within][rows_in_order(jets.offsets, order)[0]]
    torch.testing.assert_close(rows[1], expected, rtol=1e-7, atol=1e-9)


def test_hiding_keeps_directions_and_the_scalar_sum(toy_files: dict[str, Path]) -> None:
    jets = JetDataset.open(toy_files["test"], models.create("pfn").inputs).batch(np.arange(50))
    hidden, chosen, target = mask(jets, 0.3, torch.Generator().manual_seed(0))
    p, q = jets.four_momenta, hidden.four_momenta
    assert 0.2 < float(chosen.float().mean()) < 0.4
    torch.testing.assert_close(p[~chosen], q[~chosen])
    unit = [x[chosen, 1:] / x[chosen, 1:].norm(dim=1, keepdim=True) for x in (p, q)]
    torch.testing.assert_close(*unit, rtol=1e-4, atol=1e-5)
    sums = [torch.zeros(50).index_add(0, jets.jet_of, x[:, 1:3].norm(dim=1)) for x in (p, q)]
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-3)
    assert len(target) == int(chosen.sum())
    assert "log_pt" not in hidden.feature_names, "what was hidden is not read from stored features"


def test_a_pretrained_backbone_is_fine_tuned_by_its_run(tiny: Tiny, tmp_path: Path) -> None:
    first = train(tiny("pretraining={masked: 0.4}", "training.epochs=3", SMALL), tmp_path / "first")
    assert first["test"] is None
    history = hepml.open_run(tmp_path / "first").history()
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    weights = hepml.load_model(tmp_path / "first").state_dict()
    run = tmp_path / "tuned"
    train(
        tiny(f"model.pretrained={tmp_path / 'first'}", "training.learning_rate=1e-9", "training.epochs=1"),
        run,
    )
    tuned = hepml.load_model(run).state_dict()
    assert all(torch.allclose(tuned[name], weights[name], atol=1e-4) for name in tuned if "phi" in name)
    with pytest.raises(ConfigError, match="pretraining uses no labels"):
        tiny("pretraining={masked: 0.4}", "decorrelate.strength=1")
    with pytest.raises(ConfigError, match="compile"):
        tiny("auxiliary.mass={target: jet_mass}", "training.compile=true")


def test_a_head_reads_all_pieces_of_a_large_batch(toy_files: dict[str, Path]) -> None:
    model = models.create("pfn", phi=[8], f=[8])
    jets = JetDataset.open(toy_files["train"], model.inputs)
    large = jets.batch(np.tile(np.arange(len(jets)), 2))
    assert len(large.four_momenta) > 4_096  # which `sum_of` takes in pieces
    masked = MaskedParticles(model, jets.batch(np.arange(8)), 2, 0.3)
    model(large)
    (task,) = masked.tasks
    assert len(masked.parameters_of(task)) == len(large.four_momenta)
    masked.loss_of(model, large).backward()
    gradient = next(model.phi.parameters()).grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Toy jets of which a third has no `jet_truth`, and whose few last ones are of a kind of their own; test
    jets without any."""
    folder = tmp_path_factory.mktemp("partial")
    rng, files = np.random.default_rng(0), {}
    for name, jets in {"train": 400, "val": 200, "test": 60}.items():
        truth = rng.normal(100, 10, jets).astype(np.float32)
        truth[:: 1 if name == "test" else 3] = np.nan
        kind = (np.arange(jets) * 2 // jets).astype(np.float32)
        kind[-5:] = 3
        arrays = {**toy_arrays(jets, seed=jets), "jet_truth": truth, "jet_kind": kind}
        files[name] = write_toy_jets(folder / f"{name}.root", arrays=arrays)
    return files


def test_a_jet_without_a_target_is_trained_on_and_counted(
    tiny: Tiny, partial: dict[str, Path], tmp_path: Path
) -> None:
    words = [f"data.{name}={path}" for name, path in partial.items()]
    tasks = (
        "auxiliary.truth={target: jet_truth}",
        "auxiliary.type={target: jet_kind, objective: categorical}",
    )
    lines: list[str] = []
    progress = Progress()
    progress.message = lines.append  # type: ignore[method-assign]
    config = tiny(*words, *tasks, "training.epochs=1", "training.average=0.9")
    summary = train(config, tmp_path / "run", progress=progress)
    assert summary["jets"] == {"train": 400, "val": 200, "test": 60}
    assert any("auxiliary.truth: 134 of 400 training jets have no 'jet_truth'" in line for line in lines)
    figures = summary["auxiliary"]["test"]["auxiliary"]
    assert figures["truth"] == {"without_target": 60}, "nothing is said of what was not measured"
    assert set(figures["type"]) == {"loss", "accuracy"}
    assert summary["validation"]["val_truth_without_target"] == 67
    state = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    heads = {name: tensor for name, tensor in state["state_dict"].items() if name.startswith("side.")}
    assert heads["side.heads.type_.weight"].shape[0] == 4, "one class more than the largest of all jets"
    own = state["hepml_own_heads"]["values"]
    assert any(not torch.equal(own[name.removeprefix("side.")], heads[name]) for name in heads)


def test_hidden_constituents_are_guessed_without_labels_and_nothing_is_predicted(
    tiny: Tiny, tmp_path: Path
) -> None:
    arrays = {name: column for name, column in toy_arrays(90).items() if not name.startswith("label")}
    jets = write_toy_jets(tmp_path / "jets.root", arrays=arrays)
    words = (f"data.train={jets}", "data.val=0.2", "data.test=0.1", "pretraining={masked: 0.3}", SMALL)
    summary = train(tiny(*words, "training.epochs=1"), tmp_path / "run")
    assert summary["jets"] == {"train": 63, "val": 18}, "what tests hold out stays held out"
    with pytest.raises(ModelError, match="outputs have learnt nothing"):
        hepml.predict(tmp_path / "run", str(jets))
    with pytest.raises(ConfigError, match=r"data.class_weights does"):
        tiny(*words, "data.class_weights=equal")
