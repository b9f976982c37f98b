"""Laws are learned, recorded and reported: data sets, objectives, evaluation, the run folder and the
command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hepml.cli.main import main
from hepml.dynamics.evaluation import Reference, energy_report, follow, reference
from hepml.dynamics.fitting import FitSettings, WeightMean, denoised, fit
from hepml.dynamics.integrators import DivergenceError
from hepml.dynamics.networks import network
from hepml.dynamics.systems import Pendulum, Spring, TwoBody
from hepml.dynamics.trajectories import Trajectories, generate
from hepml.errors import ConfigError, DataError, FileError
from hepml.training.dynamics.run import load_dynamics_config, load_network, run_dynamics

QUICK = [
    "tracking.enabled=false",
    "animate=false",
    "data.trajectories=10",
    "evaluation.points=20",
    "evaluation.span=4.0",
]


def spring(noise: float = 0.1) -> tuple[Trajectories, Trajectories]:
    return generate(Spring(), trajectories=30, points=30, span=3.0, noise=noise, seed=1).split(0.5)


def test_split_keeps_trajectories_whole() -> None:
    data = generate(Spring(), trajectories=10, points=7, span=1.0)
    train, test = data.split(0.8, test_first=True)
    assert (len(train), len(test)) == (8, 2)
    assert torch.equal(test.states, data.states[:2])
    early, late = data.split_in_time(0.6)
    assert early.states.shape[1] + late.states.shape[1] == 7
    with pytest.raises(DataError, match="leaves no"):
        data.split(0.99)


def test_denoising_shrinks_the_noise_by_the_root_of_the_number_of_times() -> None:
    clean, noisy = (
        generate(Spring(), trajectories=200, points=30, span=3.0, noise=n, seed=2) for n in (0.0, 0.1)
    )
    left = float((denoised(noisy).states - clean.states).std())
    assert left == pytest.approx(0.1 / 30**0.5, rel=0.15)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("hnn", {"weight_decay": 1e-4}),
        ("mechanical_hnn", {"objective": "denoised", "schedule": "cosine"}),
        ("mechanical_hnn", {"objective": "steps", "method": "verlet", "horizon": 2}),
        ("pair_hnn", {"loss": "relative", "batch_size": 100}),
    ],
)
def test_every_objective_lowers_the_test_loss(name: str, settings: dict) -> None:
    train, test = (
        spring()
        if name != "pair_hnn"
        else generate(TwoBody(), trajectories=20, points=10, span=5.0).split(0.8)
    )
    torch.manual_seed(0)
    net = network(name, train.states.shape[-1], hidden=(32, 32))
    with torch.no_grad():
        x, dx = (t.float() for t in test.points())
        before = float((net(x) - dx).square().mean())
    after = fit(net, train, test, FitSettings(steps=60, learning_rate=1e-2, **settings), seed=0).test_loss
    assert after < 0.5 * before, (before, after)


def test_polishing_finds_the_spring_behind_noisy_states() -> None:
    train, test = spring()
    torch.manual_seed(0)
    net = network("mechanical_hnn", 2, hidden=(16, 16), even=True)
    settings = FitSettings(
        steps=100,
        polish=120,
        every=60,
        objective="denoised",
        schedule="cosine",
        learning_rate=1e-2,
        weight_decay=2e-5,
    )
    found = fit(net, train, test, settings)
    assert [entry["step"] for entry in found.history] == [0, 60, 100, 160, 220]
    assert found.history[-1]["train_loss"] < 1e-6
    assert next(net.parameters()).dtype == torch.float32
    # the noise is 0.1: only exact derivatives, and beginnings that are learned with the law, can be as good
    # as this
    assert float(net.inverse_mass_root.detach().square()) == pytest.approx(2.0, rel=1e-3)
    q = torch.linspace(-1, 1, 21)[:, None]
    assert torch.allclose(net.force(q), -2 * q, atol=2e-2)


def test_averaged_weights_are_the_mean_over_the_end_of_training() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    for share, expected in ((0.5, 3.0), (1.0, 2.0), (0.0, 4.0)):
        mean = WeightMean(layer, 4, share)
        for step in range(5):
            with torch.no_grad():
                layer.weight.fill_(float(step))
            mean.add(step)
        mean.set()
        assert float(layer.weight.detach()) == pytest.approx(expected)


def test_averaging_changes_nothing_but_the_last_weights() -> None:
    train, test = spring()
    nets = []
    for average in (0.0, 0.5):
        torch.manual_seed(0)
        net = network("hnn", 2, hidden=(8, 8))
        history = fit(net, train, test, FitSettings(steps=20, every=10, average=average)).history
        nets.append((net, history))
    assert nets[0][1] == nets[1][1]
    assert not torch.equal(nets[0][0].network[0].weight, nets[1][0].network[0].weight)


def test_true_law_has_no_energy_error_and_a_damped_one_does() -> None:
    class Law(torch.nn.Module):
        def __init__(self, friction: float) -> None:
            super().__init__()
            self.friction = friction

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            dz = Pendulum().field(z)
            return dz - self.friction * z * torch.tensor([0.0, 1.0], dtype=z.dtype)

    truth = reference(Pendulum(), starts="box", trajectories=5, span=10.0, points=20)
    exact, damped = (energy_report(Pendulum(), truth, follow(Law(f), truth)) for f in (0.0, 0.2))
    assert exact["energy_mse"] < 1e-12
    assert damped["energy_mse"] > 1e-2
    states = truth.states + 0.3
    by_hand = (Pendulum().hamiltonian(states) - Pendulum().hamiltonian(truth.states)).square().mean()
    shifted = energy_report(Pendulum(), truth, type(follow(Law(0), truth))(states, 0))
    assert shifted["energy_mse"] == pytest.approx(float(by_hand))


def test_law_that_runs_away_is_counted_not_averaged_away() -> None:
    class Explodes(torch.nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z**3 * (z[..., :1] > 0)

    truth = Reference(
        torch.tensor([[[1.0, 1.0]] * 3, [[-1.0, 1.0]] * 3], dtype=torch.float64), torch.linspace(0, 5, 3)
    )
    found = follow(Explodes(), truth)
    assert found.diverged == 1
    assert energy_report(Spring(), truth, found)["energy_mse"] == float("inf")


def test_loss_that_is_not_finite_ends_training_with_a_mend() -> None:
    train, test = spring()
    with pytest.raises(DivergenceError, match="lower learning_rate"):
        fit(network("mlp", 2), train, test, FitSettings(steps=40, learning_rate=1e30, every=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "derivative"}, "did you mean 'derivatives'"),
        ({"objective": "steps", "method": "rk4", "horizon": 40}, "does not fit trajectories of 30"),
        ({"objective": "steps", "method": "verlet"}, "needs a separable network"),
        ({"schedule": "cosin"}, "schedules: constant, cosine"),
    ],
)
def test_training_settings_that_do_not_fit_are_refused(settings: dict, message: str) -> None:
    train, test = spring()
    with pytest.raises(ConfigError, match=message):
        fit(network("hnn", 2), train, test, FitSettings(steps=1, **settings))


@pytest.mark.parametrize(
    "task", sorted(p.stem for p in (Path(__file__).parents[2] / "configs" / "dynamics").glob("*.yaml"))
)
def test_every_shipped_config_runs(task: str, repository: Path, tmp_path: Path) -> None:
    words = [
        *QUICK,
        "training.steps=2",
        "training.batch_size=8",
        "evaluation.trajectories=2",
        "data.points=6",
    ]
    if task == "real_pendulum":
        words = [w for w in words if "trajectories=10" not in w and "points=6" not in w] + ["data.points=60"]
    config = load_dynamics_config(repository / "configs" / "dynamics" / f"{task}.yaml", words)
    for block in config.models.values():
        if "training" in block:
            block["training"] = {**block["training"], "steps": 2}
            if "polish" in block["training"]:
                block["training"]["polish"] = 2
    if config.evaluation.starts != "test":
        config.evaluation.span = 0.5
    summary = run_dynamics(config, tmp_path / "run")
    assert load_dynamics_config(tmp_path / "run" / "config.yaml") == config, (
        "a run starts again from its own config"
    )
    for label in config.models:
        assert summary[label]["energy_mse"] >= 0, summary[label]
        assert np.isfinite(summary[label]["test_loss"]), summary[label]


def test_command_leaves_a_summary_with_energies_weights_and_plots(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *QUICK,
        "training.steps=20",
        "models.best.training.steps=20",
        "models.best.training.polish=0",
        "animate=true",
    ]
    code = main(
        [
            "dynamics",
            str(repository / "configs/dynamics/spring.yaml"),
            *words,
            "-o",
            str(tmp_path / "run"),
            "--json",
        ]
    )
    assert code == 0
    printed, written = (
        json.loads(capsys.readouterr().out),
        json.loads((tmp_path / "run" / "summary.json").read_text()),
    )
    assert printed["energy_mse"] == written["energy_mse"]
    assert set(written["energy_mse"]) == {"baseline", "hnn", "best"}
    assert written["baseline"]["energy_mse"] > 0
    assert written["published"]["hnn"]["energy_mse"] == 3.8e-4
    for name in ("phase_space.png", "energy.png", "training.png", "vector_field.png", "rollout.gif"):
        assert (tmp_path / "run" / "plots" / name).stat().st_size > 1000
    net = load_network(tmp_path / "run", "hnn")
    assert net(torch.zeros(1, 2)).shape == (1, 2)
    with pytest.raises(FileError, match="did you mean 'hnn'"):
        load_network(tmp_path / "run", "hnnn")


def test_table_has_the_papers_losses_and_energies_beside_ours(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    words = [*QUICK, "training.steps=3", "--only", "hnn", "-o", str(tmp_path / "run"), "-q"]
    assert main(["dynamics", str(repository / "configs/dynamics/spring.yaml"), *words]) == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "hnn (hnn)" in line)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["hnn"]
    wanted = (f"{summary['train_loss']:.2e} (3.7e-02)", f"{summary['test_loss']:.2e} (3.6e-02)", "3.8e-04")
    assert all(cell in row for cell in wanted), row


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("system.name=sprong", "did you mean 'spring'"),
        ("models.hnn.name=hmm", "unknown network 'hmm'"),
        ("models.hnn.hiden=[3]", "did you mean 'hidden'"),
        ("training.stepz=3", "did you mean 'steps'"),
        ("models.hnn.training.stepz=3", "did you mean 'steps'"),
        ("data.points=one", "data.points should be"),
        ("spring", "is not an override"),
    ],
)
def test_command_refuses_what_it_does_not_know_in_one_line(
    word: str, message: str, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        [
            "dynamics",
            str(repository / "configs/dynamics/spring.yaml"),
            *QUICK,
            word,
            "-o",
            str(tmp_path / "run"),
        ]
    )
    said = capsys.readouterr().err.strip()
    assert code == 2
    assert message in said
    assert "\n" not in said
    assert not (tmp_path / "run" / "summary.json").exists()


def test_only_the_named_networks_are_trained(repository: Path) -> None:
    path = repository / "configs/dynamics/spring.yaml"
    assert list(load_dynamics_config(path, only=["hnn"]).models) == ["hnn"]
    with pytest.raises(ConfigError, match="did you mean 'hnn'"):
        load_dynamics_config(path, only=["hnnn"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "label", "bar"),
    [
        ("spring", "hnn", 3.8e-4),
        ("pendulum", "hnn", 2.5e-2),
        ("real_pendulum", "hnn", 1.4e-2),
        ("two_body", "hnn_averaged", 3.9e-5),
        ("three_body", "hnn", 4.2e-2),
        ("pixels", "hnn_by_frame", 1.5e-4),
    ],
)
def test_hnn_conserves_energy_as_published_and_the_best_variant_ten_times_better(
    task: str, label: str, bar: float, repository: Path, tmp_path: Path
) -> None:
    path, quiet = (
        repository / "configs" / "dynamics" / f"{task}.yaml",
        ["tracking.enabled=false", "animate=false"],
    )
    energy = run_dynamics(load_dynamics_config(path, quiet, only=[label, "best"]), tmp_path / "run")[
        "energy_mse"
    ]
    assert energy[label] <= bar
    assert energy["best"] <= bar / 10


@pytest.mark.slow
@pytest.mark.parametrize("task", ["spring", "pendulum", "fodo"])
def test_baseline_conserves_energy_three_times_worse_than_the_hnn(
    task: str, repository: Path, tmp_path: Path
) -> None:
    path, quiet = (
        repository / "configs" / "dynamics" / f"{task}.yaml",
        ["tracking.enabled=false", "animate=false"],
    )
    energy = run_dynamics(load_dynamics_config(path, quiet, only=["baseline", "hnn"]), tmp_path / "run")[
        "energy_mse"
    ]
    assert energy["baseline"] > 3 * energy["hnn"]
