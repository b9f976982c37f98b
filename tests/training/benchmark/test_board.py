"""The leaderboard says what the runs' own scores say: means, spreads, ensembles; beside the published
figures; in every form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hepml.errors import FileError
from hepml.evaluation.report import evaluate
from hepml.training.benchmark.board import _report, gather, scores_of
from hepml.training.benchmark.tables import cell, markdown, rich_tables
from hepml.training.benchmark.writing import figures, write

RNG = np.random.default_rng(8)
LABELS = RNG.integers(0, 2, 2000)
OTHER = RNG.integers(0, 2, 300)


def scores(labels: np.ndarray, separation: float) -> np.ndarray:
    return (1 / (1 + np.exp(-RNG.normal(separation * (2 * labels - 1), 1.0)))).astype(np.float32)


@pytest.fixture
def board_folder(tmp_path: Path, finished: Callable[..., Path]) -> Path:
    for label, model, separation in (("weak", "efn", 0.8), ("strong", "pfn", 1.6)):
        for seed in (1, 2, 3):
            sets = {"toys": (LABELS, scores(LABELS, separation)), "real": (OTHER, scores(OTHER, separation))}
            finished(tmp_path / "runs" / label / f"seed_{seed}", label, seed, sets, model=model)
    return tmp_path


def test_rows_are_means_and_spreads_over_seeds_in_the_order_of_auc(board_folder: Path) -> None:
    board = gather([board_folder])
    assert [row["label"] for row in board["taggers"]] == ["strong", "weak"]
    assert board["tests"] == ["toys", "real"]
    row = board["taggers"][0]
    own = []
    for seed in (1, 2, 3):
        with np.load(board_folder / "runs" / "strong" / f"seed_{seed}" / "scores" / "toys.npz") as arrays:
            own.append(evaluate(arrays["labels"], arrays["pfn"]))
    assert row["auc"]["mean"] == pytest.approx(np.mean([r["auc"] for r in own]))
    assert row["auc"]["std"] == pytest.approx(np.std([r["auc"] for r in own], ddof=1))
    assert row["rejection"]["0.3"]["mean"] == pytest.approx(
        np.mean([r["rejection"]["0.3"]["value"] for r in own])
    )
    assert set(row["tests"]) == {"toys", "real"}
    assert row["published"]["name"] == "PFN"


def test_copies_that_mlflow_keeps_are_no_runs(board_folder: Path, finished: Callable[..., Path]) -> None:
    finished(
        board_folder / "mlruns" / "1" / "abc" / "artifacts",
        "strong",
        9,
        {"toys": (LABELS, scores(LABELS, 1.0))},
    )
    assert gather([board_folder])["taggers"][0]["seeds"] == [1, 2, 3]


def test_ensembles_are_the_mean_and_median_of_the_scores_jet_by_jet(board_folder: Path) -> None:
    row = gather([board_folder])["taggers"][0]
    stacked = []
    for seed in (1, 2, 3):
        with np.load(board_folder / "runs" / "strong" / f"seed_{seed}" / "scores" / "toys.npz") as arrays:
            stacked.append(arrays["pfn"].astype(np.float64))
    for way, combine in (("mean", np.mean), ("median", np.median)):
        expected = evaluate(LABELS, combine(stacked, axis=0))
        assert row["ensemble"]["toys"][way]["auc"] == pytest.approx(expected["auc"], abs=1e-12)
        assert row["ensemble"]["toys"][way]["auc"] > row["auc"]["mean"] + 3 * row["auc"]["std"], (
            "an ensemble is better"
        )
    assert np.array_equal(scores_of(row)[1], np.mean(stacked, axis=0))


def test_seeds_tested_on_different_jets_have_no_ensemble_and_it_is_said(
    tmp_path: Path, finished: Callable[..., Path]
) -> None:
    finished(tmp_path / "a", "pfn", 1, {"toys": (LABELS, scores(LABELS, 1.0))})
    finished(tmp_path / "b", "pfn", 2, {"toys": (1 - LABELS, scores(1 - LABELS, 1.0))})
    board = gather([tmp_path])
    assert board["taggers"][0]["ensemble"] == {}
    assert any("different jets" in remark for remark in board["remarks"])


def test_test_jets_that_some_seeds_lack_are_averaged_over_the_others_and_it_is_said(
    tmp_path: Path, finished: Callable[..., Path]
) -> None:
    toys = (LABELS, scores(LABELS, 1.0))
    finished(tmp_path / "a", "pfn", 1, {"toys": toys})
    for seed in (2, 3):
        finished(tmp_path / str(seed), "pfn", seed, {"toys": toys, "reference": toys})
    board = gather([tmp_path])
    assert board["tests"] == ["toys", "reference"]
    assert len(board["taggers"][0]["tests"]["reference"]["auc"]["values"]) == 2
    assert "pfn: only 2 of 3 runs were tested on reference" in board["remarks"]


def test_a_seed_that_was_tested_in_another_order_keeps_its_figures_apart(
    tmp_path: Path, finished: Callable[..., Path]
) -> None:
    toys, reference = (LABELS, scores(LABELS, 1.0)), (LABELS, scores(LABELS, 2.0))
    finished(tmp_path / "a", "pfn", 1, {"toys": toys, "reference": reference})
    finished(tmp_path / "b", "pfn", 2, {"reference": reference, "toys": toys})
    (row,) = gather([tmp_path])["taggers"]
    for name, (y, s) in {"toys": toys, "reference": reference}.items():
        assert row["tests"][name]["auc"]["values"] == pytest.approx([evaluate(y, s)["auc"]] * 2)
    assert row["auc"] == row["tests"]["toys"]["auc"]


def test_a_run_without_a_result_is_named_with_its_reason_and_costs_no_row(board_folder: Path) -> None:
    for name, problem in (("seed_4", '{"problem": "out of memory"}'), ("seed_5", "{}")):
        bad = board_folder / "runs" / "weak" / name
        bad.mkdir()
        (bad / "benchmark.json").write_text(json.dumps({"label": "weak", "seed": int(name[-1]), "share": 1}))
        (bad / "failed.json").write_text(problem)
    board = gather([board_folder])
    assert board["failed"] == {"weak seed 4": "out of memory", "weak seed 5": "has not finished"}
    assert [len(row["seeds"]) for row in board["taggers"]] == [3, 3]
    assert "out of memory" in markdown(board)


def test_one_seed_shows_the_error_of_its_test_jets(tmp_path: Path, finished: Callable[..., Path]) -> None:
    finished(tmp_path / "a", "pfn", 1, {"toys": (LABELS, scores(LABELS, 1.0))})
    row = gather([tmp_path])["taggers"][0]
    report = json.loads((tmp_path / "a" / "summary.json").read_text())["test"]
    assert row["auc"]["std"] is None
    assert row["auc"]["error"] == report["auc_error"]
    assert "single seed" in markdown(gather([tmp_path]))


def test_a_rejection_that_is_a_limit_is_shown_as_one() -> None:
    assert cell({"mean": 52.6, "std": 10.0, "lower_limit": True}) == "> 52.6"
    assert cell({"mean": 891.0, "std": 18.0, "lower_limit": False}) == "891 ± 18"
    assert cell(None) == cell({"mean": None, "std": None}) == "—"


def test_shares_of_the_jets_make_a_table_of_their_own(
    board_folder: Path, finished: Callable[..., Path]
) -> None:
    for seed in (1, 2):
        folder = board_folder / "runs" / "strong" / "share_0.05" / f"seed_{seed}"
        finished(folder, "strong", seed, {"toys": (LABELS, scores(LABELS, 1.0))}, share=0.05)
    board = gather([board_folder])
    (row,) = board["fractions"]
    assert [(p["share"], p["train"]) for p in row["points"]] == [(0.05, 50), (1.0, 1000)]
    assert row["points"][0]["auc"]["mean"] < row["points"][1]["auc"]["mean"]
    assert board["taggers"][0]["seeds"] == [1, 2, 3], "a share is no seed of the whole"
    assert "AUC at 5 %" in markdown(board)
    assert set(figures(board)) == {"roc", "parameters", "fractions", "fractions_rejection"}


def test_boost_scans_are_averaged_over_seeds(board_folder: Path) -> None:
    for seed, accuracy in ((1, 0.9), (2, 0.8)):
        scan = {"betas": [0, 0.9], "accuracy": [accuracy, 0.5], "auc": [0.9, 0.5], "jets": 100}
        (board_folder / "runs" / "weak" / f"seed_{seed}" / "boost.json").write_text(json.dumps(scan))
    board = gather([board_folder])
    (row,) = board["boost"]
    assert row["accuracy"][0]["mean"] == pytest.approx(0.85)
    assert row["accuracy"][0]["std"] == pytest.approx(0.0707, abs=1e-3)
    assert "| weak | 0.8500 | 0.5000 |" in markdown(board)
    assert "boost" in figures(board)


def test_markdown_and_terminal_say_the_same_and_nothing_is_cut(board_folder: Path) -> None:
    cost = {
        "flops": 742.9e6,
        "constituents": 45.2,
        "training_jets_per_second": 33.0,
        "inference_jets_per_second": 150.0,
    }
    (board_folder / "runs" / "strong" / "seed_1" / "cost.json").write_text(
        json.dumps({**cost, "device": "one CPU thread"})
    )
    board = gather([board_folder])
    page = markdown(board, command="hepml benchmark a.yaml")
    console = Console(width=220, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in rich_tables(board):
        console.print(table)
    shown = console.export_text()
    cells = [
        c.strip()
        for line in page.splitlines()
        if line.startswith("|") and "---" not in line
        for c in line.split("|")
    ]
    assert len(cells) > 60
    for text in cells:
        assert text in shown, text
    assert "743" in page
    assert "» PFN, arXiv:1902.09914" in page
    assert "hepml benchmark a.yaml" in page


def test_the_share_of_the_matmul_rate_counts_a_training_step_as_three_passes(board_folder: Path) -> None:
    cost = {
        "flops": 2e6,
        "training_jets_per_second": 5e3,
        "inference_jets_per_second": 2e4,
        "constituents": 45.0,
    }
    file = board_folder / "runs" / "strong" / "seed_1" / "cost.json"
    file.write_text(json.dumps({**cost, "matmul_flop_per_second": 1e11, "matmul_dtype": "float32"}))
    board = gather([board_folder])
    row = next(r for r in board["taggers"] if r["label"] == "strong")
    assert row["training_share_of_matmul"] == pytest.approx(0.3)
    assert row["inference_share_of_matmul"] == pytest.approx(0.4)
    assert "| 30 % / 40 % |" in markdown(board)
    file.write_text(json.dumps(cost))  # as older versions wrote it
    old = gather([board_folder])
    assert next(r for r in old["taggers"] if r["label"] == "strong")["training_share_of_matmul"] is None
    assert "2 |" in markdown(old)
    assert "30 % / 40 %" not in markdown(old)


def test_everything_is_written_with_its_figures(board_folder: Path) -> None:
    (board_folder / "runs" / "strong" / "seed_1" / "cost.json").write_text(json.dumps({"flops": 1e6}))
    files = write(gather([board_folder]), board_folder, command=None)
    assert {f.name for f in files} == {
        "leaderboard.json",
        "leaderboard.md",
        "roc.png",
        "cost.png",
        "parameters.png",
    }
    assert all(f.stat().st_size > 500 for f in files)
    again = json.loads((board_folder / "leaderboard.json").read_text())
    assert again["taggers"][0]["auc"] == gather([board_folder])["taggers"][0]["auc"]


def test_a_folder_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no run here"):
        gather([tmp_path])


def test_rejections_are_averaged_as_efficiencies() -> None:
    draw = np.random.default_rng(1)
    jets, true = 10_000, 1 / 2000
    rejections = [
        {"rejection": {"0.3": {"value": jets / max(k, 1), "error": 900.0}}, "accuracy": 0.9, "auc": 0.95}
        for k in draw.poisson(jets * true, 400)
    ]
    found = _report(rejections)["rejection"]["0.3"]
    assert float(np.mean(found["values"])) > 1.2 * 2000  # what a mean of 1/eps_B would claim
    assert found["mean"] == pytest.approx(2000, rel=0.06)
    assert found["std"] == pytest.approx(2000 / np.sqrt(5), rel=0.15)


def test_the_board_shows_the_error_of_the_jets_and_the_spread_of_seeds_apart(
    tmp_path: Path, finished: Callable[..., Path]
) -> None:
    for seed in (1, 2):
        finished(tmp_path / f"a{seed}", "pfn", seed, {"toys": (LABELS, scores(LABELS, 1.0 + 0.1 * seed))})
        finished(tmp_path / f"b{seed}", "efn", seed, {"toys": (LABELS, scores(LABELS, 0.8 + 0.1 * seed))})
    board = gather([tmp_path])
    row = board["taggers"][0]
    assert row["auc"]["error"] > 0
    assert row["auc"]["std"] is not None
    page = markdown(board)
    assert "| AUC | over seeds |" in page
    assert "statistical error of the test jets" in page
    (paired,) = board["paired"]
    assert {paired["first"], paired["second"]} == {"pfn", "efn"}
    assert 0 <= paired["auc"]["p_value"] <= 1
    assert "against the others on the same jets" in page
